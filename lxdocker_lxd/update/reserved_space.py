"""Disk space that is kept for what has to be written later, when the disk may be full.

A file of bytes that no file system can make smaller; cut shorter, it gives its space to others.
"""

import contextlib
import os
from pathlib import Path

from lxdocker_lxd import atomic


class ReservedSpace:
    """A file of ``size_bytes`` at ``path``, readable by its owner alone; other files use its space."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self._size_bytes = size_bytes

    def reserve(self) -> None:
        """Return when all of it is on disk; StorageError when there is no room for it."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                self._fill(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise atomic.storage_error("reserve space in", self._path, error) from error

    def _fill(self, descriptor: int) -> None:
        end = os.lseek(descriptor, 0, os.SEEK_END)
        if end >= self._size_bytes:
            return
        while end < self._size_bytes:
            # What could be compressed would keep less than it is to make room for.
            end += os.write(descriptor, os.urandom(self._size_bytes - end))
        os.fsync(descriptor)
        atomic.sync_directory(self._path.parent)

    def release(self, size_bytes: int) -> bool:
        """Give up so many bytes; return False when nothing was left, or it can't be given up."""
        with contextlib.suppress(OSError):
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            try:
                end = os.lseek(descriptor, 0, os.SEEK_END)
                os.ftruncate(descriptor, max(end - size_bytes, 0))
                # Some file systems let others have the space only then.
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            return end > 0
        return False
