"""The volumes that an update of an instance snapshots: read in LXD, judged by ``volume_policy``."""

from dataclasses import dataclass

from lxdocker_lxd.errors import LxdError, LxdockerError
from lxdocker_lxd.lxd.calls import Command
from lxdocker_lxd.lxd.failures import AbsentError
from lxdocker_lxd.lxd.paths import instances_of
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Instance
from lxdocker_lxd.lxd.resources import StoragePool
from lxdocker_lxd.lxd.storage_drivers import snapshot_rules
from lxdocker_lxd.update.plan import Key
from lxdocker_lxd.update.transaction import VolumeName
from lxdocker_lxd.update.volume_policy import (
    VOLUMES_KEY,
    MountedVolume,
    copy_room_problem,
    mounted_volumes,
    snapshot_problem,
    wants_snapshots,
    wrong_key,
)

_RESERVE_BYTES = 64 << 20
_COUNT_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSelection:
    """The volumes to snapshot; with a ``problem`` no update is to begin."""

    volumes: tuple[VolumeName, ...] = ()
    problem: str = ""


def select_volumes(lxd: Lxd, instance: Instance, stopped: frozenset[Key]) -> VolumeSelection:
    """Return which volumes of an instance its keys want to be snapshotted; nothing without the key.

    ``stopped`` are instances that the update stops, until its outcome is known. Raises nothing: what
    can't be read is a problem.
    """
    if wrong := wrong_key(instance.expanded_config):
        return VolumeSelection(problem=wrong)
    if not wants_snapshots(instance.expanded_config):
        return VolumeSelection()
    mounted = mounted_volumes(instance.expanded_devices)
    try:
        problem = _problem(lxd, instance, mounted, stopped)
    except LxdockerError as error:
        problem = f"{VOLUMES_KEY}: {error.message}"
    return VolumeSelection(volumes=tuple(one.volume for one in mounted), problem=problem)


def _problem(
    lxd: Lxd, instance: Instance, mounted: tuple[MountedVolume, ...], stopped: frozenset[Key]
) -> str:
    holder = (instance.project, instance.name)
    target = instance.member
    pools: dict[str, StoragePool] = {}
    copied: list[MountedVolume] = []
    for one in mounted:
        name = one.volume
        if name.pool not in pools:
            pools[name.pool] = lxd.pools.get(name.pool)
        volume = lxd.volumes.get(name.pool, name.name, project=instance.project, target=target)
        if problem := snapshot_problem(volume, pools[name.pool], holder, stopped):
            return problem
        rules = snapshot_rules(pools[name.pool], volume)
        if rules is not None and rules.copies:
            copied.append(one)
    return _lack_of_room(lxd, instance, copied) if copied else ""


def _lack_of_room(lxd: Lxd, instance: Instance, copied: list[MountedVolume]) -> str:
    """Compare what the volumes hold with what is left in their pools.

    LXD tells the size of a volume in no pool that copies. The instance counts it; where it can't, all
    that the pool holds is taken for it.
    """
    needs: dict[str, int] = {}
    free: dict[str, int] = {}
    for one in copied:
        pool = one.volume.pool
        space = lxd.pools.space(pool, target=instance.member)
        free[pool] = space.free_bytes
        counted = _held_bytes(lxd, instance, one.path)
        held = space.used_bytes if counted is None else counted
        needs[pool] = min(needs.get(pool, 0) + held, space.used_bytes)
    return copy_room_problem(needs, free, _RESERVE_BYTES)


def _held_bytes(lxd: Lxd, instance: Instance, path: str) -> int | None:
    """Return what is below a path of a running instance, as its own program says."""
    if not instance.running:
        return None
    words = ("/busybox-lxd", "du", "-skx", path)
    command = Command(words=words, directory="/", timeout_seconds=_COUNT_SECONDS)
    try:
        result = lxd.guests.execute(instance.name, command, project=instance.project)
    except LxdError:
        return None
    counted = result.stdout.split()[:1]
    if result.exit_code != 0 or not counted or not counted[0].isdigit() or len(counted[0]) > 15:  # noqa: PLR2004 - more is no size
        return None
    return int(counted[0]) << 10


def running_users(
    lxd: Lxd, volume: VolumeName, project: str, *, target: str = ""
) -> tuple[str, ...]:
    """Return names of running instances that have the volume now."""
    held = lxd.volumes.get(volume.pool, volume.name, project=project, target=target)
    found = []
    for where, name in sorted(instances_of(held.used_by)):
        try:
            if lxd.power.state(name, project=where).status != "Stopped":
                found.append(name)
        except AbsentError:
            continue
    return tuple(found)
