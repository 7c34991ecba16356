"""Messages on disk until they are delivered: one file each, in order for each receiver.

A file appears whole, synced and under its own name before anybody is told that the message is
there; it is removed after the receiver took it. So a crash loses nothing, and leaves at most one
message to be delivered twice. Attempts and the next due time stand in the file and outlive restarts.

A file of another format is left to the version that wrote it, and others pass it.
A message behind a waiting one waits too. One that the receiver refuses, or that failed often, is set
aside so that others pass. Numbers and age are bounded: the oldest goes first, and the log tells.
The age is time that passed while somebody looked, so a clock that jumps drops nothing.
"""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lxdocker_lxd import atomic
from lxdocker_lxd.update.delivery import (
    LONGEST_WAIT,
    MOST_ATTEMPTS,
    Delivery,
    Result,
    backoff,
)
from lxdocker_lxd.update.notification import Message, document_of, message_of
from lxdocker_lxd.update.passed_time import PassedTime

ASIDE = "aside"
_PASSED_FILE = "passed.json"
_ENDING = ".json"
_FORMAT = 1
_MOST_FILE_BYTES = 1 << 16
_SEQUENCE_DIGITS = 12
_MOST_SECONDS = 36500 * 86400
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much is kept for each receiver, waiting and set aside, and how long."""

    waiting: int = 1000
    aside: int = 100
    age: timedelta = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A message in the outbox; ``failures`` are attempts that may have been the message's fault.

    ``put_seconds`` is how much time had passed for the outbox when it was put; None in files of
    older versions.
    """

    path: Path
    message: Message
    put_at: datetime
    due: datetime
    put_seconds: float | None = None
    attempts: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class _Newer:
    """A message as a newer version writes it, which that one will deliver."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """How full the outbox is for one receiver; ``oldest`` is when its first message came."""

    waiting: int
    aside: int
    oldest: datetime | None


class Outbox:
    """A directory with one below it for each receiver, readable by its owner alone.

    Methods raise StorageError. Threads may share it; one process at a time may use a directory.
    """

    def __init__(
        self, directory: Path, clock: Callable[[], datetime], *, bounds: Bounds | None = None
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._bounds = bounds or Bounds()
        self._lock = threading.RLock()
        self._passed = PassedTime(directory / _PASSED_FILE)
        self.dropped = 0
        """Messages that were given up since the start, for their age, their number or a damaged file."""

    def put(self, receiver: str, message: Message) -> None:
        """Return when the message is on disk; one that already waits is left as it is."""
        with self._lock:
            directory = self._made(receiver)
            names = self._names(directory)
            if any(name.partition("-")[2] == message.id + _ENDING for name in names):
                return
            for name in names[: max(0, len(names) + 1 - self._bounds.waiting)]:
                self._drop(directory / name, "too many messages wait")
            last = int(names[-1].partition("-")[0]) if names else 0
            now = self._clock()
            name = f"{last + 1:0{_SEQUENCE_DIGITS}}-{message.id}{_ENDING}"
            passed = self._passed.count(now)
            self._passed.write()
            self._write(
                Waiting(
                    path=directory / name, message=message, put_at=now, due=now, put_seconds=passed
                )
            )

    def head(self, receiver: str) -> Waiting | None:
        """Return the message to deliver next, due or not; what can't be read is set aside."""
        with self._lock:
            directory = self._directory / receiver
            for name in self._names(directory):
                waiting = self._read(directory / name)
                if isinstance(waiting, _Newer):
                    continue
                if waiting is None:
                    self._set_aside(directory / name, "its file is damaged")
                elif self._age(waiting) > self._bounds.age:
                    self._drop(directory / name, "it couldn't be delivered in time")
                else:
                    return waiting
            return None

    def _age(self, waiting: Waiting) -> timedelta:
        """How long it waits, in time that passed; a message of an older version since this one looks."""
        if waiting.put_seconds is not None:
            self._passed.skip_to(waiting.put_seconds)
        now = self._clock()
        passed = timedelta(seconds=self._passed.count(now) - (waiting.put_seconds or 0.0))
        return passed if waiting.put_seconds is not None else min(passed, now - waiting.put_at)

    def settle(self, waiting: Waiting, delivery: Delivery) -> None:
        """Remove, put off or set aside a message after an attempt to deliver it."""
        with self._lock:
            if not waiting.path.exists():
                return
            if delivery.result is Result.DELIVERED:
                self._remove(waiting.path)
                return
            failed = delivery.result is Result.FAILED
            attempts = waiting.attempts + 1
            failures = waiting.failures + failed
            if delivery.result is Result.REFUSED or failures >= MOST_ATTEMPTS:
                self._set_aside(waiting.path, delivery.reason)
                return
            pause = max(backoff(attempts), delivery.wait or timedelta(0))
            due = self._clock() + pause
            self._write(replace(waiting, attempts=attempts, failures=failures, due=due))

    def wait_seconds(self, waiting: Waiting) -> float:
        """Return how long to wait for a message; never longer than an attempt may be put off.

        A due time far in the future is of a clock that was wrong.
        """
        left = (waiting.due - self._clock()).total_seconds()
        return max(left, 0.0) if left <= LONGEST_WAIT.total_seconds() else 0.0

    def fill(self, receiver: str) -> Fill:
        """Return how full it is."""
        with self._lock:
            directory = self._directory / receiver
            names = self._names(directory)
            first = self._read(directory / names[0]) if names else None
            aside = self._names(directory / ASIDE)
            oldest = first.put_at if isinstance(first, Waiting) else None
            return Fill(waiting=len(names), aside=len(aside), oldest=oldest)

    def tidy(self) -> None:
        """Remove what crashed writers left, and what waits too long for receivers that are gone."""
        with self._lock:
            atomic.sweep(self._directory)
            for directory in self._receivers():
                atomic.sweep(directory)
                self.head(directory.name)

    # ---- files

    def _receivers(self) -> Iterator[Path]:
        try:
            yield from sorted(path for path in self._directory.iterdir() if path.is_dir())
        except FileNotFoundError:
            return
        except OSError as error:
            raise atomic.storage_error("read", self._directory, error) from error

    def _made(self, receiver: str) -> Path:
        directory = self._directory / receiver
        for path in (self._directory, directory):
            if not path.is_dir():
                atomic.make_directory(path, mode=0o700)
                atomic.sync_directory(path.parent)
        return directory

    def _names(self, directory: Path) -> list[str]:
        """Return the messages' file names, oldest first; other files are nobody's."""
        try:
            return sorted(
                path.name
                for path in directory.iterdir()
                if path.name.endswith(_ENDING) and path.name[:_SEQUENCE_DIGITS].isdecimal()
            )
        except FileNotFoundError:
            return []
        except OSError as error:
            raise atomic.storage_error("read", directory, error) from error

    def _write(self, waiting: Waiting) -> None:
        document = {
            "format": _FORMAT,
            "put_at": waiting.put_at.astimezone(UTC).isoformat(),
            "due": waiting.due.astimezone(UTC).isoformat(),
            "attempts": waiting.attempts,
            "failures": waiting.failures,
            "put_seconds": waiting.put_seconds,
            "message": document_of(waiting.message),
        }
        atomic.write(waiting.path, json.dumps(document).encode() + b"\n", mode=0o600)

    def _read(self, path: Path) -> "Waiting | _Newer | None":
        try:
            with path.open("rb") as file:
                document = json.loads(file.read(_MOST_FILE_BYTES))
            if document.get("format", _FORMAT) != _FORMAT:
                return _Newer()
            put_at, due = (datetime.fromisoformat(document[key]) for key in ("put_at", "due"))
            return Waiting(
                path=path,
                message=message_of(document["message"]),
                put_at=put_at.astimezone(UTC),
                due=due.astimezone(UTC),
                attempts=int(document["attempts"]),
                failures=int(document["failures"]),
                put_seconds=_seconds(document.get("put_seconds")),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
            return None
        except OSError as error:
            raise atomic.storage_error("read", path, error) from error

    def _remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
            atomic.sync_directory(path.parent)
        except OSError as error:
            raise atomic.storage_error("remove", path, error) from error

    def _drop(self, path: Path, reason: str) -> None:
        self._remove(path)
        self.dropped += 1
        _log.warning("message %s for %s given up: %s", path.stem, path.parent.name, reason)

    def _set_aside(self, path: Path, reason: str) -> None:
        aside = path.parent / ASIDE
        atomic.make_directory(aside, mode=0o700)
        names = self._names(aside)
        for name in names[: max(0, len(names) + 1 - self._bounds.aside)]:
            self._drop(aside / name, "too many messages were set aside")
        try:
            path.replace(aside / path.name)
            atomic.sync_directory(aside)
            atomic.sync_directory(path.parent)
        except OSError as error:
            raise atomic.storage_error("move", path, error) from error
        _log.warning("message %s for %s set aside: %s", path.stem, path.parent.name, reason)


def _seconds(value: object) -> float | None:
    """Return seconds of the outbox's time; what is no such number is unknown."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= _MOST_SECONDS else None
