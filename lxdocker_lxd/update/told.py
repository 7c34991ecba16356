"""What was told already and when, on disk, so that a restart neither forgets nor repeats it.

One JSON object a line, appended and synced. A reader skips what a crash has torn.
"""

import contextlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from lxdocker_lxd import atomic
from lxdocker_lxd.errors import StorageError

FILE = "told.jsonl"
# A line of another one is skipped: at worst something is told twice.
_FORMAT = 1
# More than the ends a journal keeps, so that none of those is forgotten.
MOST = 5000
MOST_BYTES = 2 << 20
_DAMAGES = (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)


class Told:
    """A file in ``directory``. Methods raise StorageError; a damaged file counts as none."""

    def __init__(self, directory: Path, *, most_bytes: int = MOST_BYTES) -> None:
        self._path = directory / FILE
        self._most_bytes = most_bytes
        self._known: dict[str, datetime] = {}
        self._unwritten: dict[str, datetime] = {}
        self._lines = 0
        self._load()

    @property
    def is_new(self) -> bool:
        """Whether nothing was ever written down."""
        return self._lines == 0

    @property
    def when(self) -> Mapping[str, datetime]:
        """When each thing was told last."""
        return MappingProxyType(self._known)

    def add(self, keys: Iterable[str], now: datetime) -> None:
        """Return when it is on disk that ``keys`` were told now.

        What can't be written is known all the same as long as this object lives, and is written
        with what is added next.
        """
        added = dict.fromkeys(keys, now)
        self._know(added)
        self._unwritten |= added
        atomic.make_directory(self._path.parent, mode=0o700)
        size_bytes = atomic.append_line(self._path, _line(self._unwritten, now))
        self._unwritten.clear()
        self._lines += 1
        if size_bytes > self._most_bytes:
            # What is too long can still be read, and be shortened the next time.
            with contextlib.suppress(StorageError):
                self._shorten()

    def _shorten(self) -> None:
        """Forget what was told first; the order is that of the lines, whatever their dates."""
        newest = tuple(self._known.items())[-MOST:]
        content = b"".join(_line({key: at}, at) for key, at in newest)
        atomic.write(self._path, content, mode=0o600)
        self._known = dict(newest)

    def _know(self, added: Mapping[str, datetime]) -> None:
        """Know these as what was told last."""
        for key in added:
            self._known.pop(key, None)
        self._known |= added

    def _load(self) -> None:
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise atomic.storage_error("read", self._path, error) from error
        for line in content.split(b"\n"):
            try:
                document = json.loads(line)
                if document.get("format", _FORMAT) != _FORMAT:
                    continue
                at = datetime.fromisoformat(document["at"]).astimezone(UTC)
                self._know({str(key): at for key in document["told"]})
                self._lines += 1
            except _DAMAGES:
                continue


def _line(keys: Iterable[str], at: datetime) -> bytes:
    document = {"format": _FORMAT, "at": at.astimezone(UTC).isoformat(), "told": list(keys)}
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"
