"""Windows in wall-clock time: over midnight, at both changes of daylight saving, and wrong ones."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.update.window import WindowError, is_open, next_opening, windows_of


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("text", "moment", "inside"),
    [
        ("02:00-04:00", "2026-11-21T02:00+00:00", True),
        ("02:00-04:00", "2026-11-21T04:00+00:00", False),
        ("02:00-04:00 Europe/Berlin", "2026-11-21T01:30+00:00", True),
        ("02:00-04:00 Europe/Berlin", "2026-07-21T01:30+00:00", True),
        ("02:00-04:00 Europe/Berlin", "2026-07-21T02:30+00:00", False),
        ("Sat 22:00-03:00", "2026-11-21T23:00+00:00", True),
        ("Sat 22:00-03:00", "2026-11-22T02:59+00:00", True),
        ("Sat 22:00-03:00", "2026-11-21T02:00+00:00", False),
        ("Fri-Mon 10:00-11:00", "2026-11-22T10:30+00:00", True),
        ("Fri-Mon 10:00-11:00", "2026-11-24T10:30+00:00", False),
        ("sun 10:00-11:00; Mon 12:00-24:00", "2026-11-23T23:59+00:00", True),
        ("", "2026-11-23T23:59+00:00", True),
    ],
)
def test_a_moment_is_inside_or_not(text: str, moment: str, inside: bool) -> None:
    assert is_open(windows_of(text), at(moment)) is inside


def test_an_hour_that_spring_skips_is_no_window() -> None:
    windows = windows_of("02:00-03:00 Europe/Berlin")
    day = [at("2026-03-28T23:00+00:00") + timedelta(minutes=step) for step in range(24 * 60)]
    assert not any(is_open(windows, moment) for moment in day)


def test_an_hour_that_autumn_repeats_is_open_twice() -> None:
    windows = windows_of("02:00-03:00 Europe/Berlin")
    day = [at("2026-10-24T22:00+00:00") + timedelta(minutes=step) for step in range(25 * 60)]
    assert sum(is_open(windows, moment) for moment in day) == 120


@pytest.mark.parametrize(
    "text",
    ["2-3", "02:00-02:00", "25:00-26:00", "02:61-03:00", "Xyz 02:00-03:00", "02:00-03:00 No/Where",
     "Mon- 02:00-03:00", ", 02:00-03:00", "02:00-03:00 ../../etc/passwd"],
)  # fmt: skip
def test_what_isnt_understood_is_said(text: str) -> None:
    with pytest.raises(WindowError, match="window"):
        windows_of(text)


@given(st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - hypothesis wants naive bounds
def test_the_next_opening_is_open_and_nothing_before_it(moment: datetime) -> None:
    windows = windows_of("Sun 02:30-03:30 Europe/Berlin; Wed 23:50-00:10 America/New_York")
    opening = next_opening(windows, moment)
    assert opening is not None
    assert is_open(windows, opening)
    minutes = int((opening - moment).total_seconds() // 60)
    assert not any(
        is_open(windows, moment + timedelta(minutes=step)) for step in range(0, minutes, 7)
    )
