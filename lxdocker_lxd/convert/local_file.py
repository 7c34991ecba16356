"""Opening and reading local files that someone else made."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from lxdocker_lxd import atomic
from lxdocker_lxd.errors import NotFoundError, VerificationError


@contextlib.contextmanager
def open_regular(path: Path, *, what: str) -> Iterator[BinaryIO]:
    """Yield a plain file opened for reading; a pipe or device is refused before it can block.

    Raises NotFoundError, VerificationError, StorageError.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(
            f"{what}: there is no file {path}", hint="check the path for a spelling mistake"
        ) from error
    except OSError as error:
        raise atomic.storage_error("read", path, error) from error
    with open(descriptor, "rb") as file:  # noqa: PTH123 - wraps a descriptor
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise VerificationError(f"{what}: {path} is not a plain file")
        yield file


def is_regular(path: Path) -> bool:
    """Whether ``path`` is a plain file; raise StorageError where that can't be found out."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            return False
        raise atomic.storage_error("read", path, error) from error


class LocalStream:
    """At most ``left_bytes`` of an open file; errors name the file."""

    def __init__(self, file: BinaryIO, path: Path, left_bytes: int) -> None:
        self._file = file
        self._path = path
        self._left_bytes = left_bytes

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes (all that is left for a negative size)."""
        wanted = self._left_bytes if size < 0 else min(size, self._left_bytes)
        try:
            data = self._file.read(wanted)
        except OSError as error:
            raise atomic.storage_error("read", self._path, error) from error
        self._left_bytes -= len(data)
        return data
