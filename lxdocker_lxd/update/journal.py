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
from lxdocker_lxd.update.journal_record import Entry, compacted, entries, line_of

FILE = "journal.jsonl"
LOCK = "lock"
SERVICE_LOCK = "service.lock"
MOST_BYTES = 1 << 20
KEPT_ENDS = 1000
_POLL_SECONDS = 0.2


class UpdaterRunsError(StorageError):
    """Another process on this machine updates with the same state directory."""


class Journal(Protocol):
    """Where an updater writes down what it decided, before it does it."""

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
        self._lock: int | None = None

    def __enter__(self) -> Self:
        atomic.make_directory(self._directory, mode=0o700)
        descriptor = atomic.open_lock(self._directory / LOCK)
        deadline = time.monotonic() + self._wait_seconds
        while not atomic.try_exclusive(descriptor):
            if time.monotonic() >= deadline:
                os.close(descriptor)
                raise UpdaterRunsError(
                    f"use {self._directory}: another updater is at work with it",
                    hint="wait for it; `lxdocker-lxd update status` shows what is unfinished",
                )
            self._pause(_POLL_SECONDS)
        try:
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

    def append(self, entry: Entry) -> None:
        """Write the entry behind the others, durably, first ending a line a crash has torn."""
        try:
            if self.path.exists() and self.path.stat().st_size > self._most_bytes:
                kept = compacted(self.read(), KEPT_ENDS)
                atomic.write(self.path, b"".join(map(line_of, kept)), mode=0o600)
            self._append(line_of(entry))
        except OSError as error:
            raise atomic.storage_error("write", self.path, error) from error

    def _append(self, line: bytes) -> None:
        new = not self.path.exists()
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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
            atomic.sync_directory(self._directory)

    def read(self) -> tuple[Entry, ...]:
        """Return what the file holds; nothing when there is none."""
        try:
            return entries(self.path.read_bytes())
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise atomic.storage_error("read", self.path, error) from error
