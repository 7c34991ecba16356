"""A download that may break off and go on later, in this run or the next.

The bytes that came are in one file per digest, locked while someone adds to it. They are data, not
truth: going on hashes them again, and when the sum is wrong in the end (a crash may leave zeros, a
mirror may lie) the download starts over once.
"""

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from lxdocker_lxd import atomic
from lxdocker_lxd.convert.oci import Descriptor
from lxdocker_lxd.digest import ByteStream, DigestMismatchError, VerifyingReader
from lxdocker_lxd.errors import StorageError

CHUNK_BYTES = 1 << 20
# A holder that adds less than this in that time is too slow to be waited for.
_GROWTH_BYTES = 1 << 20
STALLED_SECONDS = 60.0
_POLL_SECONDS = 0.05
_MOST_FILES = 8

OpenAt = Callable[[int], AbstractContextManager[ByteStream]]


@contextlib.contextmanager
def locked_partial(path: Path, *, stalled_seconds: float) -> Iterator[tuple[BinaryIO, Path]]:
    """Yield the partial file at ``path``, made if missing, for this thread alone, and where it is.

    Waits for other threads and processes as long as the file grows. Who gets the same bytes from a
    slow server doesn't hold up others: they take a file of their own beside it. Raises StorageError.
    """
    for number in range(1, _MOST_FILES + 1):
        one = path if number == 1 else path.with_name(f"{path.name}.{number}")
        file = _lock(one, stalled_seconds)
        if file is not None:
            with file:
                yield file, one
            return
    raise StorageError(
        f"lock {path}: {_MOST_FILES} downloads of it are under way, and none of them gets on",
        hint="try again when they have ended",
    )


def _lock(path: Path, stalled_seconds: float) -> BinaryIO | None:
    """Return the file, locked; None when its holder hasn't added to it for a while."""
    grown_bytes, grown_at = 0, time.monotonic()
    while True:
        # Its own lock, so that nobody else can read it either, now and as a blob.
        descriptor = atomic.open_lock(path)
        file = open(descriptor, "r+b", buffering=0)  # noqa: PTH123, SIM115 - wraps a descriptor; the caller closes it
        # While this thread waited, the holder may have moved the file to its final name.
        if atomic.try_exclusive(descriptor) and _is_still(path, file):
            return file
        size_bytes = os.fstat(descriptor).st_size
        file.close()
        now = time.monotonic()
        if abs(size_bytes - grown_bytes) >= _GROWTH_BYTES:
            grown_bytes, grown_at = size_bytes, now
        elif now - grown_at > stalled_seconds:
            return None
        time.sleep(_POLL_SECONDS)


def complete(
    file: BinaryIO,
    path: Path,
    descriptor: Descriptor,
    open_at: OpenAt,
    on_bytes: Callable[[int], None],
) -> None:
    """Make the partial file hold the whole, verified content, and sync it.

    ``on_bytes`` gets the count so far. Raises DigestMismatchError (the file is gone then),
    StorageError (the file is emptied when the disk is full), and whatever the stream raises (what
    came is kept then).
    """
    try:
        held_bytes = os.fstat(file.fileno()).st_size
        if held_bytes > descriptor.size_bytes:
            os.ftruncate(file.fileno(), 0)
            held_bytes = 0
        # Once more for a wrong sum: a source with mirrors then asks another one. Held bytes that
        # were wrong don't count against it.
        for again in reversed(range(3 if held_bytes else 2)):
            try:
                _copy(file, path, descriptor, open_at, on_bytes)
                break
            except DigestMismatchError:
                if not again:
                    raise
                os.ftruncate(file.fileno(), 0)
        try:
            os.fsync(file.fileno())
        except OSError as error:
            raise atomic.storage_error("write", path, error) from error
    except DigestMismatchError:
        path.unlink(missing_ok=True)
        raise
    except StorageError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in {errno.ENOSPC, errno.EDQUOT}:
            # Whoever else lives on this disk needs the space more than the next run does.
            os.ftruncate(file.fileno(), 0)
        raise


def _copy(
    file: BinaryIO,
    path: Path,
    descriptor: Descriptor,
    open_at: OpenAt,
    on_bytes: Callable[[int], None],
) -> None:
    file.seek(0)
    with contextlib.ExitStack() as opened:
        growing = _GrowingFile(
            file,
            path,
            descriptor.size_bytes,
            lambda held_bytes: opened.enter_context(open_at(held_bytes)),
        )
        reader = VerifyingReader(
            growing, descriptor.digest, descriptor.size_bytes, what=f"blob {descriptor.digest}"
        )
        done_bytes = 0
        while data := reader.read(CHUNK_BYTES):
            done_bytes += len(data)
            on_bytes(done_bytes)


class _GrowingFile:
    """The bytes a file holds, then those of a stream, which are appended to the file."""

    def __init__(
        self, file: BinaryIO, path: Path, whole_bytes: int, go_on: Callable[[int], ByteStream]
    ) -> None:
        self._file = file
        self._path = path
        self._whole_bytes = whole_bytes
        self._go_on = go_on
        self._stream: ByteStream | None = None
        self._held_bytes = 0

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes."""
        if self._stream is None:
            if data := self._file.read(size):
                self._held_bytes += len(data)
                return data
            if self._held_bytes >= self._whole_bytes:
                return b""
            self._stream = self._go_on(self._held_bytes)
        data = self._stream.read(size)
        # One byte past the end may be asked for, to see that there is none; it isn't kept.
        self._append(data[: self._whole_bytes - self._held_bytes])
        self._held_bytes += len(data)
        return data

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            # An unbuffered file may take less than it is given.
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise atomic.storage_error("write", self._path, error) from error


def _is_still(path: Path, file: BinaryIO) -> bool:
    try:
        named = path.lstat()
    except FileNotFoundError:
        return False
    opened = os.fstat(file.fileno())
    return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)
