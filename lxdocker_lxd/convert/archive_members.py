"""The members of a tar file by name, read in place: nothing is ever unpacked.

Names are keys to look up, never paths. Understood are plain files, hard and symbolic links between
members, GNU long names and pax ``path``, ``linkpath`` and ``size``; other members are passed over.
A compressed archive has no offsets to read at and is refused.
"""

import contextlib
import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lxdocker_lxd.convert.layer import pax
from lxdocker_lxd.convert.layer.errors import LayerError
from lxdocker_lxd.convert.layer.tar_header import BLOCK_BYTES, ZERO_BLOCK, TarHeader, parse_header
from lxdocker_lxd.convert.local_file import LocalStream, open_regular
from lxdocker_lxd.digest import ByteStream
from lxdocker_lxd.errors import NotFoundError, VerificationError

MEMBER_LIMIT = 100_000
HEADER_LIMIT_BYTES = 1 << 20
_LINK_LIMIT = 8
_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ": "xz",
    b"BZh": "bzip2",
}
_FILES = (b"0", b"\0", b"7")
_LINKS = (b"1", b"2")


class InvalidArchiveError(VerificationError):
    """A file that isn't the archive it is said to be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    offset_bytes: int
    size_bytes: int
    link: str | None


class ArchiveFiles:
    """A tar file's members, looked up by name. Each stream opens the file anew."""

    def __init__(self, path: Path) -> None:
        """Read the archive's headers; raise InvalidArchiveError, NotFoundError, StorageError."""
        self._path = path
        with open_regular(path, what=str(path)) as file:
            try:
                self._members = dict(_walk(file, path))
            except LayerError as error:
                raise InvalidArchiveError(f"{path}: not a tar archive: {error.message}") from error

    @property
    def where(self) -> str:
        """What to call this place in messages."""
        return str(self._path)

    def size_bytes(self, name: str) -> int | None:
        """Return the size of a member, None when there is none of this name."""
        member = self._resolve(name)
        return member.size_bytes if member else None

    @contextlib.contextmanager
    def stream(self, name: str, offset_bytes: int = 0) -> Iterator[ByteStream]:
        """Yield a member's bytes from ``offset_bytes`` on; raise NotFoundError, StorageError."""
        member = self._resolve(name)
        if member is None:
            raise NotFoundError(f"{self._path}: there is no {name} in this archive")
        with open_regular(self._path, what=self.where) as file:
            file.seek(member.offset_bytes + offset_bytes)
            yield LocalStream(file, self._path, max(0, member.size_bytes - offset_bytes))

    def _resolve(self, name: str) -> _Member | None:
        for _ in range(_LINK_LIMIT):
            member = self._members.get(_key(name))
            if member is None or member.link is None:
                return member
            name = member.link
        return None


def _walk(file: BinaryIO, path: Path) -> Iterator[tuple[str, _Member]]:
    """Yield the members in archive order; of two with one name the last counts, as for tar."""
    whole_bytes = os.fstat(file.fileno()).st_size
    _refuse_compressed(file.read(BLOCK_BYTES), path)
    position = 0
    records: dict[bytes, bytes] = {}
    for _ in range(MEMBER_LIMIT):
        file.seek(position)
        block = file.read(BLOCK_BYTES)
        if block in {b"", ZERO_BLOCK}:
            return
        if len(block) < BLOCK_BYTES:
            raise InvalidArchiveError(f"{path}: ends in the middle of a header")
        header = parse_header(block)
        size_bytes = header.size_bytes
        if header.typeflag not in {b"x", b"L", b"K", b"g"} and b"size" in records:
            size_bytes = pax.whole_number(records[b"size"], "size")
        position += BLOCK_BYTES
        if header.typeflag in _LINKS:
            size_bytes = 0
        if position + size_bytes > whole_bytes:
            raise InvalidArchiveError(
                f"{path}: cut short: {header.name[:100]!r} needs"
                f" {position + size_bytes} bytes, the file has {whole_bytes}"
            )
        if header.typeflag in {b"x", b"L", b"K"}:
            records.update(_extension(file, header, path))
        elif header.typeflag != b"g":
            yield from _member(header, records, position, size_bytes)
            records = {}
        position += size_bytes + -size_bytes % BLOCK_BYTES
    raise InvalidArchiveError(f"{path}: more than {MEMBER_LIMIT} members")


def _extension(file: BinaryIO, header: TarHeader, path: Path) -> dict[bytes, bytes]:
    if header.size_bytes > HEADER_LIMIT_BYTES:
        raise InvalidArchiveError(
            f"{path}: an extended header of {header.size_bytes} bytes, more than"
            f" {HEADER_LIMIT_BYTES}"
        )
    payload = file.read(header.size_bytes)
    if header.typeflag == b"x":
        return dict(pax.parse_records(payload))
    key = b"path" if header.typeflag == b"L" else b"linkpath"
    return {key: payload.partition(b"\0")[0]}


def _member(
    header: TarHeader, records: dict[bytes, bytes], position: int, size_bytes: int
) -> Iterator[tuple[str, _Member]]:
    name = _key(os.fsdecode(records.get(b"path", header.name)))
    target = os.fsdecode(records.get(b"linkpath", header.link_name))
    if header.typeflag in _FILES:
        yield name, _Member(offset_bytes=position, size_bytes=size_bytes, link=None)
    elif header.typeflag == b"1":
        yield name, _Member(offset_bytes=0, size_bytes=0, link=target)
    elif header.typeflag == b"2":
        # A symbolic link starts from its own directory, a hard link from the archive's top.
        link = posixpath.join(posixpath.dirname(name), target)
        yield name, _Member(offset_bytes=0, size_bytes=0, link=link)


def _key(name: str) -> str:
    return posixpath.normpath("/" + name).lstrip("/")


def _refuse_compressed(start: bytes, path: Path) -> None:
    for magic, kind in _MAGIC.items():
        if start.startswith(magic):
            program = {"gzip": "gunzip", "zstd": "unzstd", "xz": "unxz", "bzip2": "bunzip2"}[kind]
            raise InvalidArchiveError(
                f"{path}: the archive is compressed with {kind}",
                hint=f"unpack it first: {program} {path}",
            )
