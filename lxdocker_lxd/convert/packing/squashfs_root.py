"""The root directory's owner, mode and time in a finished squashfs image.

mksquashfs up to 4.5 ignores ``-root-uid``, ``-root-gid`` and ``-root-time`` when it reads a tar
file: the root directory gets uid 0 and the time of the run, so no image is like the one before. This
module writes the four fields afterwards. The metadata block that holds the root's inode is stored
again without compression, and the tables behind it move (squashfs 4.0 format: superblock of 96
bytes, metadata blocks of 8 KiB with a two-byte header, absolute positions in the lookup tables).
"""

import io
import lzma
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from lxdocker_lxd.errors import ToolError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_SUPERBLOCK = struct.Struct("<IIIIIHHHHHHQQQQQQQQ")
_MAGIC = 0x73717368
_BLOCK_BYTES = 8192
_RAW = 0x8000
_ABSENT = 0xFFFFFFFFFFFFFFFF
_DIRECTORY_KINDS = (1, 8)
_ALIGNMENT_BYTES = 4096
_FRAGMENT_BYTES, _EXPORT_BYTES, _ID_BYTES, _XATTR_BYTES = 16, 8, 4, 16
_DECOMPRESSORS: dict[int, Callable[[bytes], bytes]] = {
    1: zlib.decompress,
    4: lzma.decompress,
    6: zstd.decompress,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RootAttributes:
    """What the root directory shall have; ``mode`` are the permission bits."""

    mode: int
    uid: int
    gid: int
    mtime_seconds: int


@dataclass(slots=True)
class _Superblock:
    """The superblock's fields, in its own order; positions count from the image's start."""

    magic: int
    inodes: int
    mkfs_time: int
    block_size: int
    fragments: int
    compression: int
    block_log: int
    flags: int
    ids: int
    major: int
    minor: int
    root: int
    bytes_used: int
    id_table: int
    xattr_table: int
    inode_table: int
    directory_table: int
    fragment_table: int
    export_table: int

    def pack(self) -> bytes:
        return _SUPERBLOCK.pack(*(getattr(self, name) for name in self.__slots__))


class UnexpectedSquashfsError(ToolError):
    """The packer wrote something this module doesn't know."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"squashfs image: {what}",
            hint="use squashfs-tools 4.5 or newer, or --imageformat gzip",
        )


def set_root(file: BinaryIO, attributes: RootAttributes) -> None:
    """Write ``attributes`` into the image in ``file`` (open for reading and writing).

    The result depends on the image and the attributes only. Raises UnexpectedSquashfsError.
    """
    try:
        _set_root(file, attributes)
    except (struct.error, zlib.error, lzma.LZMAError, zstd.ZstdError, IndexError) as error:
        raise UnexpectedSquashfsError(f"can't be read back: {error}") from error


def _set_root(file: BinaryIO, attributes: RootAttributes) -> None:
    file.seek(0)
    head = _Superblock(*_SUPERBLOCK.unpack(file.read(_SUPERBLOCK.size)))
    if head.magic != _MAGIC or (head.major, head.minor) != (4, 0):
        raise UnexpectedSquashfsError("not of format 4.0")
    start = head.inode_table + (head.root >> 16)
    file.seek(start)
    tail = file.read(head.bytes_used - start)
    inodes = _metadata(tail[: head.directory_table - start], head.compression)
    ids = _ids(tail, start, head)
    numbers = [_id_number(ids, attributes.uid), _id_number(ids, attributes.gid)]
    _patch(inodes, head.root & 0xFFFF, attributes, numbers)
    file.seek(start)
    file.write(_moved(tail, start, head, _raw_blocks(inodes), ids))
    padding = -head.bytes_used % _ALIGNMENT_BYTES
    file.write(bytes(padding))
    file.truncate()
    file.seek(0)
    file.write(head.pack())


def _metadata(content: bytes, compression: int) -> bytearray:
    """Return the bytes in a row of metadata blocks."""
    found = bytearray()
    place = 0
    while place < len(content):
        (header,) = struct.unpack_from("<H", content, place)
        size_bytes = header & ~_RAW
        block = content[place + 2 : place + 2 + size_bytes]
        if header & _RAW:
            found += block
        elif compression in _DECOMPRESSORS:
            found += _DECOMPRESSORS[compression](block)
        else:
            raise UnexpectedSquashfsError(f"metadata with compression number {compression}")
        place += 2 + size_bytes
    return found


def _raw_blocks(content: bytes | bytearray) -> bytes:
    output = io.BytesIO()
    for place in range(0, len(content), _BLOCK_BYTES):
        block = content[place : place + _BLOCK_BYTES]
        output.write(struct.pack("<H", len(block) | _RAW))
        output.write(block)
    return output.getvalue()


def _patch(inodes: bytearray, offset: int, attributes: RootAttributes, numbers: list[int]) -> None:
    kind, _ = struct.unpack_from("<HH", inodes, offset)
    if kind not in _DIRECTORY_KINDS:
        raise UnexpectedSquashfsError(f"the root is an inode of kind {kind}")
    struct.pack_into(
        "<HHHI", inodes, offset + 2, attributes.mode, *numbers, attributes.mtime_seconds
    )


def _ids(tail: bytes, start: int, head: _Superblock) -> list[int]:
    """Return the table of owners, which inodes refer to by number."""
    (first,) = struct.unpack_from("<Q", tail, head.id_table - start)
    table = _metadata(tail[first - start : head.id_table - start], head.compression)
    return list(struct.unpack_from(f"<{head.ids}I", table))


def _id_number(ids: list[int], wanted: int) -> int:
    if wanted not in ids:
        ids.append(wanted)
    return ids.index(wanted)


def _moved(tail: bytes, start: int, head: _Superblock, inodes: bytes, ids: list[int]) -> bytes:
    """Return the image from ``start`` on with new inode blocks; ``head`` is brought up to date."""
    (old_ids,) = struct.unpack_from("<Q", tail, head.id_table - start)
    old_end = head.id_table + _entries(head.ids, _ID_BYTES) * 8
    id_blocks = _raw_blocks(struct.pack(f"<{len(ids)}I", *ids))
    by_inodes = start + len(inodes) - head.directory_table
    new_ids = old_ids + by_inodes
    id_index = struct.pack(
        f"<{_entries(len(ids), _ID_BYTES)}Q",
        *(new_ids + number * (_BLOCK_BYTES + 2) for number in range(_entries(len(ids), _ID_BYTES))),
    )
    by_ids = new_ids + len(id_blocks) + len(id_index) - old_end

    def shifted(position: int) -> int:
        return position + (by_ids if position >= old_end else by_inodes)

    changed = bytearray(tail)
    for place in _positions(tail, start, head):
        (position,) = struct.unpack_from("<Q", changed, place)
        struct.pack_into("<Q", changed, place, shifted(position))
    before_ids = bytes(changed[head.directory_table - start : old_ids - start])
    after_ids = bytes(changed[old_end - start :])
    head.id_table = new_ids + len(id_blocks)
    head.ids = len(ids)
    head.bytes_used = shifted(head.bytes_used)
    for name in ("xattr_table", "directory_table", "fragment_table", "export_table"):
        position = getattr(head, name)
        if position != _ABSENT:
            setattr(head, name, shifted(position))
    return inodes + before_ids + id_blocks + id_index + after_ids


def _positions(tail: bytes, start: int, head: _Superblock) -> Iterator[int]:
    """Yield where in ``tail`` absolute positions stand, the id table's own excepted."""
    tables = (
        (head.fragment_table, head.fragments, _FRAGMENT_BYTES),
        (head.export_table, head.inodes, _EXPORT_BYTES),
    )
    for table, count, entry_bytes in tables:
        if table != _ABSENT:
            for number in range(_entries(count, entry_bytes)):
                yield table - start + number * 8
    if head.xattr_table != _ABSENT:
        place = head.xattr_table - start
        (count,) = struct.unpack_from("<I", tail, place + 8)
        yield place
        for number in range(_entries(count, _XATTR_BYTES)):
            yield place + 16 + number * 8


def _entries(count: int, entry_bytes: int) -> int:
    """Return how many metadata blocks hold ``count`` entries."""
    return -(-count * entry_bytes // _BLOCK_BYTES)
