"""What the merge does beyond the 108 cases: bugs once met, and choices of our own."""

from pathlib import Path

import pytest

from lxdocker_lxd.convert.layer.errors import LayerLimitError
from lxdocker_lxd.convert.layer.limits import LayerLimits
from lxdocker_lxd.convert.layer.merge import merge
from lxdocker_lxd.convert.layer.tree import Tree
from tests.layers.tar_builder import Member, archive, d, f, hard, link, scanned, store_layers
from tests.layers.trees import sha256, snapshot


def merged(directory: Path, *layers: tuple[Member, ...]) -> tuple[Tree, list[Path]]:
    paths = store_layers(directory, [archive(*layer) for layer in layers])
    return merge([scanned(path) for path in paths], LayerLimits()), paths


def names(tree: Tree) -> list[bytes]:
    return [path for path, _ in tree.walk()]


def test_late_whiteout_keeps_what_lies_deep_below_a_lower_directory(tmp_path: Path) -> None:
    """Once the whole directory vanished: only the directory made last counted as touched."""
    tree, _ = merged(tmp_path, (d("a/"), f("a/old")), (f("a/b/c"), f(".wh.a", "")))
    assert names(tree) == [b"a", b"a/b", b"a/b/c"]


def test_waiting_link_gives_way_to_a_later_entry_of_its_name(tmp_path: Path) -> None:
    tree, paths = merged(tmp_path, (hard("b", "a"), f("b", "own"), f("a", "target")))
    assert snapshot(tree, paths)[b"b"].sha256 == sha256(b"own")


def test_waiting_link_replaces_what_had_its_name_before(tmp_path: Path) -> None:
    tree, paths = merged(tmp_path, (f("b", "before"),), (hard("b", "a"), f("a", "target")))
    nodes = snapshot(tree, paths)
    assert nodes[b"b"].sha256 == sha256(b"target")
    assert nodes[b"b"].same == {b"a", b"b"}


def test_link_made_in_a_layer_survives_that_layers_whiteout(tmp_path: Path) -> None:
    """A second name of a lower inode belongs to the layer that gave it."""
    tree, _ = merged(tmp_path, (d("d/"), f("a")), (hard("d/b", "a"), f("d/.wh.b", "")))
    assert names(tree) == [b"a", b"d", b"d/b"]


def test_remembered_parents_are_dropped_when_a_link_on_the_way_goes(tmp_path: Path) -> None:
    tree, _ = merged(
        tmp_path,
        (d("one/"), d("two/"), link("to", "one"), f("to/a"), link("to", "two"), f("to/b")),
    )
    assert names(tree) == [b"one", b"one/a", b"to", b"two", b"two/b"]


def test_parent_missing_below_a_followed_link_is_made_there(tmp_path: Path) -> None:
    tree, _ = merged(tmp_path, (d("run/"), link("var", "/run")), (f("var/sub/x"),))
    assert names(tree) == [b"run", b"run/sub", b"run/sub/x", b"var"]


def test_ten_thousand_entries_in_one_directory(tmp_path: Path) -> None:
    tree, _ = merged(tmp_path, tuple(f(f"d/{n:05}", "") for n in range(10_000)))
    assert tree.inode_count == 10_002


def test_very_deep_directories_do_not_exhaust_the_stack(tmp_path: Path) -> None:
    tree, paths = merged(tmp_path, (f("/".join("d" * 2000)),))
    assert len(snapshot(tree, paths)) == 2001


def test_paths_that_a_link_made_long_are_bounded_together(tmp_path: Path) -> None:
    """Half a million short names behind a link were two gigabytes of paths."""
    deep = "/".join("d" * 100)
    short = (d(deep), link("l", deep), *(f(f"l/{number}") for number in range(100)))
    tree, paths = merged(tmp_path, short)
    assert max(map(len, names(tree))) > 200
    layer = scanned(paths[0])
    with pytest.raises(LayerLimitError, match=r"paths of the image exceed 20000 bytes"):
        merge([layer], LayerLimits(metadata_bytes=20_000))
