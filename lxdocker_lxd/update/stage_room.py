"""Whether there is room for one more instance beside an instance: in its project and in its pool."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Config, Image, Instance
from lxdocker_lxd.lxd.resources import Usage

_IMAGE_FACTOR = 3
_RESERVE_BYTES = 64 << 20
_KNOWN_FOR = timedelta(minutes=1)
_LIMITS = "limits."
_COUNTS = {"container": "containers", "virtual-machine": "virtual-machines"}
_UNITS = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
}


@dataclass(frozen=True, slots=True)
class _Free:
    """What was free in a pool, less what was staged there since."""

    free_bytes: int
    at: datetime


@dataclass(slots=True)
class StageRoom:
    """Asks LXD for room, and no more often than it has to. Raises what the ports raise."""

    lxd: Lxd
    clock: Callable[[], datetime]
    _pools: dict[tuple[str, str], _Free] = field(default_factory=dict)

    def lack_in_project(self, instance: Instance, limits: Config) -> str:
        """Return which of the project's limits leaves no room for a stage of ``instance``, or nothing.

        ``limits`` are the project's keys; without a limit among them nothing is asked.
        """
        if not any(key.startswith(_LIMITS) and value for key, value in limits.items()):
            return ""
        usage = self.lxd.projects.usage(instance.project)
        for resource, needed in _needs(instance).items():
            found = usage.get(resource)
            if found is not None and _is_over(found, needed):
                return _said(found, needed)
        return ""

    def lack_in_pool(self, instance: Instance, image: Image) -> str:
        """Return what is missing in the pool of the instance's root disk, or nothing."""
        pool = root_device(instance).get("pool", "")
        if not pool:
            return "it has no root disk"
        target = instance.member
        needed = _IMAGE_FACTOR * image.size_bytes + _RESERVE_BYTES
        now, known = self.clock(), self._pools.get((pool, target))
        if (
            known is None
            or known.free_bytes < needed
            or not known.at <= now < known.at + _KNOWN_FOR
        ):
            known = _Free(self.lxd.pools.space(pool, target=target).free_bytes, now)
        self._pools[pool, target] = _Free(known.free_bytes - needed, known.at)
        if known.free_bytes >= needed:
            return ""
        free, wanted = known.free_bytes >> 20, needed >> 20
        return f"the pool {pool} has {free} MiB left, and an update needs {wanted} MiB"


def root_device(instance: Instance) -> Config:
    """Return the device that holds the instance's root file system; empty when there is none."""
    roots = (one for one in instance.expanded_devices.values() if one.get("path") == "/")
    return next(roots, {})


def _needs(instance: Instance) -> Mapping[str, int]:
    """What one more instance like this takes of a project's limits, as far as it is said."""
    config = instance.expanded_config
    needs = {"instances": 1, _COUNTS.get(instance.type, "containers"): 1}
    sizes = {
        "memory": config.get("limits.memory", ""),
        "cpu": config.get("limits.cpu", ""),
        "processes": config.get("limits.processes", ""),
        "disk": root_device(instance).get("size", ""),
    }
    return needs | {resource: _amount(text) for resource, text in sizes.items()}


def _amount(text: str) -> int:
    """Return an amount as LXD writes it, ``2GiB`` or ``4``; 0 for anything else."""
    digits = text.rstrip("BikKMGT")
    unit = text[len(digits) :].strip()
    if not digits.isascii() or not digits.strip().isdigit() or len(digits) > len(str(1 << 63)):
        return 0
    return int(digits) * (_UNITS.get(unit, 0) if unit else 1)


def _is_over(found: Usage, needed: int) -> bool:
    return found.limit is not None and needed > 0 and found.used + needed > found.limit


def _said(found: Usage, needed: int) -> str:
    if found.resource == "instances":
        return f"the project allows {found.limit} instances, and an update needs one more"
    return (
        f"the project allows {found.limit} of {found.resource} and uses {found.used}; an update needs"
        f" {needed} more while both versions are there"
    )
