"""Snapshots of volumes that ended updates left: found in the volumes, and removed.

A snapshot is called ``lxdocker-ID`` after its update, and goes with the copy that may need it
(``removal``). Left are those of a copy that a user deleted, and those whose deletion LXD refused.
"""

import contextlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.lxd.failures import AbsentError
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Instance
from lxdocker_lxd.update.enrolment import is_enrolled
from lxdocker_lxd.update.problem import ENDS_ROUND, Problems
from lxdocker_lxd.update.transaction import STAMP_KEY, Stamp, Unreadable, VolumeName, stamp_of
from lxdocker_lxd.update.volume_policy import mounted_volumes, wants_snapshots

_OURS = re.compile(r"lxdocker-([0-9a-f]{8})")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A snapshot of an update, on a volume of an instance that is followed."""

    holder: Instance
    volume: VolumeName
    name: str
    transaction: str


def remove_leftovers(
    lxd: Lxd,
    instances: Iterable[Instance],
    unfinished: frozenset[str],
    problems: Problems,
    *,
    projects: frozenset[str],
) -> tuple[str, ...]:
    """Remove snapshots of ended updates that no copy needs any more; return a remark on each.

    Looks at the volumes of followed ``instances`` that ask for snapshots, and asks each volume once.
    One stays that the stamp of any instance in LXD may need, or an update of ``unfinished`` (ids).
    What can't be removed is a problem. Raises when LXD is away.
    """
    listed = tuple(instances)
    found = _unneeded(_found(lxd, listed, projects), listed)
    if not found:
        return ()
    # An update that began meanwhile had its stamp before its first snapshot.
    found = _unneeded(found, lxd.instances.list(project=None))
    remarks = []
    for one in found:
        if one.transaction in unfinished:
            continue
        said = f"the snapshot {one.name} of the volume {one.volume.name} (pool {one.volume.pool})"
        what = f"{said}, which an update left, can't be removed"
        with problems.about(one.holder.project, one.holder.name, what):
            with contextlib.suppress(AbsentError):
                lxd.volumes.delete_snapshot(
                    one.volume.pool,
                    one.volume.name,
                    one.name,
                    project=one.holder.project,
                    target=one.holder.member,
                )
            remarks.append(f"{one.holder.name}: removed {said}, which an update left")
    return tuple(remarks)


def _found(
    lxd: Lxd, instances: tuple[Instance, ...], projects: frozenset[str]
) -> tuple[_Found, ...]:
    found: dict[tuple[str, VolumeName, str], _Found] = {}
    for instance in instances:
        if not is_enrolled(instance, projects) or not wants_snapshots(instance.expanded_config):
            continue
        for mounted in mounted_volumes(instance.expanded_devices):
            for name in _snapshots(lxd, instance, mounted.volume):
                if match := _OURS.fullmatch(name):
                    one = _Found(
                        holder=instance,
                        volume=mounted.volume,
                        name=name,
                        transaction=match[1],
                    )
                    found.setdefault((instance.project, mounted.volume, name), one)
    return tuple(found.values())


def _snapshots(lxd: Lxd, instance: Instance, volume: VolumeName) -> tuple[str, ...]:
    try:
        held = lxd.volumes.snapshots(
            volume.pool, volume.name, project=instance.project, target=instance.member
        )
    except ENDS_ROUND:
        raise
    except LxdockerError:
        # An update that needs the volume tells what is wrong with it.
        return ()
    return tuple(one.name for one in held)


def _unneeded(found: tuple[_Found, ...], instances: Iterable[Instance]) -> tuple[_Found, ...]:
    stamps = [(stamp_of(one), one.config.get(STAMP_KEY, "")) for one in instances]
    needed = {one.transaction for one, _ in stamps if isinstance(one, Stamp) and one.volumes}
    unread = [text for one, text in stamps if isinstance(one, Unreadable)]
    return tuple(
        one
        for one in found
        if one.transaction not in needed and not any(one.transaction in text for text in unread)
    )
