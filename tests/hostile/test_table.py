"""Each attack in the table ends as it says there, within its bounds, and the host stays as it was.

``python -m tests.hostile`` prints the table.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.hostile.case import HostileCase
from tests.hostile.cases import CASES

_ROOT = Path(__file__).parents[2]
_IS_FULL = bool(os.environ.get("LXDOCKER_TEST_FULL"))
_CHOSEN = [
    pytest.param(
        case,
        id=f"{case.party}: {case.name}",
        marks=pytest.mark.root if case.needs_root else (),
    )
    for case in CASES
    if (_IS_FULL or not case.is_slow) and (os.geteuid() == 0 or not case.needs_root)
]


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, str]]:
    """What came of each case: all are met by one process, which has everything loaded once."""
    quick = [] if _IS_FULL else ["--quick"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile", "--json", *quick],
        check=False,
        capture_output=True,
        text=True,
        cwd=_ROOT,
        timeout=280,
    )
    assert not done.stderr, done.stderr
    return {row["case"]: row for row in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("case", _CHOSEN)
def test_an_attack_ends_as_it_must(case: HostileCase, found: dict[str, dict[str, str]]) -> None:
    row = found[f"{case.party}: {case.name}"]
    assert not row["problem"], row["problem"]
    assert row["outcome"] == case.expected


def test_the_table_is_large_and_names_each_attack_once() -> None:
    parties = Counter(case.party for case in CASES)
    assert parties["image"] >= 60
    assert parties.total() - parties["image"] >= 30
    assert len({(case.party, case.name) for case in CASES}) == len(CASES)
