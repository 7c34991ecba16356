"""What a layer costs to read is proportional to its size, whatever its author thought of.

Each shape once made the work or the memory grow with the square of the input, or could have.
"""

import gzip
import io
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from backports import zstd

from lxdocker_lxd.convert.layer.compression import inflate
from lxdocker_lxd.convert.layer.errors import LayerError, LayerLimitError
from lxdocker_lxd.convert.layer.limits import LayerLimits
from lxdocker_lxd.convert.layer.merge import merge
from lxdocker_lxd.convert.layer.scan import scan
from tests.harness.growth import expect_proportional
from tests.layers.tar_builder import BLOCK, digest_of, padded, pax_member, raw_header, record
from tests.layers.trees import emitted

LIMITS = LayerLimits()
END = bytes(2 * BLOCK)


def read(archives: list[bytes]) -> None:
    """Read, merge and write layers; a refusal is as good an answer, if it comes as soon."""
    with tempfile.TemporaryDirectory() as name:
        paths = [Path(name) / str(number) for number in range(len(archives))]
        try:
            found = []
            for path, content in zip(paths, archives, strict=True):
                path.write_bytes(content)
                found.append(scan(path, diff_id=digest_of(content), layer=path.name, limits=LIMITS))
            emitted(merge(found, LIMITS), paths)
        except LayerError:
            pass


def files(count: int, directory: str = "d") -> bytes:
    return b"".join(raw_header(f"{directory}/f{n}".encode()) for n in range(count))


def plain(size: int) -> list[bytes]:
    return [files(size) + END]


def extended(size: int) -> list[bytes]:
    """Every entry has records and attributes of its own."""
    return [
        b"".join(
            pax_member(
                record("path", f"d/{n}" + "x" * 150)
                + record("mtime", f"{n}.5")
                + record("SCHILY.xattr.user.a", "1")
            )
            + raw_header(b"short")
            for n in range(size)
        )
        + END
    ]


def global_records(size: int) -> list[bytes]:
    """One header for all entries holds many records that mean nothing."""
    records = b"".join(record(f"comment{n}", "x") for n in range(size))
    return [pax_member(records, typeflag=b"g") + files(size) + END]


def global_attributes(size: int) -> list[bytes]:
    records = b"".join(record(f"SCHILY.xattr.user.{n}", "x") for n in range(size))
    return [pax_member(records, typeflag=b"g") + files(size) + END]


def global_headers(size: int) -> list[bytes]:
    """Many headers for all entries, each with one more attribute."""
    headers = (
        pax_member(record(f"SCHILY.xattr.user.{n}", "x"), typeflag=b"g") for n in range(size)
    )
    return [b"".join(headers) + files(1) + END]


def global_name(size: int) -> list[bytes]:
    """A name for all entries that is short only once it is read."""
    header = pax_member(record("path", "a/../" * size + "x"), typeflag=b"g")
    return [header + files(size) + END]


def sparse_map(size: int) -> list[bytes]:
    """The map before the data ends late."""
    numbers = padded(b"%d\n" % (size * 100) + b"".join(b"%d\n0\n" % n for n in range(size * 100)))
    header = pax_member(
        record("GNU.sparse.major", "1") + record("GNU.sparse.realsize", str(1 << 20))
    )
    return [header + raw_header(b"f", size=len(numbers)) + numbers + END]


def long_links(size: int) -> list[bytes]:
    """Each parent is asked for by another name, all through one chain of long links."""
    links = b"".join(
        pax_member(record("linkpath", "d/../" * min(size, 800) + (f"l{n + 1}" if n < 38 else "d")))
        + raw_header(b"l%d" % n, typeflag=b"2")
        for n in range(39)
    )
    named = b"".join(raw_header(b"l0/p%d/f" % n) for n in range(size))
    return [raw_header(b"d/", typeflag=b"5") + links + named + END]


def opaque_again(size: int) -> list[bytes]:
    """One directory is emptied of what lower layers put there again and again."""
    return [files(1), files(size) + raw_header(b"d/.wh..wh..opq") * size + END]


def hidden_again(size: int) -> list[bytes]:
    return [files(1), files(size) + raw_header(b".wh.d") * size + END]


def replaced(size: int) -> list[bytes]:
    """A link is replaced after each file, which makes all known parents unsure."""
    return [
        b"".join(
            raw_header(b"d%d/f" % n) + raw_header(b"l", typeflag=b"2", target=b"d0")
            for n in range(size)
        )
        + END
    ]


def early_links(size: int) -> list[bytes]:
    """Hard links come before their target."""
    links = b"".join(raw_header(b"h%d" % n, typeflag=b"1", target=b"z") for n in range(size))
    return [links + raw_header(b"z") + END]


def deep_names(size: int) -> list[bytes]:
    """Short names in the layer that a link makes long ones in the image."""
    deep = "/".join(itertools.repeat("d" * 200, 18))
    link = pax_member(record("linkpath", deep)) + raw_header(b"l", typeflag=b"2")
    entry = pax_member(record("path", deep + "/")) + raw_header(b"d/", typeflag=b"5")
    return [entry + link + files(size, "l") + END]


SHAPES: list[tuple[Callable[[int], list[bytes]], int]] = [
    (plain, 500),
    (extended, 300),
    (global_records, 500),
    (global_attributes, 500),
    (global_headers, 1000),
    (global_name, 300),
    (sparse_map, 100),
    (long_links, 100),
    (opaque_again, 500),
    (hidden_again, 500),
    (replaced, 500),
    (early_links, 1000),
    (deep_names, 500),
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape[0].__name__)
def test_twice_the_archive_costs_twice_as_much(
    shape: tuple[Callable[[int], list[bytes]], int],
) -> None:
    make, size = shape
    expect_proportional(make, read, size)


def inflated(content: bytes) -> int:
    stream = inflate(io.BytesIO(content))
    total = 0
    while piece := stream.read(1 << 20):
        total += len(piece)
    return total


SKIPPABLE = b"\x50\x2a\x4d\x18" + bytes(4)
STREAMS = {
    "zstd frames without content": zstd.compress(b""),
    "zstd frames to be skipped": SKIPPABLE,
    "gzip members without content": gzip.compress(b""),
    "gzip members of a byte": gzip.compress(b"x"),
    "gzip members between zeros": gzip.compress(b"x") + bytes(300),
    "zstd frames of a byte": zstd.compress(b"x"),
}


@pytest.mark.parametrize("piece", STREAMS.values(), ids=STREAMS)
def test_twice_the_frames_cost_twice_as_much(piece: bytes) -> None:
    expect_proportional(lambda size: piece * (size // len(piece)), inflated, 1 << 14)


@pytest.mark.parametrize("piece", STREAMS.values(), ids=STREAMS)
def test_a_stream_of_too_many_pieces_is_refused(piece: bytes) -> None:
    """Each costs a decoder, so that a gigabyte of empty ones would take an hour."""
    inflate(io.BytesIO(piece * 100), most_members=100).read()
    with pytest.raises(LayerLimitError, match="too many pieces"):
        inflate(io.BytesIO(piece * 101), most_members=100).read()
