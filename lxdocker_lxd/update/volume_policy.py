"""Which volumes of an instance an update snapshots, and why it may not. Pure.

The key asks for it. A volume that others use as well could not be given its old content back below
them, and each storage driver has rules of its own (``storage_drivers``): what can't be undone later
is refused before anything is stopped.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from lxdocker_lxd.lxd.paths import instances_of
from lxdocker_lxd.lxd.records import Config, Devices
from lxdocker_lxd.lxd.resources import StoragePool, Volume
from lxdocker_lxd.lxd.storage_drivers import snapshot_rules
from lxdocker_lxd.update.transaction import VolumeName

VOLUMES_KEY = "user.lxdocker.update.volumes"
SNAPSHOT = "snapshot"
_SCHEDULE = "snapshots.schedule"

Key = tuple[str, str]
"""Project and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MountedVolume:
    """A custom volume that an instance may write to, and a path at which it has it."""

    volume: VolumeName
    path: str


def wants_snapshots(config: Config) -> bool:
    """Whether expanded configuration asks for snapshots."""
    return config.get(VOLUMES_KEY, "").strip() == SNAPSHOT


def wrong_key(config: Config) -> str:
    """Return what is wrong with the key, or nothing."""
    value = config.get(VOLUMES_KEY, "").strip()
    if value in {"", SNAPSHOT}:
        return ""
    return f"{VOLUMES_KEY}: {value[:80]!r} isn't {SNAPSHOT}, the only value it may have"


def mounted_volumes(devices: Devices) -> tuple[MountedVolume, ...]:
    """Return the custom volumes of expanded devices that can be written to, each once."""
    found: dict[VolumeName, str] = {}
    for device in devices.values():
        path = "/" + device.get("path", "").strip("/")
        if device.get("type") != "disk" or path == "/" or device.get("readonly") == "true":
            continue
        # A disk of LXD 6 may also be a snapshot, or another instance's root.
        if device.get("source.snapshot") or device.get("source.type", "custom") != "custom":
            continue
        if device.get("pool") and device.get("source"):
            found.setdefault(VolumeName(pool=device["pool"], name=device["source"]), path)
    return tuple(MountedVolume(volume=volume, path=path) for volume, path in found.items())


def snapshot_problem(
    volume: Volume, pool: StoragePool, holder: Key, stopped: frozenset[Key]
) -> str:
    """Return why a turn-back couldn't restore a snapshot of the volume, or nothing.

    ``stopped`` are instances that are stopped as long as the update's outcome is open.
    """
    name = f"the volume {volume.name} of pool {volume.pool}"
    rules = snapshot_rules(pool, volume)
    if rules is None:
        return f"{name}: what LXD's driver {pool.driver} does with snapshots isn't known here"
    others = sorted(instances_of(volume.used_by) - stopped - {holder})
    if others:
        listed = ", ".join(_shown(other, holder) for other in others[:3])
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""  # noqa: PLR2004 - as above
        return (
            f"{name} is used by {listed}{more} as well: restored, it would lose what they wrote"
            " (those that depend on the instance are stopped with it)"
        )
    if rules.only_newest and not rules.removes_newer and _is_scheduled(volume.config, pool.config):
        return (
            f"{name}: {_SCHEDULE} may make a newer snapshot meanwhile, and {pool.driver} restores only"
            " the newest; set zfs.remove_snapshots on the volume, or unset the schedule"
        )
    return ""


def _is_scheduled(volume: Config, pool: Config) -> bool:
    return bool(volume.get(_SCHEDULE, pool.get(f"volume.{_SCHEDULE}", "")))


def _shown(other: Key, holder: Key) -> str:
    project, name = other
    return name if project == holder[0] else f"{name} (project {project})"


def copy_room_problem(
    needs_bytes: Mapping[str, int], free_bytes: Mapping[str, int], reserve_bytes: int
) -> str:
    """Return which pool can't hold copies of this size, by the pools' names; or nothing."""
    for pool, needed in needs_bytes.items():
        left = free_bytes.get(pool, 0)
        if needed + reserve_bytes > left:
            return (
                f"snapshots are copies in the pool {pool}, which has {left >> 20} MiB left, and those of"
                f" its volumes need {(needed + reserve_bytes) >> 20} MiB"
            )
    return ""
