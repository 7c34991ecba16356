"""What snapshots of custom volumes are with each of LXD's storage drivers. Pure.

Read in LXD's source (``lxd/storage/drivers/driver_*_volumes.go``, 5.0 to 6.x); those of ``dir`` and
``btrfs`` are tested on a real LXD, too. Whatever the driver, LXD restores a volume only while nothing
that uses it runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lxdocker_lxd.lxd.resources import StoragePool, Volume

_TRUE = frozenset({"true", "1", "yes", "on"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRules:
    """What a driver does.

    ``copies``: a snapshot is a copy of all files and takes as much room and time; else it shares what
    doesn't change. ``restore_copies``: only restoring copies. ``only_newest``: LXD refuses to restore
    a snapshot that isn't the volume's newest one, and one from before the volume was copied.
    ``removes_newer``: it removes the newer ones then.
    """

    copies: bool = False
    restore_copies: bool = False
    only_newest: bool = False
    removes_newer: bool = False


_RULES: Mapping[str, SnapshotRules] = {
    # rsync there and back, with --delete.
    "dir": SnapshotRules(copies=True, restore_copies=True),
    # A read-only subvolume; restored by a writable snapshot of it that takes the volume's place.
    "btrfs": SnapshotRules(),
    # `zfs rollback`, which the newer snapshots forbid.
    "zfs": SnapshotRules(only_newest=True),
    # With a thin pool, which is the default; see ``snapshot_rules`` for the other kind.
    "lvm": SnapshotRules(),
    # `rbd snap rollback` writes back what changed.
    "ceph": SnapshotRules(restore_copies=True),
    # A directory below .snap; restored by rsync.
    "cephfs": SnapshotRules(restore_copies=True),
    # The storage array overwrites the volume by its snapshot.
    "powerflex": SnapshotRules(),
    "powerstore": SnapshotRules(),
    "pure": SnapshotRules(),
    "alletra": SnapshotRules(),
}


def snapshot_rules(pool: StoragePool, volume: Volume | None = None) -> SnapshotRules | None:
    """Return what snapshots of a volume are in a pool; None for a driver that isn't known here."""
    rules = _RULES.get(pool.driver)
    if rules is None:
        return None
    if pool.driver == "lvm" and _is_false(pool.config.get("lvm.use_thinpool", "")):
        return replace(rules, restore_copies=True)
    if rules.only_newest:
        own = volume.config if volume is not None else {}
        pools = pool.config.get("volume.zfs.remove_snapshots", "")
        removes = own.get("zfs.remove_snapshots", pools).lower() in _TRUE
        return replace(rules, removes_newer=removes)
    return rules


def _is_false(value: str) -> bool:
    return value.lower() in {"false", "0", "no", "off"}
