"""Trees as values: read from a directory or from a tar stream, and compared line by line."""

import hashlib
import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFIFO: "fifo",
}
_TAR_KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    tarfile.CHRTYPE: "character device",
    tarfile.BLKTYPE: "block device",
    tarfile.FIFOTYPE: "fifo",
}
_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What one name of a tree is. ``same`` holds all names of the same inode."""

    kind: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int = 0
    sha256: str = ""
    target: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    same: frozenset[bytes] = field(default_factory=frozenset)


Snapshot = dict[bytes, Node]
"""A tree by path; the root is ``b"."``."""


def read_directory(directory: Path) -> Snapshot:
    """Return the tree below a directory of this machine (as root, else xattrs are missing)."""
    top = os.fsencode(directory)
    nodes: Snapshot = {}
    groups: dict[tuple[int, int], set[bytes]] = {}
    for path in _names_below(top):
        full = top + b"/" + path
        status = os.lstat(full)
        kind = _KINDS[stat.S_IFMT(status.st_mode)]
        nodes[path] = Node(
            kind=kind,
            mode=0o777 if kind == "symlink" else stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            mtime_ns=status.st_mtime_ns,
            size=status.st_size if kind == "file" else 0,
            sha256=_sha256(full) if kind == "file" else "",
            target=os.readlink(full) if kind == "symlink" else b"",  # noqa: PTH115 - a path of bytes
            device=(os.major(status.st_rdev), os.minor(status.st_rdev)),
            xattrs=_xattrs(full),
        )
        if kind != "directory":
            groups.setdefault((status.st_dev, status.st_ino), set()).add(path)
    return _grouped(nodes, groups.values())


def _names_below(top: bytes) -> Iterator[bytes]:
    yield b"."
    pending = [b""]
    while pending:
        prefix = pending.pop()
        with os.scandir(top + b"/" + prefix) as entries:
            for entry in entries:
                path = prefix + b"/" + entry.name if prefix else entry.name
                yield path
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)


def _sha256(path: bytes) -> str:
    with open(path, "rb") as file:  # noqa: PTH123 - a path of bytes
        return hashlib.file_digest(file, "sha256").hexdigest()


def _xattrs(path: bytes) -> tuple[tuple[bytes, bytes], ...]:
    names = sorted(os.fsencode(name) for name in os.listxattr(path, follow_symlinks=False))
    return tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in names)


def _grouped(nodes: Snapshot, groups: Any) -> Snapshot:
    for names in groups:
        for name in names:
            nodes[name] = replace(nodes[name], same=frozenset(names))
    return nodes


def read_tar(stream: IO[bytes]) -> Snapshot:
    """Return the tree in a tar stream, as Python's tarfile reads it, and check its order.

    Asserts what packers need: each name once, parents before children, targets before links.
    """
    nodes: Snapshot = {}
    groups: dict[bytes, set[bytes]] = {}
    with tarfile.open(
        fileobj=stream, mode="r|", encoding="utf-8", errors="surrogateescape"
    ) as archive:
        for member in archive:
            path = _raw(member.name).rstrip(b"/") or b"."
            path = b"." if path == b"./" else path
            assert path not in nodes, f"{path!r} occurs twice"
            parent = path.rpartition(b"/")[0]
            assert not parent or nodes[parent].kind == "directory", f"{path!r} has no parent"
            if member.type == tarfile.LNKTYPE:
                first = _raw(member.linkname)
                assert first in nodes, f"{path!r} precedes its target"
                nodes[path] = nodes[first]
                groups[first].add(path)
                continue
            data = archive.extractfile(member) if member.isreg() else None
            nodes[path] = Node(
                kind=_TAR_KINDS[member.type],
                mode=0o777 if member.issym() else member.mode,
                uid=member.uid,
                gid=member.gid,
                mtime_ns=_mtime_ns(member),
                size=member.size,
                sha256="" if data is None else hashlib.file_digest(data, "sha256").hexdigest(),  # type: ignore[arg-type]  # a readable file
                target=_raw(member.linkname),
                device=(member.devmajor, member.devminor) if member.isdev() else (0, 0),
                xattrs=_tar_xattrs(member),
            )
            if not member.isdir():
                groups[path] = {path}
    return _grouped(nodes, groups.values())


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _mtime_ns(member: tarfile.TarInfo) -> int:
    # tarfile gives a float, which has no room for nanoseconds.
    whole, _, fraction = member.pax_headers.get("mtime", str(int(member.mtime))).partition(".")
    return int(whole) * _NANOSECONDS + int(fraction.ljust(9, "0") or 0)


def _tar_xattrs(member: tarfile.TarInfo) -> tuple[tuple[bytes, bytes], ...]:
    start = "SCHILY.xattr."
    found = {
        _raw(key[len(start) :]): _raw(value)
        for key, value in member.pax_headers.items()
        if key.startswith(start)
    }
    return tuple(sorted(found.items()))


def differences(
    ours: Snapshot,
    theirs: Snapshot,
    *,
    directory_times: bool,
    whole_seconds: bool = False,
    root: bool = True,
) -> list[str]:
    """Return one line per difference between two trees; none when they are equal."""
    lines = []
    for path in sorted(ours.keys() | theirs.keys()):
        if path == b"." and not root:
            continue
        left, right = ours.get(path), theirs.get(path)
        if left is None or right is None:
            lines.append(f"{path!r}: only {'theirs' if left is None else 'ours'}: {right or left}")
            continue
        ignore_time = left.kind == "directory" and not directory_times
        for name in Node.__slots__:
            mine, other = getattr(left, name), getattr(right, name)
            if name == "mtime_ns":
                if ignore_time:
                    continue
                if whole_seconds:
                    mine, other = mine // _NANOSECONDS, other // _NANOSECONDS
            if mine != other:
                lines.append(f"{path!r}: {name}: ours {mine!r}, theirs {other!r}")
    return lines
