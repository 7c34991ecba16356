"""Numbers, durations and times in keys that tenants write: bounded, finite, and parsed once. Pure.

Every function returns a value within its bounds or raises UsageError, whatever the text is.
"""

import re
from datetime import UTC, datetime, timedelta

from lxdocker_lxd.errors import UsageError

LONGEST_SECONDS = 86400.0
"""What one check or wait may last."""
LONGEST_AGE = timedelta(days=3653)
"""Ten years."""
_NUMBER = re.compile(r"[0-9]{1,9}")
_DECIMAL = re.compile(r"[0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9}")
_DURATION = re.compile(r"([0-9]{1,9})([smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_LONGEST_TIME = 64
_FIRST_YEAR = 1970
_MOST_SHOWN = 80


def quoted(text: str) -> str:
    """Return a tenant's text as it may stand in a message: in quotes, legible and short."""
    return repr(text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "...")


def number_of(text: str, *, least: int = 0, most: int) -> int:
    """Return the whole number a text is; raise UsageError for one outside the bounds."""
    match = _NUMBER.fullmatch(text.strip())
    if match is None or not least <= int(match[0]) <= most:
        raise UsageError(f"{quoted(text)} is no whole number from {least} to {most}")
    return int(match[0])


def seconds_of(text: str, *, most: float = LONGEST_SECONDS) -> float:
    """Return a number of seconds, as ``10`` or ``0.5``; raise UsageError for more than ``most``."""
    match = _DECIMAL.fullmatch(text.strip())
    if match is None or float(match[0]) > most:
        raise UsageError(f"{quoted(text)} is no number of seconds from 0 to {most:g}")
    return float(match[0])


def duration_of(text: str, *, most: timedelta = LONGEST_AGE) -> timedelta:
    """Return the length ``90s``, ``30m``, ``12h``, ``3d`` or ``1w`` names; raise UsageError."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{quoted(text)} is no duration", hint="as in 90s, 30m, 12h, 3d or 1w")
    seconds = int(match[1]) * _UNITS[match[2]]
    if seconds > most.total_seconds():
        raise UsageError(f"{quoted(text)} is more than {most.days} days")
    return timedelta(seconds=seconds)


def moment_of(text: str, *, zone_needed: bool = False) -> datetime:
    """Return the aware time that a text in ISO 8601 names, of 1970 or later; raise UsageError.

    Without a zone it is UTC, or an error where a zone is needed. It can be told in UTC.
    """
    moment = _read(text.strip()) if len(text) <= _LONGEST_TIME else None
    if moment is None or (moment.tzinfo is None and zone_needed):
        raise UsageError(f"{quoted(text)} is no time", hint="as in 2026-12-24T18:00Z")
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    if _year(aware) < _FIRST_YEAR:
        raise UsageError(f"{quoted(text)} isn't in the years {_FIRST_YEAR} to 9999")
    return aware


def _read(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        return None


def _year(moment: datetime) -> int:
    """Return the year in UTC; 0 for one that UTC has no room for."""
    try:
        return moment.astimezone(UTC).year
    except OverflowError:
        return 0
