"""Versions that were rolled back on an instance, as its key remembers them. Pure.

The key holds ``FINGERPRINT@TIME`` for each, in order, and ``/past`` behind those from before the last
good update: they stay rejected for a time, too, but are no longer part of a series. Entries of
older versions are a fingerprint alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.lxd.records import Config
from lxdocker_lxd.update.quantity import moment_of
from lxdocker_lxd.update.transaction import REJECTED_KEY

RETRY_AFTER = timedelta(days=30)
"""How long a version stays rejected where the instance's key doesn't say it."""
MOST_PAST = 50
_MOST_CHARACTERS = 65536
_MOST_ENTRIES = 200
_LONGEST_FINGERPRINT = 64
_LAST_YEAR = 9000
_PAST = "past"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """One version and when it was rolled back, None where that isn't known.

    ``past`` says that a good update came after it.
    """

    fingerprint: str
    at: datetime | None = None
    past: bool = False

    def __str__(self) -> str:
        """Return it as the key has it."""
        at = f"@{self.at.astimezone(UTC):%Y-%m-%dT%H:%MZ}" if self.at is not None else ""
        return f"{self.fingerprint}{at}{f'/{_PAST}' if self.past else ''}"


def rejections_of(config: Config) -> tuple[Rejection, ...]:
    """Return what an instance's own configuration remembers, in order; never raises."""
    entries = config.get(REJECTED_KEY, "")[:_MOST_CHARACTERS].split()
    return tuple(_rejection(entry) for entry in entries[-_MOST_ENTRIES:])


def series_of(rejections: Iterable[Rejection]) -> tuple[Rejection, ...]:
    """Return those since the last good update: versions in a row that came to nothing."""
    return tuple(one for one in rejections if not one.past)


def rejection_now(
    rejections: Iterable[Rejection], fingerprint: str, now: datetime, retry_after: timedelta
) -> Rejection | None:
    """Return why a version isn't to be tried now, or None.

    One whose time isn't known, or hasn't come yet, stays rejected.
    """
    for one in rejections:
        if one.fingerprint == fingerprint and (one.at is None or now - one.at < retry_after):
            return one
    return None


def with_rejection(
    rejections: Iterable[Rejection], fingerprint: str, now: datetime
) -> tuple[Rejection, ...]:
    """Return the rejections with another one, which counts from now."""
    others = (one for one in rejections if one.fingerprint != fingerprint)
    return (*others, Rejection(fingerprint=fingerprint, at=now))


def after_good_update(rejections: Iterable[Rejection], now: datetime) -> tuple[Rejection, ...]:
    """Return the rejections once a version has proved good: remembered, and no series any more."""
    past = [replace(one, at=one.at or now, past=True) for one in rejections]
    return tuple(past[-MOST_PAST:])


def merged(rejections: Iterable[Rejection], others: Iterable[Rejection]) -> tuple[Rejection, ...]:
    """Return both together; of a version that both have, what the first says."""
    known = tuple(rejections)
    mine = {one.fingerprint for one in known}
    return (*(one for one in others if one.fingerprint not in mine), *known)


def rejected_value(rejections: Iterable[Rejection]) -> str:
    """Return the value of the key."""
    return " ".join(str(one) for one in rejections)


def _rejection(entry: str) -> Rejection:
    named, _, behind = entry.partition("/")
    fingerprint, _, time = named.partition("@")
    try:
        at = moment_of(time) if time else None
    except UsageError:
        at = None
    if at is not None and at.year > _LAST_YEAR:
        # Times are added to it.
        at = None
    return Rejection(fingerprint=fingerprint[:_LONGEST_FINGERPRINT], at=at, past=behind == _PAST)
