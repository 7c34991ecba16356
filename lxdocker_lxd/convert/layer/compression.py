"""Inflate a layer: stored, gzip or zstd; the first bytes decide, never a media type.

gzip (RFC 1952): several members one after the other, and zero bytes after the last one, are legal.
zstd (RFC 8878): several frames and skippable frames, as zstd:chunked writes them, are legal.
Anything else after the end is an error, and so is a stream that ends early. isal decodes gzip two
to three times as fast as zlib with the same bytes; where it has no build, zlib takes over.

Not handled: bzip2 and xz. No image specification allows them for layers.
"""

import io
import re
import sys
import zlib
from collections.abc import Callable
from typing import Any, Protocol

from lxdocker_lxd.convert.layer.errors import (
    CorruptStreamError,
    LayerLimitError,
    UnsupportedCompressionError,
)
from lxdocker_lxd.digest import ByteStream

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

try:
    from isal import isal_zlib
except ImportError:
    _fast_zlib: Any = zlib
else:
    _fast_zlib = isal_zlib

_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE_MAGIC_HEAD = 0x50
_SKIPPABLE_MAGIC_TAIL = b"\x2a\x4d\x18"
_REFUSED = {b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x04\x22\x4d\x18": "lz4"}
_MAGIC_BYTES = 6
_INPUT_BYTES = 1 << 18
_FIRST_PIECE_BYTES = 1 << 9
_LEAST_OUTPUT_BYTES = 1 << 16
MOST_MEMBERS = 2_000_000
"""Members or frames of one layer: two for each entry. Each costs a decoder, however short it is."""

_NO_PADDING = re.compile(rb"[^\0]")
_WITH_GZIP_HEADER = 31


class _Member(Protocol):
    """One gzip member or zstd frame being decoded; what zlib and zstd objects have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Inflater(io.RawIOBase):
    """Reads compressed members one after the other as one stream.

    ``read`` returns up to the asked number of bytes, possibly fewer, and ``b""`` at the end.
    """

    format_name = ""
    errors: tuple[type[Exception], ...] = ()

    def __init__(
        self, file: ByteStream, new_member: Callable[[], _Member], most_members: int
    ) -> None:
        super().__init__()
        self._members_left = most_members
        self._file = file
        self._new_member = new_member
        self._member: _Member | None = None
        self._input = b""
        self._at = 0
        # What a decoder is given at once. It grows with the member: a decoder gives back a copy of
        # what follows the end, which may cost no more than the member itself.
        self._piece_bytes = _FIRST_PIECE_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 - any writable buffer, as in io
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` inflated bytes (all for a negative size).

        Raises CorruptStreamError when the stream ends early or does not decode.
        """
        if size < 0:
            return self.readall()
        pieces: list[bytes] = []
        missing = size
        # Members of a few bytes are passed on together: each piece costs whoever reads it.
        while missing > 0 and size - missing < _LEAST_OUTPUT_BYTES:
            if self._member is None:
                if not self._more_members():
                    break
                self._member = self._counted_member()
                self._piece_bytes = _FIRST_PIECE_BYTES
            try:
                data = self._decode(self._member, missing)
            except self.errors as error:
                raise CorruptStreamError(f"broken {self.format_name} data: {error}") from error
            pieces.append(data)
            missing -= len(data)
        return b"".join(pieces)

    def _counted_member(self) -> _Member:
        self._members_left -= 1
        if self._members_left < 0:
            raise LayerLimitError(f"its {self.format_name} data is in too many pieces (members)")
        return self._new_member()

    def _decode(self, member: _Member, size: int) -> bytes:
        piece = b""
        wants_input = self._wants_input(member)
        if wants_input:
            if self._at == len(self._input):
                self._input, self._at = self._file.read(_INPUT_BYTES), 0
            piece = self._input[self._at : self._at + self._piece_bytes]
            self._piece_bytes = min(2 * self._piece_bytes, _INPUT_BYTES)
        # Without input, what the decoder still holds must come out before the end counts as early.
        data = member.decompress(piece, size)
        self._at += len(piece)
        if member.eof:
            self._at -= len(member.unused_data)
            self._member = None
        elif wants_input and not piece and not data:
            raise CorruptStreamError(
                f"the {self.format_name} data ends in the middle of a stream",
            )
        else:
            self._at -= len(self._rest(member))
        return data

    def _more_members(self) -> bool:
        """Skip padding between members; say whether another one follows.

        Decides before a decoder sees the bytes: zlib would complain, isal wait for more.
        """
        while True:
            self._skip_padding()
            if len(self._input) - self._at >= _MAGIC_BYTES:
                break
            more = self._file.read(_INPUT_BYTES)
            if not more:
                break
            self._input, self._at = self._input[self._at :] + more, 0
        start = self._input[self._at : self._at + _MAGIC_BYTES]
        if start and not self._starts_member(start):
            raise CorruptStreamError(f"broken {self.format_name} data: other bytes follow its end")
        return bool(start)

    def _skip_padding(self) -> None:
        """Pass what may stand between members."""

    def _starts_member(self, data: bytes) -> bool:
        raise NotImplementedError

    def _wants_input(self, member: Any) -> bool:  # noqa: ANN401 - differs by decoder
        raise NotImplementedError

    def _rest(self, member: Any) -> bytes:  # noqa: ANN401 - differs by decoder
        raise NotImplementedError


class _GzipInflater(_Inflater):
    format_name = "gzip"
    errors = (zlib.error, _fast_zlib.error)

    def _skip_padding(self) -> None:
        found = _NO_PADDING.search(self._input, self._at)
        self._at = found.start() if found else len(self._input)

    def _starts_member(self, data: bytes) -> bool:
        return data.startswith(_GZIP_MAGIC)

    def _wants_input(self, member: Any) -> bool:  # noqa: ANN401 - zlib's or isal's object
        del member
        return True

    def _rest(self, member: Any) -> bytes:  # noqa: ANN401 - zlib's or isal's object
        rest: bytes = member.unconsumed_tail
        return rest


class _ZstdInflater(_Inflater):
    format_name = "zstd"
    errors = (zstd.ZstdError,)

    def _starts_member(self, data: bytes) -> bool:
        return _is_zstd(data)

    def _wants_input(self, member: Any) -> bool:  # noqa: ANN401 - types differ by Python version
        wants: bool = member.needs_input
        return wants

    def _rest(self, member: Any) -> bytes:  # noqa: ANN401 - types differ by Python version
        del member
        return b""


class _Stored(io.RawIOBase):
    """A layer that isn't compressed: the bytes already read, then the rest of the file."""

    def __init__(self, file: ByteStream, start: bytes) -> None:
        super().__init__()
        self._file = file
        self._start = start

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 - any writable buffer, as in io
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes (all for a negative size)."""
        if not self._start:
            return self._file.read(size)
        if size < 0:
            data, self._start = self._start + self._file.read(), b""
        elif size < len(self._start):
            data, self._start = self._start[:size], self._start[size:]
        else:
            data, self._start = self._start + self._file.read(size - len(self._start)), b""
        return data


def _is_zstd(data: bytes) -> bool:
    if data.startswith(_ZSTD_MAGIC):
        return True
    # Skippable frames have sixteen magic numbers.
    return data[1:4] == _SKIPPABLE_MAGIC_TAIL and data[0] & 0xF0 == _SKIPPABLE_MAGIC_HEAD


def gzip_stream(file: ByteStream, decoder: Any) -> io.RawIOBase:  # noqa: ANN401 - a module
    """Return the inflated content of a gzip ``file``, decoded by ``zlib`` or a module like it."""
    return _gzip_stream(file, decoder, MOST_MEMBERS)


def _gzip_stream(file: ByteStream, decoder: Any, most_members: int) -> io.RawIOBase:  # noqa: ANN401 - a module
    return _GzipInflater(file, lambda: decoder.decompressobj(_WITH_GZIP_HEADER), most_members)


def inflate(file: ByteStream, *, most_members: int = MOST_MEMBERS) -> io.RawIOBase:
    """Return the inflated content of ``file``, read from its current position to its end.

    The result has ``read`` and ``readinto``; both may give fewer bytes than asked, and give none
    at the end only. Reading raises CorruptStreamError for data that ends early or does not decode;
    this call raises UnsupportedCompressionError for bzip2, xz and lz4.
    """
    start = b""
    while len(start) < _MAGIC_BYTES and (more := file.read(_MAGIC_BYTES - len(start))):
        start += more
    for magic, name in _REFUSED.items():
        if start.startswith(magic):
            raise UnsupportedCompressionError(f"layers compressed with {name} are not supported")
    rest = _Stored(file, start)
    if start.startswith(_GZIP_MAGIC):
        return _gzip_stream(rest, _fast_zlib, most_members)
    if _is_zstd(start):
        return _ZstdInflater(rest, zstd.ZstdDecompressor, most_members)
    return rest
