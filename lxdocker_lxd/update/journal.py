"""The journal on disk: appended and synced before anything it tells of happens in LXD."""

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from lxdocker_lxd import atomic
from lxdocker_lxd.errors import StorageError
from lxdocker_lxd.update.journal_record import (
    FORMAT,
    MOST_LINE_BYTES,
    Entry,
    compacted,
    entries,
    line_of,
    newer_format,
)
from lxdocker_lxd.update.reserved_space import ReservedSpace

FILE = "journal.jsonl"
ROOM_FILE = "journal.room"
LOCK = "lock"
SERVICE_LOCK = "service.lock"
MOST_BYTES = 1 << 20
KEPT_ENDS = 1000
# An update writes some six lines of a few hundred bytes, and one for each restart of a dependant;
# only the two that may hold what a failed version said last can be as long as a line may be.
ROOM_BYTES = 16 * MOST_LINE_BYTES
# What is given free at once, and again until a line fits.
_PIECE_BYTES = 8 << 10
_POLL_SECONDS = 0.2


class UpdaterRunsError(StorageError):
    """Another process on this machine updates with the same state directory."""


class Journal(Protocol):
    """Where an updater writes down what it decided, before it does it."""

    def reserve(self) -> None:
        """Keep room for all entries of one transaction; StorageError when there is none."""
        ...

    def append(self, entry: Entry) -> None:
        """Return when the entry is on disk; StorageError when it couldn't be written."""
        ...

    def read(self) -> tuple[Entry, ...]:
        """Return all entries that can be read, oldest first."""
        ...


@contextlib.contextmanager
def service_lock(directory: Path) -> Iterator[bool]:
    """Yield whether this process is the one that serves the state directory, for the block."""
    atomic.make_directory(directory, mode=0o700)
    descriptor = atomic.open_lock(directory / SERVICE_LOCK)
    try:
        yield atomic.try_exclusive(descriptor)
    finally:
        os.close(descriptor)


class JournalFile:
    """Implements :class:`Journal` in a directory; a context manager that holds its lock.

    A second process waits for it, ``wait_seconds`` at most, and then gets UpdaterRunsError. The
    service holds the lock only while it works. ``entered`` is called with the lock held, and what it
    raises gives the lock back; ``left`` is called before it is given back; ``pause`` waits in short
    steps. The file is readable by its owner alone and is cut to its open transactions and the last
    thousand ends when it has grown beyond a megabyte.
    """

    def __init__(
        self,
        directory: Path,
        *,
        most_bytes: int = MOST_BYTES,
        wait_seconds: float = 0.0,
        pause: Callable[[float], None] = time.sleep,
        entered: Callable[[], None] = lambda: None,
        left: Callable[[], None] = lambda: None,
    ) -> None:
        self._directory = directory
        self._wait_seconds = wait_seconds
        self._most_bytes = most_bytes
        self._pause = pause
        self._entered = entered
        self._left = left
        self._room = ReservedSpace(directory / ROOM_FILE, ROOM_BYTES)
        self._lock: int | None = None

    def __enter__(self) -> Self:
        atomic.make_directory(self._directory, mode=0o700)
        descriptor = atomic.open_lock(self._directory / LOCK)
        deadline = time.monotonic() + self._wait_seconds
        while not atomic.try_exclusive(descriptor):
            if time.monotonic() >= deadline:
                who = atomic.holder(descriptor)
                os.close(descriptor)
                raise UpdaterRunsError(
                    f"use {self._directory}: another updater is at work with it"
                    + (f": {who}" if who else ""),
                    hint="wait for it; `lxdocker-lxd update status` shows what is unfinished",
                )
            self._pause(_POLL_SECONDS)
        try:
            # One that can't be understood isn't worked with.
            self.read()
            self._entered()
        except BaseException:
            os.close(descriptor)
            raise
        self._lock = descriptor
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._lock is not None:
            try:
                self._left()
            finally:
                os.close(self._lock)
                self._lock = None

    @property
    def path(self) -> Path:
        """The file."""
        return self._directory / FILE

    def reserve(self) -> None:
        """Keep room for the lines that an update may need, in a file beside this one."""
        self._room.reserve()

    def append(self, entry: Entry) -> None:
        """Write the entry behind the others, durably; on a full disk, into the room kept for it."""
        line = line_of(entry)
        self._shorten()
        while True:
            try:
                atomic.append_line(self.path, line)
            except StorageError as error:
                if not _is_full(error) or not self._room.release(_PIECE_BYTES):
                    raise
            else:
                return

    def _shorten(self) -> None:
        """Cut a file that has grown too long; one that can't be cut now can still be written to."""
        with contextlib.suppress(StorageError, OSError):
            if self.path.stat().st_size > self._most_bytes:
                kept = compacted(self.read(), KEPT_ENDS)
                atomic.write(self.path, b"".join(map(line_of, kept)), mode=0o600)

    def read(self) -> tuple[Entry, ...]:
        """Return what the file holds; nothing when there is none.

        Raises StorageError also for a file that a newer version wrote into: what it means by its
        lines isn't known.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise atomic.storage_error("read", self.path, error) from error
        if number := newer_format(content):
            raise StorageError(
                f"read {self.path}: it has lines of format {number}, and this lxdocker-lxd knows"
                f" formats up to {FORMAT}; nothing was done",
                hint="a newer lxdocker-lxd wrote it: install that one again",
            )
        return entries(content)


def _is_full(error: StorageError) -> bool:
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in {errno.ENOSPC, errno.EDQUOT}
