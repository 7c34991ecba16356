"""The program as an archive for another machine: its package, the distributions it needs, busybox.

What is copied is what runs here, so it works without a package index. Compiled modules fit a Python of the
same version, machine and C library only; ``fits`` tells.
"""

import hashlib
import importlib.metadata as distributions
import io
import platform
import re
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import lxdocker_lxd
from lxdocker_lxd import atomic
from lxdocker_lxd.convert.busybox import HOST_PATHS
from lxdocker_lxd.errors import ToolError

DEPENDENCIES = (
    *("pylxd", "pyyaml", "requests", "urllib3", "idna", "rich", "cryptography", "hypercorn"),
    *("quart", "h11", "h2", "werkzeug", "flask", "jinja2", "markupsafe", "isal", "backports.zstd"),
)
"""The distributions that ``pyproject.toml`` names."""

OPTIONAL = frozenset({"isal", "backports.zstd"})
OLDEST = (3, 11)
"""The first Python that runs this program, as ``pyproject.toml`` says."""

_REQUIRED = re.compile(r"[A-Za-z0-9._-]+")
PROBE = (
    "import sys, platform;"
    "print(sys.implementation.cache_tag, platform.machine(), platform.libc_ver()[0] or '-');"
    "print(sys.executable);"
    "print(*sys.version_info[:2])"
)
"""A program for another Python: prints what ``fits`` compares, the interpreter's path, its version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """What an installation consists of: files by their place in it, ours and others'."""

    own: tuple[tuple[str, Path], ...]
    foreign: tuple[tuple[str, Path], ...]

    @property
    def digest(self) -> str:
        """What tells this installation from another one."""
        found = hashlib.sha256()
        for name, path in (*self.own, *self.foreign):
            found.update(f"{name}\0{path.stat().st_size}\0".encode())
            found.update(path.read_bytes())
        return found.hexdigest()

    def archive(self, *, own_only: bool) -> bytes:
        """Return a compressed tar; everything belongs to root. Raises StorageError."""
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w:gz", compresslevel=1) as tar:
            for name, path in self.own if own_only else (*self.own, *self.foreign):
                try:
                    tar.add(path, name, filter=_of_root)
                except OSError as error:
                    raise atomic.storage_error("copy", path, error) from error
        return made.getvalue()


def payload() -> Payload:
    """Return what runs here; raise ToolError when a distribution can't be copied."""
    package = Path(lxdocker_lxd.__file__).parent
    files = sorted(path for path in package.rglob("*") if path.is_file())
    own = [
        (f"lib/lxdocker_lxd/{path.relative_to(package)}", path)
        for path in files
        if "__pycache__" not in path.parts
    ]
    busybox = next((path for path in HOST_PATHS if path.exists()), None)
    if busybox:
        own.append(("busybox", busybox.resolve()))
    foreign = tuple(pair for one in _needed() for pair in _files(one))
    return Payload(own=tuple(own), foreign=foreign)


def _needed() -> Iterator[distributions.Distribution]:
    """Yield the distributions this program needs, each once; those of other Pythons aren't here."""
    seen: set[str] = set()
    waiting = sorted(DEPENDENCIES, reverse=True)
    while waiting:
        name = waiting.pop()
        plain = re.sub(r"[-_.]+", "-", name).lower()
        if plain in seen:
            continue
        seen.add(plain)
        try:
            found = distributions.distribution(name)
        except distributions.PackageNotFoundError:
            if name in DEPENDENCIES and name not in OPTIONAL:
                raise _uncopied(name, "it isn't installed") from None
            continue
        yield found
        for line in found.requires or ():
            match = _REQUIRED.match(line)
            if match and "extra ==" not in line:
                waiting.append(match[0])


def _files(found: distributions.Distribution) -> Iterator[tuple[str, Path]]:
    listed = found.files
    if not listed:
        raise _uncopied(found.metadata["Name"], "it doesn't tell its files")
    for file in listed:
        path = Path(str(found.locate_file(file)))
        if ".." not in file.parts and "__pycache__" not in file.parts and path.is_file():
            yield f"lib/{file}", path


def _uncopied(name: str, why: str) -> ToolError:
    return ToolError(
        f"copy this program: {name}: {why}",
        hint="install lxdocker-lxd with pip or pipx, then again",
    )


def _of_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    # Group and others may read, and not write, whatever the copied file's mode is.
    member.mode = (member.mode | 0o444) & ~0o022
    return member


def new_enough(probed: str) -> bool:
    """Whether the Python that answered ``PROBE`` so can run this program at all."""
    version = probed.split("\n")[2].split()
    return tuple(map(int, version)) >= OLDEST


def fits(probed: str) -> bool:
    """Whether compiled modules of here run in the Python that answered ``PROBE`` so."""
    here = (sys.implementation.cache_tag, platform.machine(), platform.libc_ver()[0] or "-")
    return probed.split("\n", 1)[0].split() == list(here)
