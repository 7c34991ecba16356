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
from tests.layers.tar_builder import archive, f

LIMITS = LayerLimits(layers=4, entries=10_000)


def blob(directory: Path, *names: str) -> LayerBlob:
    layer = archive(*(f(name) for name in names))
    stored = gzip.compress(layer, mtime=0)
    digest = Digest.of(stored)
    path = directory / digest.encoded
    path.write_bytes(stored)
    descriptor = Descriptor(
        media_type="",
        digest=digest,
        size_bytes=len(stored),
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
