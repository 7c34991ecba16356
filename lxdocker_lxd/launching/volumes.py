"""Volumes of an instance: those that are named, and those the image declares.

Pure. Grammar: ``NAME:PATH[:OPTIONS]`` with the options ``ro`` and ``nocopy``. A path that the image
declares and nobody named gets a volume called after instance and path, so that the next instance of
that name finds its data again.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lxdocker_lxd.digest import Digest
from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.guest_path import volume_path

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_LONGEST_NAME = 63
_DIGEST_DIGITS = 8
_OPTIONS = frozenset({"ro", "rw", "nocopy"})


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeWish:
    """A custom volume at a path. ``copy``: an empty one first gets what the image has there."""

    name: str
    path: str
    readonly: bool = False
    copy: bool = True

    @classmethod
    def parse(cls, text: str) -> "VolumeWish":
        """Return what ``text`` asks for; raise UsageError."""
        name, _, rest = text.partition(":")
        path, _, options = rest.partition(":")
        words = set(options.split(",")) - {""}
        if name.startswith(("/", ".")):
            raise UsageError(
                f"--volume {text!r}: directories of the host are not volumes",
                hint=f"lxc config device add INSTANCE data disk source={name} path={path or 'PATH'}",
            )
        if not path or not _NAME.fullmatch(name) or not words <= _OPTIONS:
            raise UsageError(
                f"--volume {text!r}: expected NAME:PATH, with :ro or :nocopy if wanted",
                hint="for example data:/var/lib/postgresql/data",
            )
        try:
            place = volume_path(path)
        except ValueError as error:
            raise UsageError(
                f"--volume {text!r}: {error}", hint="for example data:/var/lib/postgresql/data"
            ) from error
        return cls(name=name, path=place, readonly="ro" in words, copy="nocopy" not in words)

    def device(self, pool: str) -> dict[str, str]:
        """Return the disk device of this volume in ``pool``."""
        found = {"type": "disk", "pool": pool, "source": self.name, "path": self.path}
        return {**found, "readonly": "true"} if self.readonly else found


def wanted_volumes(
    instance: str,
    named: Iterable[VolumeWish],
    declared: Iterable[str],
    held: Mapping[str, str] | None = None,
) -> tuple[VolumeWish, ...]:
    """Return all volumes of an instance: the named ones, then one for each other declared path.

    ``held`` are paths at which profiles have a disk, and the devices' names: those need no volume.
    Raises UsageError when two are at one path.
    """
    found: dict[str, VolumeWish] = {}
    for wish in named:
        if wish.path in found or wish.path in (held or {}):
            device = (held or {}).get(wish.path)
            other = f": the device {device} of its profiles is there" if device else ""
            raise UsageError(
                f"--volume: two volumes are wanted at {wish.path}{other}",
                hint="leave one out, or choose another path",
            )
        found[wish.path] = wish
    for path in declared:
        if path not in (held or {}):
            found.setdefault(path, VolumeWish(name=automatic_name(instance, path), path=path))
    # What lies inside another one's path is mounted after it.
    return tuple(found[path] for path in sorted(found))


def automatic_name(instance: str, path: str) -> str:
    """Return the name of the volume an instance gets for a path its image declares.

    No two pairs of instance and path get the same: ``/a/b`` of ``db`` and ``/b`` of ``db-a`` differ.
    """
    plain = f"{instance}{path.replace('/', '-')}"
    if _NAME.fullmatch(plain) and len(plain) <= _LONGEST_NAME and "-" not in instance + path:
        return plain
    digest = Digest.of(f"{instance}{path}".encode()).encoded[:_DIGEST_DIGITS]
    kept = re.sub(r"[^A-Za-z0-9_.-]", "-", plain)[: _LONGEST_NAME - _DIGEST_DIGITS - 1]
    return f"{kept}-{digest}"


def volume_devices(wishes: Iterable[VolumeWish], pool: str) -> Mapping[str, Mapping[str, str]]:
    """Return the disk devices by their names."""
    return {f"volume{number}": wish.device(pool) for number, wish in enumerate(wishes)}
