"""Walk the headers of one layer's archive: blocks of bytes in, :class:`Header` records out.

Data is skipped by arithmetic. Extended headers (pax ``x`` and ``g``, GNU ``L`` and ``K``, sparse
maps) are joined into the entry they describe. Rules where tools differ:

1. A pax record wins over a GNU long name, that over the header block; local over global records;
   an empty value takes a record back. Of two ``x`` headers in a row the later counts.
2. Only regular files have data. A hard link that claims data is refused: readers disagree on
   whether the data is there, so one archive could show two trees.
3. Type ``7`` (contiguous) is a regular file; a v7 file whose name ends in a slash is a directory;
   any type not named here is refused.
4. The archive ends at two zero blocks, or where the stream ends between entries. One zero block
   with something else after it is refused. What follows the end does not matter.
5. Global records count for all later entries, as POSIX says. Of those without a meaning here nothing is
   kept; the others together may not give to entries more than the archive itself holds.
"""

from collections.abc import Iterator
from typing import NamedTuple

from lxdocker_lxd.convert.layer import pax, sparse_map
from lxdocker_lxd.convert.layer.byte_cursor import ByteCursor
from lxdocker_lxd.convert.layer.entry_name import NameMeaning, clean, meaning
from lxdocker_lxd.convert.layer.errors import (
    CorruptArchiveError,
    LayerError,
    LayerLimitError,
    UnsafeLinkError,
    UnsafeNameError,
    UnsupportedEntryError,
)
from lxdocker_lxd.convert.layer.headers import Attributes, Header, Kind
from lxdocker_lxd.convert.layer.limits import LayerLimits
from lxdocker_lxd.convert.layer.sparse_map import SparseMap
from lxdocker_lxd.convert.layer.tar_header import BLOCK_BYTES, ZERO_BLOCK, TarHeader, parse_header

_KINDS = {
    b"0": Kind.FILE,
    b"\0": Kind.FILE,
    b"7": Kind.FILE,
    b"S": Kind.FILE,
    b"1": Kind.HARD_LINK,
    b"2": Kind.SYMLINK,
    b"3": Kind.CHARACTER_DEVICE,
    b"4": Kind.BLOCK_DEVICE,
    b"5": Kind.DIRECTORY,
    b"6": Kind.FIFO,
}
_DEVICES = (Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE)
_EXTENSIONS = frozenset((b"x", b"g", b"L", b"K"))
_NANOSECONDS = 1_000_000_000
_LARGEST_ID = (1 << 32) - 2
_LARGEST_MAJOR = (1 << 12) - 1
_LARGEST_MINOR = (1 << 20) - 1
_MODE_BITS = 0o7777
_REGION_COST_BYTES = 64
_RECORD_COST_BYTES = 128
_FREE_GLOBAL_BYTES = 1 << 16
_NO_DEVICE = (0, 0)


class _Extensions(NamedTuple):
    """What extension headers said about the entry that follows them."""

    records: pax.Records = ()
    long_name: bytes | None = None
    long_link: bytes | None = None


_NOTHING_EXTENDED = _Extensions()


