"""docs/updater.md: each test it names is there, each phase is told, and nothing else is."""

import re
from pathlib import Path

import pytest

from lxdocker_lxd.update.transaction import Phase

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "updater.md").read_text()
NAMED = sorted(
    set(re.findall(r"`((?:tests/\w+/)?test_\w+\.py|tests/\w+/\w+\.py)(?:::(\w+))?`", DOCUMENT))
)


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_the_tests_it_names_are_there(path: str, name: str) -> None:
    file = ROOT / (path if "/" in path else f"tests/update/{path}")
    assert not name or f"def {name}(" in file.read_text()
    assert file.exists()


def test_it_tells_every_phase() -> None:
    states = DOCUMENT[DOCUMENT.index("## States") : DOCUMENT.index("## Kinds")]
    assert {phase for phase in Phase if f"`{phase}`" in states} == set(Phase)


ITEMS = {
    "A": 26,
    "B": 9,
    "C": 10,
    "D": 6,
    "E": 8,
    "F": 8,
    "G": 7,
    "H": 5,
    "I": 14,
    "J": 6,
    "K": 4,
    "L": 4,
}


def test_every_danger_has_its_test_or_a_reason() -> None:
    """Each item is there once, in order, and each says where it is tested or why it isn't."""
    table = DOCUMENT[DOCUMENT.index("## What can go wrong") :]
    rows = re.findall(r"^\| ([A-L]\d+) \| ([^|]+) \| ([^|]+) \|$", table, re.MULTILINE)
    wanted = [f"{group}{n}" for group, count in ITEMS.items() for n in range(1, count + 1)]
    assert [item for item, _, _ in rows] == wanted
    for item, _, answer in rows:
        named = re.search(r"`[\w/]*test_\w+\.py::test_\w+`", answer)
        assert named or answer.startswith(("none: ", "the same")), item
