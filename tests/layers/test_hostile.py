"""Hostile layers: each is refused with a named error that tells layer, entry and rule.

Every input runs through scan, merge and the final stream with a directory of this machine within
reach of its names and links; afterwards that directory is byte for byte what it was.
"""

import gzip
import io
import tempfile
import zlib
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.convert.layer.errors import (
    LayerError,
)
from lxdocker_lxd.convert.layer.merge import merge
from lxdocker_lxd.convert.layer.scan import scan
from lxdocker_lxd.digest import Digest, DigestMismatchError
from lxdocker_lxd.errors import VerificationError
from tests.harness.snapshots import Snapshot, read_directory, read_tar
from tests.layers.attacks import ATTACKS, PLAIN, SMALL, Attack
from tests.layers.tar_builder import (
    archive,
    d,
    digest_of,
    f,
    hard,
    link,
    xattr_records,
)
from tests.layers.trees import emitted


def test_there_are_at_least_thirty() -> None:
    assert len({hostile.name for hostile in ATTACKS}) == len(ATTACKS) >= 30


@pytest.fixture
def host(tmp_path: Path) -> Path:
    directory = tmp_path / "machine"
    directory.mkdir()
    (directory / "canary").write_bytes(b"must stay")
    return directory


def convert(hostile: Attack, host: Path, directory: Path) -> None:
    paths, headers = [], []
    for index, content in enumerate(hostile.layers(str(host))):
        path = directory / f"layer{index}"
        path.write_bytes(content)
        paths.append(path)
        headers.append(
            scan(path, diff_id=inflated_digest(content), layer=f"L{index}", limits=hostile.limits),
        )
    emitted(merge(headers, hostile.limits), paths)


def inflated_digest(content: bytes) -> Digest:
    """What an attacker would write into the image's configuration."""
    try:
        if content.startswith(b"\x1f\x8b"):
            return digest_of(gzip.decompress(content))
        if content.startswith(b"\x28\xb5\x2f\xfd"):
            return digest_of(zstd.decompress(content))
    except (OSError, EOFError, zlib.error, zstd.ZstdError):
        pass
    return digest_of(content)


@pytest.mark.parametrize("hostile", ATTACKS, ids=lambda hostile: hostile.name)
def test_attack_is_refused(hostile: Attack, host: Path, tmp_path: Path) -> None:
    before: Snapshot = read_directory(tmp_path / "machine")
    layers = tmp_path / "layers"
    layers.mkdir()
    with pytest.raises(hostile.error, match="layer") as raised:
        convert(hostile, host, layers)
    error = raised.value
    assert hostile.says in error.message
    assert isinstance(error, VerificationError)
    assert error.exit_code == 6
    assert error.hint
    assert isinstance(error, LayerError)
    assert error.layer
    assert read_directory(host) == before
    assert (host / "canary").read_bytes() == b"must stay"


def test_wrong_diff_id_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "layer"
    path.write_bytes(PLAIN)
    with pytest.raises(DigestMismatchError, match="expected diff_id sha256:"):
        scan(path, diff_id=digest_of(b"other"), layer="L0", limits=SMALL)


def test_bytes_after_the_end_count_for_the_digest(tmp_path: Path) -> None:
    """A reader that stops at the end marker would accept any tail (umoci and crane once did)."""
    path = tmp_path / "layer"
    path.write_bytes(PLAIN + b"tail")
    with pytest.raises(DigestMismatchError):
        scan(path, diff_id=digest_of(PLAIN), layer="L0", limits=SMALL)
    assert scan(path, diff_id=digest_of(PLAIN + b"tail"), layer="L0", limits=SMALL)


DAMAGED = archive(
    d("d/"),
    f("d/f", "x" * 700, records=xattr_records({"user.a": b"1"})),
    link("l", "d"),
    hard("h", "d/f"),
    f("n" * 120),
)


@given(st.lists(st.tuples(st.integers(0, len(DAMAGED) - 1), st.integers(0, 255)), max_size=6))
def test_damaged_archives_never_crash(changes: list[tuple[int, int]]) -> None:
    """Whatever some changed bytes do, the outcome is a tree or a named error."""
    content = bytearray(DAMAGED)
    for position, value in changes:
        content[position] = value
    stream = b""
    refusal: LayerError | None = None
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "layer"
        path.write_bytes(content)
        try:
            headers = scan(path, diff_id=digest_of(bytes(content)), layer="L0", limits=SMALL)
            stream = emitted(merge([headers], SMALL), [path])
        except LayerError as error:
            refusal = error
    assert (refusal is None) != (not stream)
    assert refusal is None or refusal.layer == "L0"
    if stream:
        read_tar(io.BytesIO(stream))
