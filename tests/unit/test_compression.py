"""Inflating: the same bytes from every form a layer may come in, and from isal and zlib alike."""

import gzip
import io
import struct
import zlib

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.convert.layer import compression
from lxdocker_lxd.convert.layer.compression import inflate
from lxdocker_lxd.convert.layer.errors import CorruptStreamError, UnsupportedCompressionError

CONTENT = b"".join(b"line %d\n" % number for number in range(50_000))


def read_all(content: bytes, piece_bytes: int = 1 << 16) -> bytes:
    stream = inflate(io.BytesIO(content))
    pieces = []
    while piece := stream.read(piece_bytes):
        assert len(piece) <= piece_bytes
        pieces.append(piece)
    assert stream.read(piece_bytes) == b""
    return b"".join(pieces)


def skippable(payload: bytes, number: int = 0) -> bytes:
    return struct.pack("<II", 0x184D2A50 + number, len(payload)) + payload


def members(compress: object) -> list[bytes]:
    thirds = [CONTENT[start : start + 200_000] for start in range(0, len(CONTENT), 200_000)]
    return [compress(third) for third in thirds]  # type: ignore[operator]  # gzip's or zstd's function


@pytest.mark.parametrize(
    "content",
    [
        CONTENT,
        gzip.compress(CONTENT),
        b"".join(members(gzip.compress)),
        gzip.compress(CONTENT) + bytes(1000),
        gzip.compress(b"") + gzip.compress(CONTENT) + gzip.compress(b""),
        gzip.compress(CONTENT[:7]) + bytes(3) + gzip.compress(CONTENT[7:]),
        zstd.compress(CONTENT),
        b"".join(members(zstd.compress)),
        skippable(b"first") + zstd.compress(CONTENT) + skippable(b"table of contents", 15),
        zstd.compress(CONTENT[:9]) + skippable(b"") + zstd.compress(CONTENT[9:]),
    ],
    ids=[
        "stored",
        "gzip",
        "gzip members",
        "gzip and zeros",
        "gzip with empty members",
        "gzip members with zeros between",
        "zstd",
        "zstd frames",
        "zstd between skippable frames",
        "zstd frames with a skippable one between",
    ],
)
@pytest.mark.parametrize("piece_bytes", [1, 1000, 1 << 20])
def test_every_form_gives_the_content(content: bytes, piece_bytes: int) -> None:
    if piece_bytes == 1:
        stream = inflate(io.BytesIO(content))
        assert b"".join(stream.read(1) for _ in range(100)) == CONTENT[:100]
    else:
        assert read_all(content, piece_bytes) == CONTENT


@pytest.mark.parametrize("content", [b"", b"a", b"\x1f", b"\x28\xb5\x2f", b"abcdefgh"])
def test_short_and_unknown_content_passes_as_it_is(content: bytes) -> None:
    assert read_all(content) == content
    assert inflate(io.BytesIO(content)).read() == content


def test_readinto_and_reading_everything_at_once() -> None:
    buffered = io.BufferedReader(inflate(io.BytesIO(gzip.compress(CONTENT))))
    assert buffered.read(10) == CONTENT[:10]
    assert buffered.read() == CONTENT[10:]
    stored = io.BufferedReader(inflate(io.BytesIO(CONTENT)))
    assert stored.read(10) + stored.read() == CONTENT
    assert inflate(io.BytesIO(gzip.compress(CONTENT))).read(0) == b""
    assert inflate(io.BytesIO(zstd.compress(CONTENT))).read() == CONTENT


@pytest.mark.parametrize(
    ("start", "name"),
    [(b"BZh9", "bzip2"), (b"\xfd7zXZ\x00", "xz"), (b"\x04\x22\x4d\x18", "lz4")],
)
def test_other_compressions_are_named(start: bytes, name: str) -> None:
    with pytest.raises(UnsupportedCompressionError, match=name):
        inflate(io.BytesIO(start + bytes(20)))


@given(st.binary(min_size=1, max_size=200), st.integers(1, 60))
def test_truncation_is_always_noticed(content: bytes, cut: int) -> None:
    for packed in (gzip.compress(content), zstd.compress(content)):
        short = packed[: max(len(packed) - cut, 6)]
        if short != packed:
            with pytest.raises(CorruptStreamError):
                read_all(short)


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5), st.integers(0, 40))
def test_isal_and_zlib_give_the_same_bytes(parts: list[bytes], zeros: int) -> None:
    packed = b"".join(map(gzip.compress, parts)) + bytes(zeros)
    by_zlib = compression.gzip_stream(io.BytesIO(packed), zlib)
    assert by_zlib.read() == read_all(packed) == b"".join(parts)


@pytest.mark.parametrize("tail", [b"garbage", b"\x1f", b"\0\0x", b"\x1f\x8b"])
def test_isal_and_zlib_refuse_the_same_tails(tail: bytes) -> None:
    packed = gzip.compress(CONTENT) + tail
    for stream in (compression.gzip_stream(io.BytesIO(packed), zlib), inflate(io.BytesIO(packed))):
        with pytest.raises(CorruptStreamError):
            stream.read()


def test_a_wrong_checksum_is_noticed() -> None:
    packed = bytearray(gzip.compress(CONTENT))
    packed[-6] ^= 1
    with pytest.raises(CorruptStreamError, match="broken gzip"):
        read_all(bytes(packed))
    framed = bytearray(zstd.compress(CONTENT, options={zstd.CompressionParameter.checksum_flag: 1}))
    framed[-1] ^= 1
    with pytest.raises(CorruptStreamError, match="broken zstd"):
        read_all(bytes(framed))
