"""What was told already and when, on disk, so that a restart neither forgets nor repeats it.

One JSON object a line, appended and synced. A reader skips what a crash has torn.
"""

import errno
import json
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from lxdocker_lxd import atomic

FILE = "told.jsonl"
# More than the ends a journal keeps, so that none of those is forgotten.
MOST = 5000
MOST_BYTES = 2 << 20


class Told:
    """A file in ``directory``. Methods raise StorageError; a damaged file counts as none."""

    def __init__(self, directory: Path, *, most_bytes: int = MOST_BYTES) -> None:
        self._path = directory / FILE
        self._most_bytes = most_bytes
        self._known: dict[str, datetime] = {}
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
        """Return when it is on disk that ``keys`` were told now."""
        added = dict.fromkeys(keys, now)
        atomic.make_directory(self._path.parent, mode=0o700)
        try:
            size_bytes = self._append(_line(added, now))
        except OSError as error:
            raise atomic.storage_error("write", self._path, error) from error
        self._lines += 1
        self._known |= added
        if size_bytes > self._most_bytes:
            self._shorten()

    def _append(self, line: bytes) -> int:
        """Write a line behind the others, first ending one that a crash has torn; return the size."""
        new = not self._path.exists()
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            end = os.lseek(descriptor, 0, os.SEEK_END)
            torn = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"
            whole = b"\n" + line if torn else line
            if os.write(descriptor, whole) != len(whole):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if new:
            atomic.sync_directory(self._path.parent)
        return end + len(whole)

    def _shorten(self) -> None:
        """Forget the oldest, and what was told anew since."""
        newest = sorted(self._known.items(), key=lambda item: item[1])[-MOST:]
        content = b"".join(_line({key: at}, at) for key, at in newest)
        atomic.write(self._path, content, mode=0o600)
        self._known = dict(newest)

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
                at = datetime.fromisoformat(document["at"]).astimezone(UTC)
                self._known |= {str(key): at for key in document["told"]}
                self._lines += 1
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                continue


def _line(keys: Iterable[str], at: datetime) -> bytes:
    document = {"at": at.astimezone(UTC).isoformat(), "told": list(keys)}
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"
