"""The header index beside a blob: it saves the walk, and never lies."""

import gzip
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given

from lxdocker_lxd.convert.layer.headers import LayerHeaders, decode, encode
from lxdocker_lxd.convert.layer.limits import LayerLimits
from lxdocker_lxd.convert.layer.scan import load_or_scan, scan
from lxdocker_lxd.digest import Digest, DigestMismatchError
from lxdocker_lxd.errors import StorageError
from tests.layers.model import Stack
from tests.layers.stacks import stacks
from tests.layers.tar_builder import archive, char, d, digest_of, f, hard, link, xattr_records

LIMITS = LayerLimits()
CONTENT = archive(
    d("./"),
    f("caf\udce9", "x", uid=4294967294, records=xattr_records({"user.a": b"\0\xff"})),
    f("old", records={"mtime": "-1.5"}),
    link("l", "caf\udce9"),
    hard("h", "old"),
    char("c", 1, 3),
    f(".wh.gone"),
    f("a/.wh..wh..opq"),
)
DIFF_ID = digest_of(CONTENT)


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    path = tmp_path / "blob"
    path.write_bytes(CONTENT)
    return path


def load(blob: Path, cached: Path, limits: LayerLimits = LIMITS) -> LayerHeaders:
    return load_or_scan(blob, cached, diff_id=DIFF_ID, layer="L", limits=limits)


def test_second_time_the_blob_is_not_read(blob: Path, tmp_path: Path) -> None:
    cached = tmp_path / "headers" / "sha256" / "index"
    first = load(blob, cached)
    # Same size, other bytes: a walk over them would fail.
    blob.write_bytes(b"?" * len(CONTENT))
    assert load(blob, cached) == first


def test_index_holds_every_kind_exactly(blob: Path, tmp_path: Path) -> None:
    cached = tmp_path / "index"
    assert load(blob, cached) == load(blob, cached)
    assert load(blob, cached) == scan(blob, diff_id=DIFF_ID, layer="L", limits=LIMITS)


@pytest.mark.parametrize("position", [0, 30, 62, 100, -1])
def test_damaged_index_is_made_again(blob: Path, tmp_path: Path, position: int) -> None:
    cached = tmp_path / "index"
    first = load(blob, cached)
    good = cached.read_bytes()
    bad = bytearray(good)
    bad[position] ^= 1
    cached.write_bytes(bad)
    assert load(blob, cached) == first
    assert cached.read_bytes() == good


@pytest.mark.parametrize("content", [b"", b"{}", b"lxdocker-lxd layer headers 1\n"])
def test_foreign_index_is_made_again(blob: Path, tmp_path: Path, content: bytes) -> None:
    cached = tmp_path / "index"
    cached.write_bytes(content)
    assert load(blob, cached).headers


@pytest.mark.parametrize(
    "rows",
    [
        b"[" * 5000,
        b"[0]",
        b"[[]]",
        b'[["a",0,0,0,0,0,0,0,1,[],[],null]]',
        b'[["a",99]]',
        b"\xff",
    ],
)
def test_index_of_other_rows_with_a_right_digest_is_made_again(
    blob: Path, tmp_path: Path, rows: bytes
) -> None:
    """Some of these ended the conversion."""
    cached = tmp_path / "index"
    first = load(blob, cached)
    good = cached.read_bytes()
    start = good.index(b"\n") + 1
    about = gzip.decompress(good[start + 32 :]).splitlines(keepends=True)[0]
    payload = gzip.compress(about + rows)
    cached.write_bytes(good[:start] + hashlib.sha256(payload).digest() + payload)
    assert load(blob, cached) == first
    assert cached.read_bytes() == good


def test_index_of_another_blob_size_is_not_used(blob: Path, tmp_path: Path) -> None:
    cached = tmp_path / "index"
    load(blob, cached)
    blob.write_bytes(CONTENT + b"more")
    with pytest.raises(DigestMismatchError):
        load(blob, cached)


def test_index_made_under_other_limits_is_not_used(blob: Path, tmp_path: Path) -> None:
    cached = tmp_path / "index"
    load(blob, cached)
    narrow = replace(LIMITS, entries=3)
    with pytest.raises(Exception, match=r"more than 3 entries"):
        load(blob, cached, narrow)


def test_refused_layers_leave_no_index(blob: Path, tmp_path: Path) -> None:
    cached = tmp_path / "index"
    with pytest.raises(DigestMismatchError):
        load_or_scan(blob, cached, diff_id=digest_of(b""), layer="L", limits=LIMITS)
    assert not cached.exists()


def test_missing_blob_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="read layer"):
        load(tmp_path / "nothing", tmp_path / "index")
    with pytest.raises(StorageError, match="read layer"):
        scan(tmp_path / "nothing", diff_id=DIFF_ID, layer="L", limits=LIMITS)


def test_sha512_diff_ids_are_verified_too(blob: Path) -> None:
    wrong = Digest("sha512", "0" * 128)
    with pytest.raises(DigestMismatchError, match="got sha512:"):
        scan(blob, diff_id=wrong, layer="L", limits=LIMITS)


@given(stacks)
def test_any_layer_survives_storing(stack: Stack) -> None:
    content = archive(*stack[0])
    name = Path("/dev/shm") / f"lxdocker-index-{digest_of(content).encoded}"
    name.write_bytes(content)
    try:
        headers = scan(name, diff_id=digest_of(content), layer="L", limits=LIMITS)
    finally:
        name.unlink()
    stored = encode(headers, stored_bytes=len(content), limits=LIMITS)
    about = {"layer": "L", "diff_id": headers.diff_id, "stored_bytes": len(content)}
    assert decode(stored, limits=LIMITS, **about) == headers  # type: ignore[arg-type]  # the names above
    assert decode(stored, limits=replace(LIMITS, links=1), **about) is None  # type: ignore[arg-type]  # the names above
