"""Time that passed while an updater looked, in a file: what a clock that jumps can't make much of.

A board without a clock of its own may wake up years ahead or back. So an age isn't the difference of
two dates: each look adds what has passed since the last one, a day at most.
"""

import contextlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lxdocker_lxd import atomic
from lxdocker_lxd.errors import StorageError

MOST_AT_ONCE = timedelta(hours=26)
"""What one look adds at most: an updater that runs once a day counts in full."""
_FORMAT = 1
_MOST_BYTES = 1 << 12
_LONGEST_SECONDS = 36500 * 86400
_WRITTEN_EVERY_SECONDS = 600.0
DAMAGES = (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What reading a document may raise that isn't one of ours, or was damaged."""


def passed_between(last: datetime, now: datetime, *, most: timedelta = MOST_AT_ONCE) -> timedelta:
    """Return how much a look at ``now`` adds to one at ``last``: nothing for a clock that went back."""
    return min(max(now - last, timedelta(0)), most)


class PassedTime:
    """Counts the seconds since its file was made. Never raises: what can't be written is remembered.

    A file that is lost or damaged lets it begin at 0 again. One process at a time may use it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last, self._seconds = _read(path)
        self._written_seconds = self._seconds

    def count(self, now: datetime) -> float:
        """Add the time since the last look; return the seconds in all."""
        if self._last is not None:
            added = passed_between(self._last, now).total_seconds()
            self._seconds = min(self._seconds + added, _LONGEST_SECONDS)
        self._last = now
        if self._seconds - self._written_seconds >= _WRITTEN_EVERY_SECONDS:
            self.write()
        return self._seconds

    def skip_to(self, seconds: float) -> None:
        """Count on from here if it is later; for a file that was lost."""
        self._seconds = min(max(self._seconds, seconds), _LONGEST_SECONDS)

    def write(self) -> None:
        """Write down what is counted, if the directory is there."""
        if self._last is None or not self._path.parent.is_dir():
            return
        document = {
            "format": _FORMAT,
            "at": self._last.astimezone(UTC).isoformat(),
            "seconds": round(self._seconds, 3),
        }
        with contextlib.suppress(StorageError, OSError):
            atomic.write(self._path, f"{json.dumps(document)}\n".encode(), mode=0o600)
            self._written_seconds = self._seconds


def _read(path: Path) -> tuple[datetime | None, float]:
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(_MOST_BYTES))
        at, seconds = datetime.fromisoformat(document["at"]), float(document["seconds"])
        known = document["format"] == _FORMAT and at.tzinfo is not None
    except (OSError, *DAMAGES):
        return None, 0.0
    # Comparisons with what is no number are false.
    return (at, seconds) if known and 0 <= seconds <= _LONGEST_SECONDS else (None, 0.0)
