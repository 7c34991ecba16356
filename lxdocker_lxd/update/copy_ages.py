"""How long kept copies have been there, counted in time that passed while an updater looked.

A board without a clock of its own may wake up years ahead or back. So a copy's age isn't the
difference of two dates: each round adds what has passed since the last one, a day at most.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

from lxdocker_lxd import atomic
from lxdocker_lxd.errors import StorageError
from lxdocker_lxd.update.passed_time import passed_between

FILE = "copies.json"
_FORMAT = 1
_MOST_BYTES = 1 << 20
_LONGEST = timedelta(days=36500)


class CopyAges:
    """The ages of copies by the id of their update, in a file of the state directory.

    A file that is lost or can't be read makes every copy new again, which keeps it longer. With
    ``dry_run`` nothing is written.
    """

    def __init__(self, directory: Path, *, dry_run: bool = False) -> None:
        self._path = directory / FILE
        self._dry_run = dry_run

    def read(self) -> Mapping[str, timedelta]:
        """Return the ages as they were at the last round."""
        return self._load()[1]

    def advance(self, transactions: Iterable[str], now: datetime) -> Mapping[str, timedelta]:
        """Add the time since the last round to each of these, forget all others; return the ages.

        Where the file can't be written the ages hold for this round alone.
        """
        last, known = self._load()
        passed = passed_between(last, now) if last is not None else timedelta(0)
        ages = {
            one: min(known[one] + passed, _LONGEST) if one in known else timedelta(0)
            for one in transactions
        }
        if self._dry_run:
            return ages
        document = {
            "format": _FORMAT,
            "at": now.astimezone(UTC).isoformat(),
            "seconds": {one: int(age.total_seconds()) for one, age in sorted(ages.items())},
        }
        try:
            atomic.write(self._path, f"{json.dumps(document)}\n".encode(), mode=0o600)
        except (StorageError, OSError):
            # Else the same time would be counted again.
            return {one: known.get(one, timedelta(0)) for one in ages}
        return ages

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
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            ArithmeticError,
            RecursionError,
        ):
            return None, nothing
