"""The age of copies: what passed while an updater looked, whatever the wall clock says."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lxdocker_lxd.update.copy_ages import FILE, CopyAges
from lxdocker_lxd.update.passed_time import MOST_AT_ONCE
from lxdocker_lxd.update.recovery import reap
from tests.update.test_rounds import House

NOW = datetime(2026, 11, 28, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_a_copys_age_is_what_passed_between_rounds(tmp_path: Path) -> None:
    for hours in (0, 1, 3):
        ages = CopyAges(tmp_path).advance(["a"], NOW + hours * HOUR)
    assert ages == {"a": 3 * HOUR} == CopyAges(tmp_path).read()
    assert CopyAges(tmp_path).advance(["b"], NOW + 4 * HOUR) == {"b": timedelta(0)}


def test_a_clock_that_jumps_counts_as_a_day_at_most(tmp_path: Path) -> None:
    ages = CopyAges(tmp_path)
    ages.advance(["a"], datetime(1970, 1, 1, tzinfo=UTC))
    assert ages.advance(["a"], NOW) == {"a": MOST_AT_ONCE}
    assert ages.advance(["a"], NOW - timedelta(days=4000)) == {"a": MOST_AT_ONCE}


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", '{"format":2}', '{"format":1,"at":"2026-01-01T00:00:00","seconds":{}}',
     '{"format":1,"at":"2026-01-01T00:00:00+00:00","seconds":{"a":1e400}}', "[" * 100_000],
)  # fmt: skip
def test_a_spoilt_file_makes_copies_new_again(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    assert CopyAges(tmp_path).advance(["a"], NOW) == {"a": timedelta(0)}
    assert json.loads((tmp_path / FILE).read_text())["seconds"] == {"a": 0}


def test_a_disk_that_is_full_adds_no_time_twice(tmp_path: Path) -> None:
    ages = CopyAges(tmp_path)
    ages.advance(["a"], NOW)
    gone = CopyAges(tmp_path / "gone")
    assert gone.advance(["a"], NOW + HOUR) == {"a": timedelta(0)}
    assert gone.advance(["a"], NOW + 3 * HOUR) == {"a": timedelta(0)}


def test_a_board_that_wakes_up_before_its_time_loses_no_copy(tmp_path: Path) -> None:
    house = House()
    house.lxd.add_image("one", alias="app")
    house.local("web")
    house.lxd.add_image("two", alias="app")
    house.run()
    ages, lxd = CopyAges(tmp_path), house.lxd
    assert reap(lxd, lxd.clock(), ages=ages).removed == ()
    # The network's time comes, and it is years later.
    lxd.clock.advance(3 * 365 * 86400)
    assert reap(lxd, lxd.clock(), ages=ages).removed == ()
    for _ in range(71 - 26):
        lxd.clock.advance(3600)
        assert reap(lxd, lxd.clock(), ages=ages).removed == ()
    lxd.clock.advance(2 * 3600)
    assert len(reap(lxd, lxd.clock(), ages=ages).removed) == 1
