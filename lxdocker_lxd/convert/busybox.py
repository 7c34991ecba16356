"""The static busybox that goes into images: found, and checked to be what it must be.

An image's own loader and libraries are never used by the guest's programs, so busybox must be
statically linked, and built for the image's architecture. Both stand in its ELF header.
"""

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lxdocker_lxd.atomic import storage_error
from lxdocker_lxd.convert.layer.inode import HostFile
from lxdocker_lxd.digest import Digest
from lxdocker_lxd.errors import ToolError

HOST_PATHS = (Path("/bin/busybox"), Path("/usr/bin/busybox"))
_LIMIT_BYTES = 32 << 20
_INTERPRETER = 3
# LXD's architecture: ELF class (bits), byte order, machine number.
_MACHINES = {
    "amd64": (64, "<", 62),
    "arm64": (64, "<", 183),
    "armhf": (32, "<", 40),
    "armel": (32, "<", 40),
    "i386": (32, "<", 3),
    "ppc64el": (64, "<", 21),
    "s390x": (64, ">", 22),
    "riscv64": (64, "<", 243),
}


class BusyboxError(ToolError):
    """No usable busybox for an architecture."""

    def __init__(self, problem: str, architecture: str, *, foreign: bool) -> None:
        package = f"busybox-static:{architecture}" if foreign else "busybox-static"
        give = f", and give its path with --busybox {architecture}=PATH" if foreign else ""
        super().__init__(
            f"busybox for {architecture}: {problem}",
            hint=f"Debian's package {package} has one{give}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Busybox:
    """One checked busybox."""

    file: HostFile
    digest: Digest


def find_busybox(
    architecture: str,
    *,
    host_architecture: str,
    given: Mapping[str, Path],
    host_paths: tuple[Path, ...] = HOST_PATHS,
) -> Busybox:
    """Return the busybox for images of ``architecture`` (LXD's name).

    That is the one ``given`` for it, else the host's own where the architectures agree. Raises
    BusyboxError with the Debian package to install, and StorageError.
    """
    foreign = architecture != host_architecture
    paths: tuple[Path, ...] = (given[architecture],) if architecture in given else ()
    if not paths and not foreign:
        paths = tuple(path for path in host_paths if path.exists())
    if not paths:
        problem = "none is given" if foreign else "none is installed"
        raise BusyboxError(problem, architecture, foreign=foreign)
    path = paths[0]
    try:
        with path.open("rb") as file:
            content = file.read(_LIMIT_BYTES + 1)
    except FileNotFoundError as error:
        raise BusyboxError(f"{path} does not exist", architecture, foreign=foreign) from error
    except OSError as error:
        raise storage_error("read", path, error) from error
    problem = _problem(content, architecture)
    if problem:
        raise BusyboxError(f"{os.fspath(path)} {problem}", architecture, foreign=foreign)
    return Busybox(file=HostFile(path=path, size_bytes=len(content)), digest=Digest.of(content))


def _problem(content: bytes, architecture: str) -> str:
    """Return what is wrong with a program for ``architecture``, or nothing."""
    if len(content) > _LIMIT_BYTES:
        return f"is larger than {_LIMIT_BYTES} bytes"
    bits, order, machine = _MACHINES[architecture]
    if content[:4] != b"\x7fELF" or len(content) < 64:  # noqa: PLR2004 - the ELF header's length
        return "is not a program (no ELF header)"
    found = ({1: 32, 2: 64}.get(content[4]), {1: "<", 2: ">"}.get(content[5]))
    if found != (bits, order) or struct.unpack_from(order + "H", content, 18)[0] != machine:
        return f"is not a program for {architecture}"
    wide = bits == 64  # noqa: PLR2004 - the two ELF classes
    (offset,) = struct.unpack_from(order + ("Q" if wide else "I"), content, 32 if wide else 28)
    size, count = struct.unpack_from(order + "HH", content, 54 if wide else 42)
    for number in range(count):
        place = offset + number * size
        if place + 4 > len(content):
            return "is cut short"
        if struct.unpack_from(order + "I", content, place)[0] == _INTERPRETER:
            return "is not statically linked"
    return ""
