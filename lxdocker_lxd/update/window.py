"""Maintenance windows: when an update may begin, in the wall-clock time of a zone.

``Mon-Fri 02:00-04:30 Europe/Berlin; Sat,Sun 01:00-06:00`` are two windows; without days every day
is meant, without a zone UTC, and an end before the beginning is on the next day. A moment is inside
when the clock on the wall there says so: an hour the clock skips in spring is no window, an hour it
shows twice in autumn is one twice.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.update.quantity import quoted

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY_MINUTES = 24 * 60
_LONGEST_TEXT = 2048
_MOST_WINDOWS = 28
_HORIZON = timedelta(days=9)
_MOST_KNOWN = 512
_PATTERN = re.compile(
    r"(?:(?P<days>[A-Za-z,-]+)\s+)?(?P<begin>[0-9]{2}:[0-9]{2})-(?P<end>[0-9]{2}:[0-9]{2})(?:\s+(?P<zone>\S+))?"
)


class WindowError(UsageError):
    """A maintenance window that can't be understood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Days of the week on which it begins (0 is Monday), minutes of the day, and the zone's name."""

    days: frozenset[int]
    begin_minute: int
    end_minute: int
    zone: str = "UTC"

    def contains(self, moment: datetime) -> bool:
        """Whether the aware ``moment`` is inside; the end isn't."""
        local = moment.astimezone(ZoneInfo(self.zone))
        minute, day = local.hour * 60 + local.minute, local.weekday()
        if self.begin_minute < self.end_minute:
            return day in self.days and self.begin_minute <= minute < self.end_minute
        yesterday = (day - 1) % len(DAYS)
        return (day in self.days and minute >= self.begin_minute) or (
            yesterday in self.days and minute < self.end_minute
        )


@lru_cache(maxsize=_MOST_KNOWN)
def windows_of(text: str) -> tuple[Window, ...]:
    """Return the windows a text tells of; raise WindowError. An empty text has none."""
    if len(text) > _LONGEST_TEXT:
        raise _wrong(text, f"it has more than {_LONGEST_TEXT} characters")
    parts = [part.strip() for part in text.split(";") if part.strip()]
    if len(parts) > _MOST_WINDOWS:
        raise _wrong(text, f"it has more than {_MOST_WINDOWS} windows")
    return tuple(_window(part) for part in parts)


def is_open(windows: tuple[Window, ...], moment: datetime) -> bool:
    """Whether an update may begin now; without windows it always may."""
    return not windows or any(window.contains(moment) for window in windows)


@lru_cache(maxsize=_MOST_KNOWN)
def next_opening(windows: tuple[Window, ...], moment: datetime) -> datetime | None:
    """Return when a window opens next, to the minute, in UTC; None when none does for 9 days."""
    now = moment.astimezone(UTC)
    if is_open(windows, now):
        return now
    last = now.replace(second=0, microsecond=0) + _HORIZON
    openings = (opening for window in windows for opening in _openings(window, now))
    return min((one for one in openings if now < one < last), default=None)


def _openings(window: Window, now: datetime) -> Iterator[datetime]:
    """Yield the moments of the days around at which the window may open, and then is open.

    It opens when the clock shows its beginning, once, twice or never on a day, and where the clock
    jumps into it.
    """
    zone = ZoneInfo(window.zone)
    for moment in (*_beginnings(window, now, zone), *_jumps(now, zone)):
        if window.contains(moment):
            yield moment


def _beginnings(window: Window, now: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    today = now.astimezone(zone).replace(tzinfo=None, hour=0, minute=0, second=0, microsecond=0)
    for day in range(-1, _HORIZON.days + 2):
        wall = today + timedelta(days=day, minutes=window.begin_minute)
        for fold in (0, 1):
            moment = wall.replace(tzinfo=zone, fold=fold).astimezone(UTC)
            # An hour that is skipped isn't shown by any clock.
            if moment.astimezone(zone).replace(tzinfo=None) == wall:
                yield moment


def _jumps(now: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    """Yield the minutes with which another offset from UTC begins."""
    before = now.replace(second=0, microsecond=0)
    for _ in range(_HORIZON.days):
        after = before + timedelta(days=1)
        if _offset(before, zone) != _offset(after, zone):
            early, late = 0, _DAY_MINUTES
            while late - early > 1:
                middle = (early + late) // 2
                same = _offset(before + timedelta(minutes=middle), zone) == _offset(before, zone)
                early, late = (middle, late) if same else (early, middle)
            yield before + timedelta(minutes=late)
        before = after


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta | None:
    return moment.astimezone(zone).utcoffset()


def _window(text: str) -> Window:
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise _wrong(text, "expected [DAYS] HH:MM-HH:MM [ZONE]")
    begin, end = _minute(match["begin"], text), _minute(match["end"], text)
    if begin == end:
        raise _wrong(text, "it has no length")
    zone = match["zone"] or "UTC"
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise _wrong(text, f"there is no time zone {quoted(zone)}") from error
    return Window(days=_days(match["days"], text), begin_minute=begin, end_minute=end, zone=zone)


def _minute(text: str, whole: str) -> int:
    hours, _, minutes = text.partition(":")
    minute = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or minute > _DAY_MINUTES:  # noqa: PLR2004 - a clock's minutes
        raise _wrong(whole, f"{text} is no time of day")
    return minute


def _days(text: str | None, whole: str) -> frozenset[int]:
    if text is None:
        return frozenset(range(len(DAYS)))
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        begin = _day(first, whole)
        end = _day(last, whole) if dash else begin
        found |= {(begin + step) % len(DAYS) for step in range((end - begin) % len(DAYS) + 1)}
    return frozenset(found)


def _day(text: str, whole: str) -> int:
    try:
        return DAYS.index(text.capitalize())
    except ValueError as error:
        raise _wrong(
            whole, f"{quoted(text) if text else 'nothing'} is no day; days are {', '.join(DAYS)}"
        ) from error


def _wrong(text: str, why: str) -> WindowError:
    return WindowError(
        f"maintenance window {quoted(text)}: {why}",
        hint="an example: `Sat,Sun 02:00-05:00 Europe/Berlin`",
    )