class ArchiveWalk:
    """One walk over one archive; iterate :meth:`headers` once."""

    def __init__(self, cursor: ByteCursor, limits: LayerLimits) -> None:
        self._cursor = cursor
        self._limits = limits
        self._globals: dict[bytes, bytes] = {}
        self._globals_bytes = 0
        self._given_bytes = 0
        self._metadata_bytes = 0
        self.entry: bytes | None = None
        """The name as far as it is known of the entry being read, for messages."""

    def headers(self) -> Iterator[Header]:
        """Yield the entries that mean something, in archive order; raise LayerError leaves."""
        extensions = _NOTHING_EXTENDED
        count = 0
        while (block := self._header_block()) is not None:
            tar = parse_header(block)
            self.entry = tar.name
            if tar.typeflag in _EXTENSIONS:
                extensions = self._extended(tar, extensions)
                continue
            count += 1
            if count > self._limits.entries:
                raise LayerLimitError(f"more than {self._limits.entries} entries (entries)")
            header = self._entry(tar, block, extensions)
            extensions = _NOTHING_EXTENDED
            if header is not None:
                yield header
        if extensions is not _NOTHING_EXTENDED:
            raise CorruptArchiveError("the archive ends between an extended header and its entry")
        self.entry = None

    def _header_block(self) -> bytes | None:
        block = self._cursor.take(BLOCK_BYTES)
        if not block:
            return None
        if len(block) < BLOCK_BYTES:
            raise CorruptArchiveError("the archive ends in the middle of a header")
        if block != ZERO_BLOCK:
            return block
        after = self._cursor.take(BLOCK_BYTES)
        if after and after != ZERO_BLOCK[: len(after)]:
            raise CorruptArchiveError("a zero block with more entries after it")
        return None

    def _extended(self, tar: TarHeader, before: _Extensions) -> _Extensions:
        if tar.size_bytes > self._limits.header_bytes:
            raise LayerLimitError(
                f"an extended header of {tar.size_bytes} bytes,"
                f" {self._limits.header_bytes} are allowed (header_bytes)",
            )
        payload = self._cursor.take(tar.size_bytes)
        padding = -tar.size_bytes % BLOCK_BYTES
        if len(payload) < tar.size_bytes or not self._cursor.skip(padding):
            raise CorruptArchiveError("the archive ends in the middle of an extended header")
        if tar.typeflag == b"L":
            return before._replace(long_name=payload.partition(b"\0")[0])
        if tar.typeflag == b"K":
            return before._replace(long_link=payload.partition(b"\0")[0])
        records = pax.parse_records(payload)
        if tar.typeflag == b"x":
            return before._replace(records=records)
        self._remember(records)
        return before

    def _remember(self, records: pax.Records) -> None:
        """Keep the global records that mean something; an empty value takes one back."""
        for key, value in records:
            if not pax.has_meaning(key):
                continue
            before = self._globals.pop(key, None)
            if before is not None:
                self._globals_bytes -= len(key) + len(before)
            if value:
                self._globals[key] = value
                self._globals_bytes += len(key) + len(value)
        if self._globals_bytes > self._limits.header_bytes:
            raise LayerLimitError("its global records exceed the limit header_bytes")

    def _charge_globals(self) -> None:
        """Count what the global records give to one more entry; raise LayerLimitError."""
        self._given_bytes += self._globals_bytes + _RECORD_COST_BYTES * len(self._globals)
        if self._given_bytes > _FREE_GLOBAL_BYTES + self._cursor.position_bytes:
            raise LayerLimitError(
                "its global records give to entries more than the whole archive holds"
            )

    def _entry(self, tar: TarHeader, block: bytes, extensions: _Extensions) -> Header | None:
        records: dict[bytes, bytes] = {}
        if self._globals:
            self._charge_globals()
        if self._globals or extensions.records:
            records = {**self._globals, **dict(extensions.records)}
            records = {key: value for key, value in records.items() if value}
        name = records.get(b"path", extensions.long_name or tar.name)
        name = records.get(b"GNU.sparse.name", name)
        self.entry = name
        kind = self._kind(tar, name)
        size_bytes, offset_bytes, sparse = self._data(tar, block, kind, records, extensions)
        path = clean(name, self._limits)
        asked, path = meaning(path)
        if asked is NameMeaning.IGNORED:
            return None
        if asked is NameMeaning.PLAIN:
            if not path and kind is not Kind.DIRECTORY:
                raise UnsafeNameError("the root itself must be a directory")
            target = self._target(kind, records.get(b"linkpath", extensions.long_link), tar)
        else:
            kind = Kind.WHITEOUT if asked is NameMeaning.WHITEOUT else Kind.OPAQUE
            target, size_bytes, sparse = b"", 0, None
        xattrs = self._xattrs(records) if records else ()
        self._account(path, target, xattrs, sparse)
        return Header(
            path,
            kind,
            tar.mode & _MODE_BITS,
            self._identity(tar.uid, records, b"uid"),
            self._identity(tar.gid, records, b"gid"),
            self._mtime_ns(tar, records),
            size_bytes,
            offset_bytes,
            target,
            self._device(tar, kind),
            xattrs,
            sparse,
        )

    def _kind(self, tar: TarHeader, name: bytes) -> Kind:
        kind = _KINDS.get(tar.typeflag)
        if kind is None:
            raise UnsupportedEntryError(f"entries of tar type {tar.typeflag!r} are not supported")
        if tar.typeflag == b"\0" and name.endswith(b"/"):
            return Kind.DIRECTORY
        return kind

    def _data(
        self,
        tar: TarHeader,
        block: bytes,
        kind: Kind,
        records: dict[bytes, bytes],
        extensions: _Extensions,
    ) -> tuple[int, int, SparseMap | None]:
        """Pass the entry's data; return its expanded size, where it is stored, and its map."""
        stored_bytes = tar.size_bytes
        if b"size" in records:
            stored_bytes = pax.whole_number(records[b"size"], "size")
        if kind is not Kind.FILE:
            if kind is Kind.HARD_LINK and stored_bytes:
                raise CorruptArchiveError("a hard link with data of its own")
            return 0, self._cursor.position_bytes, None
        regions: SparseMap | None = None
        size_bytes = stored_bytes
        map_bytes = 0
        if tar.typeflag == b"S":
            limit_bytes = self._limits.header_bytes
            regions, size_bytes = sparse_map.old_gnu(block, self._block, limit_bytes)
        elif any(key.startswith(b"GNU.sparse.") for key in records):
            regions, size_bytes, map_bytes = self._pax_sparse(records, extensions, stored_bytes)
        data_bytes = stored_bytes - map_bytes
        if regions is not None:
            regions = sparse_map.checked(regions, stored_bytes=data_bytes, real_bytes=size_bytes)
        if size_bytes > self._limits.content_bytes:
            raise LayerLimitError(
                f"a file of {size_bytes} bytes,"
                f" {self._limits.content_bytes} are allowed (content_bytes)",
            )
        offset_bytes = self._cursor.position_bytes
        if not self._cursor.skip(data_bytes):
            raise CorruptArchiveError("the archive ends in the middle of a file's data")
        # A last file without its padding is complete all the same, as in other readers.
        self._cursor.skip(-stored_bytes % BLOCK_BYTES)
        return size_bytes, offset_bytes, regions

    def _pax_sparse(
        self,
        records: dict[bytes, bytes],
        extensions: _Extensions,
        stored_bytes: int,
    ) -> tuple[SparseMap | None, int, int]:
        real = records.get(b"GNU.sparse.realsize", records.get(b"GNU.sparse.size"))
        if real is None:
            return None, stored_bytes, 0
        real_bytes = pax.whole_number(real, "real size")
        if records.get(b"GNU.sparse.major") == b"1":
            regions, map_bytes = sparse_map.pax_1(self._block, self._limits.header_bytes)
            return regions, real_bytes, map_bytes
        regions_0 = sparse_map.pax_0(extensions.records)
        return regions_0, real_bytes if regions_0 is not None else stored_bytes, 0

    def _block(self) -> bytes:
        block = self._cursor.take(BLOCK_BYTES)
        if len(block) < BLOCK_BYTES:
            raise CorruptArchiveError("the archive ends in the middle of a sparse map")
        return block

    def _target(self, kind: Kind, longer: bytes | None, tar: TarHeader) -> bytes:
        if kind is not Kind.SYMLINK and kind is not Kind.HARD_LINK:
            return b""
        target = longer or tar.link_name
        if not target or b"\0" in target or len(target) >= self._limits.path_bytes:
            raise UnsafeLinkError("its target is empty, too long or holds a NUL byte")
        if kind is Kind.SYMLINK:
            return target
        try:
            return clean(target, self._limits)
        except UnsafeNameError as error:
            raise UnsafeLinkError(f"hard link to {target[:200]!r}: {error.reason}") from error

    def _identity(self, value: int, records: dict[bytes, bytes], key: bytes) -> int:
        if key in records:
            value = pax.whole_number(records[key], key.decode())
        if value > _LARGEST_ID:
            raise CorruptArchiveError(f"its {key.decode()} {value} does not fit in 32 bits")
        return value

    def _mtime_ns(self, tar: TarHeader, records: dict[bytes, bytes]) -> int:
        if b"mtime" in records:
            return pax.nanoseconds(records[b"mtime"], "mtime")
        return tar.mtime_seconds * _NANOSECONDS

    def _device(self, tar: TarHeader, kind: Kind) -> tuple[int, int]:
        if kind not in _DEVICES:
            return _NO_DEVICE
        if tar.device_major > _LARGEST_MAJOR or tar.device_minor > _LARGEST_MINOR:
            raise CorruptArchiveError(
                f"its device number {tar.device_major}:{tar.device_minor} does not exist on Linux",
            )
        return tar.device_major, tar.device_minor

    def _xattrs(self, records: dict[bytes, bytes]) -> Attributes:
        xattrs = pax.extended_attributes(records)
        for name, value in xattrs:
            if not name or b"\0" in name or len(name) > self._limits.xattr_name_bytes:
                raise CorruptArchiveError(f"an extended attribute is called {name[:80]!r}")
            if len(value) > self._limits.xattr_value_bytes:
                raise LayerLimitError(
                    f"extended attribute {name!r} has {len(value)} bytes,"
                    f" {self._limits.xattr_value_bytes} are allowed (xattr_value_bytes)",
                )
        return xattrs

    def _account(
        self,
        path: bytes,
        target: bytes,
        xattrs: Attributes,
        sparse: SparseMap | None,
    ) -> None:
        self._metadata_bytes += len(path) + len(target)
        if xattrs:
            self._metadata_bytes += sum(len(name) + len(value) for name, value in xattrs)
        if sparse:
            self._metadata_bytes += _REGION_COST_BYTES * len(sparse)
        if self._metadata_bytes > self._limits.metadata_bytes:
            raise LayerLimitError(
                f"names and attributes exceed {self._limits.metadata_bytes} bytes (metadata_bytes)",
            )


def walk(cursor: ByteCursor, *, layer: str, limits: LayerLimits) -> Iterator[Header]:
    """Yield the entries of an archive; every error names the layer and the entry."""
    archive = ArchiveWalk(cursor, limits)
    try:
        yield from archive.headers()
    except LayerError as error:
        raise error.at(layer=layer, entry=archive.entry) from error
