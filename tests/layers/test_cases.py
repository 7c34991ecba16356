"""The 108 stacks: each gives exactly its tree, or fails with exactly its error."""

from dataclasses import replace
from pathlib import Path

import pytest

from lxdocker_lxd.convert.layer.limits import LayerLimits
from lxdocker_lxd.convert.layer.merge import merge
from tests.harness.oracle import compare_image, throw_away, write_layout
from tests.layers.cases import CASES, Case
from tests.layers.tar_builder import Member, scanned, store_layers
from tests.layers.trees import SHORT, sha256, snapshot

CANARY = b"must stay"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    directory = tmp_path / "host"
    directory.mkdir()
    (directory / "canary").write_bytes(CANARY)
    return directory


def on(case: Case, host: Path) -> tuple[list[bytes], dict[str, str]]:
    """Return a case's archives and tree with a real directory in the place of ``@HOST@``."""
    place = str(host).lstrip("/")
    layers = []
    for layer in case.layers:
        parts = tuple(
            replace(part, target=_placed(part.target, place)) if isinstance(part, Member) else part
            for part in layer.parts
        )
        layers.append(replace(layer, parts=parts).rendered())
    return layers, {name: _placed(kind, place) for name, kind in case.tree.items()}


def _placed(text: str, place: str) -> str:
    # After "../" the directory stands without its slash, everywhere else with it.
    return text.replace("../@HOST@", f"../{place}").replace("@HOST@", f"/{place}")


def test_there_are_108_cases() -> None:
    assert len({case.name for case in CASES}) == len(CASES) == 108


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case, tmp_path: Path, host: Path) -> None:
    layers, expected = on(case, host)
    paths = store_layers(tmp_path, layers)
    if case.error is not None:
        with pytest.raises(case.error, match="layer layer") as raised:
            merge([scanned(path) for path in paths], LayerLimits())
        assert "entry '" in raised.value.message
        assert raised.value.hint
        assert (host / "canary").read_bytes() == CANARY
        return
    tree = merge([scanned(path) for path in paths], LayerLimits())
    nodes = snapshot(tree, paths)
    assert {name.encode("utf-8", "surrogateescape") for name in expected} | {b"."} == nodes.keys()
    for name, kind in expected.items():
        node = nodes[name.encode("utf-8", "surrogateescape")]
        letter, _, value = kind.partition(":")
        assert SHORT[node.kind] == letter
        if letter == "f":
            assert node.sha256 == sha256(value.encode())
        elif letter == "l":
            assert node.target == value.encode()
        elif letter in "cb":
            assert node.device == tuple(map(int, value.split(",")))
    for group in case.same:
        names = frozenset(name.encode() for name in group.split())
        assert all(nodes[name].same == names for name in names)
    for name, attributes in case.attributes.items():
        inode = tree.root if name == "." else tree.lookup(name.encode())
        assert {key: getattr(inode, key) for key in attributes} == attributes
    assert (host / "canary").read_bytes() == CANARY


@pytest.mark.oracle
@pytest.mark.root
@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.error is None and case.umoci_agrees],
    ids=lambda case: case.name,
)
def test_umoci_agrees(case: Case, host: Path) -> None:
    layers, _ = on(case, host)
    with throw_away() as directory:
        layout = write_layout(directory, layers)
        assert compare_image(layout, directory_times=False) == []
    assert (host / "canary").read_bytes() == CANARY
