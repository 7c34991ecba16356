"""The table of what LXD ties to an instance: the documentation's is the code's, its tests exist."""

import re
from pathlib import Path

import pytest

from lxdocker_lxd.update.identity import TIED, Tied, Treatment, markdown_table

ROOT = Path(__file__).parents[2]


def test_the_documentation_has_the_same_table() -> None:
    assert f"\n{markdown_table()}\n" in (ROOT / "docs" / "updater.md").read_text()


@pytest.mark.parametrize("one", TIED, ids=lambda one: one.thing[:40])
def test_each_row_names_a_test_that_there_is(one: Tied) -> None:
    file, _, name = one.test.partition("::")
    path = ROOT / file if "/" in file else ROOT / "tests" / "update" / file
    assert path.is_file()
    assert not name or re.search(rf"^def {name}\(", path.read_text(), re.MULTILINE)


def test_each_treatment_is_used() -> None:
    assert {one.treatment for one in TIED} == set(Treatment)
