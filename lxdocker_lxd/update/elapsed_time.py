"""Times of several things in one file, counted from round to round while an updater looks."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

from lxdocker_lxd import atomic
from lxdocker_lxd.errors import StorageError
from lxdocker_lxd.update.passed_time import DAMAGES, MOST_AT_ONCE, passed_between

_FORMAT = 1
_MOST_BYTES = 1 << 20
_LONGEST = timedelta(days=36500)


class ElapsedTimes:
    """Times by a text that names what they are of; ``most_at_once`` is what a round adds at most.

    A file that is lost or can't be read begins all of them anew. With ``dry_run`` nothing is written.
    """

    def __init__(
        self, path: Path, *, most_at_once: timedelta = MOST_AT_ONCE, dry_run: bool = False
    ) -> None:
        self._path = path
        self._most_at_once = most_at_once
        self._dry_run = dry_run

    def read(self) -> Mapping[str, timedelta]:
        """Return the times as they were at the last round."""
        return self._load()[1]

    def advance(self, names: Iterable[str], now: datetime) -> Mapping[str, timedelta]:
        """Add the time since the last round to each of these, forget all others; return the times.

        One that is new begins with nothing. Where the file can't be written the times are those of
        the last round.
        """
        last, known = self._load()
        passed = timedelta(0)
        if last is not None:
            passed = passed_between(last, now, most=self._most_at_once)
        times = {
            one: min(known[one] + passed, _LONGEST) if one in known else timedelta(0)
            for one in names
        }
        if self._dry_run:
            return times
        document = {
            "format": _FORMAT,
            "at": now.astimezone(UTC).isoformat(),
            "seconds": {one: int(time.total_seconds()) for one, time in sorted(times.items())},
        }
        try:
            atomic.write(self._path, f"{json.dumps(document)}\n".encode(), mode=0o600)
        except (StorageError, OSError):
            # Else the same time would be counted again.
            return {one: known.get(one, timedelta(0)) for one in times}
        return times

    def _load(self) -> tuple[datetime | None, Mapping[str, timedelta]]:
        nothing: Mapping[str, timedelta] = MappingProxyType({})
        try:
            if self._path.stat().st_size > _MOST_BYTES:
                return None, nothing
            document = json.loads(self._path.read_text("utf-8"))
            at = datetime.fromisoformat(document["at"])
            if document["format"] != _FORMAT or at.tzinfo is None:
                return None, nothing
            return at, {
                str(one): min(max(timedelta(seconds=int(seconds)), timedelta(0)), _LONGEST)
                for one, seconds in document["seconds"].items()
            }
        except (OSError, *DAMAGES):
            return None, nothing
