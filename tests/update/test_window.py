"""Windows in wall-clock time: over midnight, at both changes of daylight saving, and wrong ones."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.update.window import Window, WindowError, is_open, next_opening, windows_of


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


ZONES = (
    *("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"),
    *("Pacific/Apia", "Africa/Casablanca", "America/St_Johns", "Pacific/Chatham"),
)
# Days around which one of these zones changes its clock, or none does; Apia once left a day out.
DAYS = (
    *("2026-03-28", "2026-03-07", "2026-10-24", "2026-10-31", "2026-04-04", "2026-10-03"),
    *("2026-02-14", "2026-03-21", "2011-12-28", "2026-06-10"),
)


def walked(windows: tuple[Window, ...], moment: datetime) -> datetime | None:
    """The next opening as it is meant: the first minute of nine days at which a window is open."""
    start = moment.astimezone(UTC).replace(second=0, microsecond=0)
    for minutes in range(9 * 24 * 60):
        then = start + timedelta(minutes=minutes)
        if is_open(windows, then):
            return max(then, moment.astimezone(UTC))
    return None


@st.composite
def some_windows(draw: st.DrawFn) -> tuple[Window, ...]:
    def window() -> Window:
        begin, end = draw(
            st.tuples(*[st.integers(0, 1440)] * 2).filter(lambda two: two[0] != two[1])
        )
        if draw(st.booleans()):
            # Near the hours at which clocks change, and short.
            begin = draw(st.integers(0, 240))
            end = begin + draw(st.integers(1, 90))
        days = draw(st.frozensets(st.integers(0, 6), min_size=1))
        zone = draw(st.sampled_from(ZONES))
        return Window(days=days, begin_minute=begin, end_minute=end, zone=zone)

    return tuple(window() for _ in range(draw(st.integers(1, 2))))


@given(some_windows(), st.sampled_from(DAYS), st.integers(0, 4 * 86400))
def test_the_next_opening_is_the_one_that_a_walk_by_minutes_finds(
    windows: tuple[Window, ...], day: str, seconds: int
) -> None:
    moment = at(f"{day}T00:00+00:00") + timedelta(seconds=seconds)
    assert next_opening(windows, moment) == walked(windows, moment)


@pytest.mark.parametrize(
    ("text", "moment", "opening"),
    [
        # The clock skips from 2 to 3: what is left of the window begins there.
        ("02:30-03:30 Europe/Berlin", "2026-03-29T00:30+00:00", "2026-03-29T01:00+00:00"),
        # It goes back from 3 to 2: the window that had ended at 2:30 begins once more at 2.
        ("01:30-02:30 Europe/Berlin", "2026-10-25T00:40+00:00", "2026-10-25T01:00+00:00"),
        ("02:15-02:30 Europe/Berlin", "2026-10-25T00:40+00:00", "2026-10-25T01:15+00:00"),
        ("Sat 24:00-03:00", "2026-11-21T12:00+00:00", "2026-11-22T00:00+00:00"),
        ("Fri 10:00-11:00", "2026-11-20T11:00+00:00", "2026-11-27T10:00+00:00"),
    ],
)
def test_openings_at_changes_of_the_clock(text: str, moment: str, opening: str) -> None:
    windows = windows_of(text)
    assert walked(windows, at(moment)) == at(opening)
    assert next_opening(windows, at(moment)) == at(opening)


def test_openings_of_two_hundred_instances_take_no_time() -> None:
    """A walk by minutes took seconds of the processor for one plan."""
    began = time.process_time()
    for number in range(200):
        windows = windows_of(f"Sat 02:{number % 60:02}-05:00 Europe/Berlin; Wed 03:00-04:00")
        assert next_opening(windows, at("2026-11-21T12:00+00:00")) is not None
    assert time.process_time() - began < 0.5
