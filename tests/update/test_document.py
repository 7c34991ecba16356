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
