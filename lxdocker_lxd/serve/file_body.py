"""The bytes of a published file, read in blocks while they are sent.

The file is opened when the request arrives, so a later removal of its name doesn't break the
download; it is opened by the path the catalogue gives and follows no link. What the system still has in
memory is taken from there at once; what must come from the disk is read in a thread, so that a slow
disk stops nobody else. Clients that take little at a time get smaller blocks, so that many slow ones
need little memory.
"""

import asyncio
import contextlib
import errno
import os
import stat
import time
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from datetime import UTC, datetime
from pathlib import Path

from lxdocker_lxd.atomic import storage_error
from lxdocker_lxd.catalogue import PublishedFile
from lxdocker_lxd.errors import NotFoundError, StorageError

BLOCK_BYTES = 256 * 1024
"""Where the cost per block no longer counts; more only takes memory."""
LEAST_BLOCK_BYTES = 16 * 1024
_AHEAD_BYTES = 4 * 1024 * 1024
_FIRST_BLOCK_BYTES = 64 * 1024
_FAST_SECONDS = 0.1
_SLOW_SECONDS = 1.0
_OPEN_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class ChangedFileError(StorageError):
    """A published file isn't what the catalogue says: another size, or no file."""


class Disk:
    """Reads for one event loop; ``executor`` waits for the disk."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        # One for all: nothing runs between reading into it and copying out of it.
        self._scratch = memoryview(bytearray(BLOCK_BYTES))

    async def opened(self, directory: Path, file: PublishedFile) -> "OpenFile":
        """Open as :func:`opened` does, in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, opened, directory, file)

    async def read(self, descriptor: int, wanted: int, start: int) -> bytes:
        """Return up to ``wanted`` bytes (at most a block), none at the end; raise OSError."""
        present = self._present(descriptor, wanted, start)
        if present is not None:
            # Others get their turn, also beside a client that takes as fast as it is given.
            await asyncio.sleep(0)
            return present
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, _from_disk, descriptor, wanted, start)

    def _present(self, descriptor: int, wanted: int, start: int) -> bytes | None:
        """Return the bytes if all are in memory; None where some aren't, or where nobody can tell.

        Handing a block to a thread and back costs as much as a third of its encryption.
        """
        try:
            count = os.preadv(descriptor, [self._scratch[:wanted]], start, os.RWF_NOWAIT)
        except OSError:
            return None
        return bytes(self._scratch[:count]) if count == wanted else None


def _from_disk(descriptor: int, wanted: int, start: int) -> bytes:
    """Read, and have the system fetch what comes next: reading from memory doesn't make it."""
    with contextlib.suppress(OSError):
        os.posix_fadvise(descriptor, start, _AHEAD_BYTES, os.POSIX_FADV_WILLNEED)
    return os.pread(descriptor, wanted, start)


class OpenFile:
    """A published file, open. ``modified_at`` is when it was written."""

    def __init__(self, descriptor: int, path: Path, size_bytes: int, modified_at: datetime) -> None:
        self._descriptor = descriptor
        self._path = path
        self.size_bytes = size_bytes
        self.modified_at = modified_at

    async def blocks(self, start: int, stop: int, disk: Disk) -> AsyncIterator[bytes]:
        """Yield the bytes from ``start`` up to ``stop``; raise StorageError where they end early."""
        block_bytes = _FIRST_BLOCK_BYTES
        while start < stop:
            wanted = min(block_bytes, stop - start)
            try:
                block = await disk.read(self._descriptor, wanted, start)
            except OSError as error:
                raise storage_error("read", self._path, error) from error
            if not block:
                raise ChangedFileError(
                    f"{self._path}: expected {self.size_bytes} bytes, it ends after {start}"
                )
            start += len(block)
            given = time.monotonic()
            yield block
            block_bytes = _fitting(block_bytes, time.monotonic() - given)

    def close(self) -> None:
        """Give the descriptor back; may be called again."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1


def _fitting(block_bytes: int, taken_seconds: float) -> int:
    """Return how large the next block should be for a client that took so long for the last one."""
    if taken_seconds < _FAST_SECONDS:
        return min(2 * block_bytes, BLOCK_BYTES)
    if taken_seconds > _SLOW_SECONDS:
        return max(block_bytes // 2, LEAST_BLOCK_BYTES)
    return block_bytes


def opened(directory: Path, file: PublishedFile) -> OpenFile:
    """Open ``file`` of the catalogue in ``directory``.

    Raises NotFoundError when it is gone, ChangedFileError when it isn't what the catalogue says, and
    StorageError.
    """
    path = directory / file.path
    try:
        descriptor = os.open(path, _OPEN_FLAGS)
    except FileNotFoundError as error:
        raise NotFoundError(f"{path} is listed in the catalogue but is gone") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ChangedFileError(f"{path}: expected a file, got a symbolic link") from error
        raise storage_error("open", path, error) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size != file.size_bytes:
        os.close(descriptor)
        raise ChangedFileError(
            f"{path}: expected a file of {file.size_bytes} bytes, got {status.st_size} bytes",
            hint="lxdocker-lxd images --verify reads all files again",
        )
    return OpenFile(
        descriptor,
        path,
        status.st_size,
        datetime.fromtimestamp(int(status.st_mtime), UTC),
    )
