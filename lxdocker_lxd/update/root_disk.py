"""Which data an update would leave behind on the old root disk. Pure.

An update gives an instance a new root disk; what is on volumes stays. An image says by VOLUME where
its program keeps data. A path that it declares, and at which no disk is mounted, is on the root disk.
"""

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from lxdocker_lxd.lxd.records import DEFAULT_PROJECT, Config, Instance, disk_paths
from lxdocker_lxd.update.quantity import quoted

ROOT_DISK_KEY = "user.lxdocker.update.root_disk"
DISPOSABLE = "disposable"
_LONGEST_NAME = 63
_MOST_TOLD = 3
_UNFIT = re.compile(r"[^A-Za-z0-9_.-]")


class Exposure(StrEnum):
    """Why data at a path would be lost.

    ``UNCOVERED``: the present image declares it. ``ADDED``: only the new image does. ``MOVED``: only
    the new image does, and it no longer declares a path at which a volume is mounted.
    """

    UNCOVERED = "uncovered"
    ADDED = "added"
    MOVED = "moved"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposedPath:
    """A declared path on the root disk; ``before`` are the mounted paths it was moved from."""

    path: str
    exposure: Exposure
    before: tuple[str, ...] = ()


def is_covered(path: str, mounts: Iterable[str]) -> bool:
    """Whether a disk is mounted at the path, or at a directory that it is below."""
    return any(path == mount or path.startswith(f"{mount}/") for mount in mounts)


def exposed_paths(
    old: Sequence[str], new: Sequence[str], mounts: Iterable[str]
) -> tuple[ExposedPath, ...]:
    """Return the declared paths of both images that no mount covers, those of the old one first."""
    held = tuple(mounts)
    found = [
        ExposedPath(path=path, exposure=Exposure.UNCOVERED)
        for path in sorted(set(old))
        if not is_covered(path, held)
    ]
    left = tuple(sorted(path for path in set(old) - set(new) if is_covered(path, held)))
    for path in sorted(set(new) - set(old)):
        if not is_covered(path, held):
            exposure = Exposure.MOVED if left else Exposure.ADDED
            found.append(ExposedPath(path=path, exposure=exposure, before=left))
    return tuple(found)


def is_disposable(config: Config) -> bool:
    """Whether expanded configuration says that everything on the root disk may be lost."""
    return config.get(ROOT_DISK_KEY, "").strip() == DISPOSABLE


def wrong_key(config: Config) -> str:
    """Return what is wrong with the key, or nothing."""
    value = config.get(ROOT_DISK_KEY, "").strip()
    if value in {"", DISPOSABLE}:
        return ""
    return f"{ROOT_DISK_KEY}: {quoted(value)} isn't {DISPOSABLE}, the only value it may have"


def loss(instance: Instance, exposed: Sequence[ExposedPath]) -> str:
    """Return in words what would be lost, and the commands that prevent it."""
    told = exposed[:_MOST_TOLD]
    sentences = [f"{_described(one, instance)}: {_mending(one, instance)}" for one in told]
    if len(exposed) > len(told):
        sentences.append(f"and {len(exposed) - len(told)} more such paths")
    return (
        "; ".join(sentences)
        + "; what is there already has to be copied first (docs/updater.md, Data on the root disk)."
        f" If it may be lost: {disposing(instance)}"
    )


def disposing(instance: Instance) -> str:
    """Return the command that says that the root disk may be lost."""
    words = ["lxc", "config", "set", instance.name, ROOT_DISK_KEY, DISPOSABLE]
    return shlex.join([*words, *_project(instance)])


def _described(exposed: ExposedPath, instance: Instance) -> str:
    match exposed.exposure:
        case Exposure.UNCOVERED:
            return (
                f"its image declares the volume {exposed.path}, and no disk is mounted there:"
                " an update would leave what it holds on the old root disk"
            )
        case Exposure.ADDED:
            return (
                f"the new image declares the volume {exposed.path}, and no disk is mounted there:"
                " the update after it would leave what it holds on the root disk"
            )
        case Exposure.MOVED:
            mounts = disk_paths(instance.expanded_devices)
            where = [f"{path} (device {mounts[path]})" for path in exposed.before if path in mounts]
            return (
                f"the new image declares the volume {exposed.path}, where no disk is mounted, and no"
                f" longer {', '.join(where or exposed.before)}: it would start without its data"
            )


def _mending(exposed: ExposedPath, instance: Instance) -> str:
    """Return the commands that cover the path; those that move a volume where one was left."""
    mounts = disk_paths(instance.expanded_devices)
    moved = next((mounts[path] for path in exposed.before if path in mounts), "")
    if moved:
        action = "set" if moved in instance.devices else "override"
        words = ["lxc", "config", "device", action, instance.name, moved, f"path={exposed.path}"]
        return (
            f"{shlex.join([*words, *_project(instance)])} once the data fits the new version"
            " (see the image's notes), or a volume of its own there"
        )
    pool = next(
        (
            one.get("pool", "")
            for one in instance.expanded_devices.values()
            if (one.get("type"), one.get("path")) == ("disk", "/")
        ),
        "default",
    )
    name = _UNFIT.sub("-", instance.name + exposed.path)[:_LONGEST_NAME]
    device = _UNFIT.sub("-", exposed.path.strip("/"))[:_LONGEST_NAME]
    member = [] if instance.location in {"", "none"} else [f"--target={instance.location}"]
    create = ["lxc", "storage", "volume", "create", pool, name, *member, *_project(instance)]
    add = ["lxc", "config", "device", "add", instance.name, device, "disk"]
    add += [f"pool={pool}", f"source={name}", f"path={exposed.path}", *_project(instance)]
    return f"{shlex.join(create)} && {shlex.join(add)}"


def _project(instance: Instance) -> list[str]:
    return [] if instance.project == DEFAULT_PROJECT else [f"--project={instance.project}"]
