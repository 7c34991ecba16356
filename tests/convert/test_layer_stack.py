"""An image's layers as a whole: bounded, and each read once."""

import gzip
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from lxdocker_lxd.convert.layer.errors import LayerLimitError
from lxdocker_lxd.convert.layer.limits import LayerLimits
from lxdocker_lxd.convert.layer_stack import merged
from lxdocker_lxd.convert.oci import Descriptor
from lxdocker_lxd.convert.pull import LayerBlob
from lxdocker_lxd.convert.store import Store
from lxdocker_lxd.digest import Digest, DigestMismatchError
from tests.convert.workshop import Workshop, outcome
from tests.layers.tar_builder import archive, f, pax_member, raw_header, record

LIMITS = LayerLimits(layers=4, entries=10_000)


def blob(directory: Path, *names: str) -> LayerBlob:
    return stored(directory, archive(*(f(name) for name in names)))


def stored(directory: Path, layer: bytes) -> LayerBlob:
    packed = gzip.compress(layer, mtime=0)
    digest = Digest.of(packed)
    path = directory / digest.encoded
    path.write_bytes(packed)
    descriptor = Descriptor(
        media_type="",
        digest=digest,
        size_bytes=len(packed),
        platform=None,
        annotations={},
        urls=(),
        data=None,
    )
    return LayerBlob(descriptor=descriptor, diff_id=Digest.of(layer), path=path)


def names(layers: Sequence[LayerBlob], store: Path, limits: LayerLimits = LIMITS) -> list[bytes]:
    return [path for path, _ in merged(layers, Store(store), limits, image="web").walk()]


def test_a_layer_listed_again_is_applied_again(tmp_path: Path) -> None:
    first = blob(tmp_path, "a", "b")
    hides = blob(tmp_path, ".wh.a")
    assert names([first, hides], tmp_path / "store") == [b"b"]
    assert names([first, hides, first], tmp_path / "store") == [b"a", b"b"]


def test_one_blob_with_two_diff_ids_is_still_checked(tmp_path: Path) -> None:
    layer = blob(tmp_path, "a")
    other = replace(layer, diff_id=Digest.of(b"other"))
    with pytest.raises(DigestMismatchError):
        names([layer, other], tmp_path / "store")


def test_an_image_has_only_so_many_layers(tmp_path: Path) -> None:
    layer = blob(tmp_path, "a")
    with pytest.raises(LayerLimitError, match=r"web: all: 5 layers are more than 4 \(layers\)"):
        names([layer] * 5, tmp_path / "store")


@pytest.mark.parametrize("known", [False, True], ids=["scanned", "from the cache"])
def test_a_layer_listed_again_and_again_is_no_way_around_the_limit(
    tmp_path: Path, known: bool
) -> None:
    """A layer of 124 kB, listed 150 times, took 823 MB of memory."""
    layer = blob(tmp_path, *(f"d/{number}" for number in range(4_000)))
    if known:
        assert len(names([layer, layer], tmp_path / "store")) == 4_001
    with pytest.raises(LayerLimitError, match=r"1 of 3 .* more than 10000 entries \(entries\)"):
        names([layer] * 3, tmp_path / "store")


def test_different_layers_count_together(tmp_path: Path) -> None:
    layers = [blob(tmp_path, *(f"{n}/{number}" for number in range(4_000))) for n in "abc"]
    assert len(names(layers[:2], tmp_path / "store")) == 8_002
    with pytest.raises(LayerLimitError, match="entries"):
        names(layers, tmp_path / "store")


def test_limits_of_the_settings_reach_the_layers(workshop: Workshop) -> None:
    workshop.both("web", b"x")
    workshop.options = replace(workshop.options, limits=LayerLimits(entries=1))
    error = outcome(workshop.run(), "web").error
    assert isinstance(error, LayerLimitError)
    assert "limits in the settings file" in error.hint


def test_the_holes_of_sparse_files_count_like_what_a_layer_inflates_to(tmp_path: Path) -> None:
    """A layer of 2,560 bytes claimed a file of 64 GiB, which a tar archive is then full of."""
    limits = replace(LIMITS, ratio=20, ratio_free_bytes=1 << 20)
    claims = record("GNU.sparse.map", "0,512") + record("GNU.sparse.size", str(1 << 19))
    holes = [
        stored(tmp_path, pax_member(claims) + raw_header(b"f%d" % number, size=512) + bytes(1536))
        for number in range(3)
    ]
    assert len(names(holes[:1], tmp_path / "store", limits)) == 1
    with pytest.raises(
        LayerLimitError, match=r"web: all: .* holes .* 20 times their size \(ratio\)"
    ):
        names(holes, tmp_path / "store", limits)


def test_the_names_of_all_layers_count_together(tmp_path: Path) -> None:
    layers = [blob(tmp_path, *(f"{n}/{'x' * 200}{number}" for number in range(9))) for n in "abc"]
    limits = replace(LIMITS, metadata_bytes=4000)
    assert len(names(layers[:1], tmp_path / "store", limits)) == 10
    with pytest.raises(LayerLimitError, match=r"all layers exceed 4000 bytes \(metadata_bytes\)"):
        names(layers, tmp_path / "store", limits)


def test_reading_an_image_takes_only_so_much_of_a_processor(tmp_path: Path) -> None:
    """The last net, should there be a shape that nobody thought of."""
    layers = [blob(tmp_path, *(f"{n}/{number}" for number in range(3_000))) for n in "ab"]
    with pytest.raises(LayerLimitError, match="more than 0 seconds of processors"):
        names(layers, tmp_path / "store", replace(LIMITS, processor_seconds=0))
    assert len(names(layers, tmp_path / "store")) == 6_002
