"""A tree in a directory: nothing outside of it is ever opened."""

import contextlib
import gzip
import os
import stat
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote

from lxdocker_lxd.atomic import storage_error
from lxdocker_lxd.clients.tree import PLAIN_CHARACTERS, Body, DamagedError, MissingError
from lxdocker_lxd.errors import NotFoundError

_INDEX = "streams/v1/index.json"
_TWIN = ".gz"


class _Gzip:
    """The content of a gzip file."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = gzip.GzipFile(fileobj=file)
        self._name = name

    def read(self, size_bytes: int, /) -> bytes:
        """Return at most so many bytes; raise DamagedError."""
        try:
            return self._file.read(size_bytes)
        except (OSError, EOFError, zlib.error) as error:
            raise DamagedError(f"{self._name}: broken gzip: {error}") from error


class DirectoryTree:
    """The files below one directory, as a web server would give them away."""

    is_remote = False

    def __init__(self, directory: Path) -> None:
        if not directory.is_dir():
            raise NotFoundError(
                f"verify {directory}: there is no such directory",
                hint="name an exported directory, or an https:// URL",
            )
        self._directory = directory.resolve()
        self.name = str(directory)

    @contextlib.contextmanager
    def open(self, path: str, *, compressed: bool = False) -> Iterator[Body]:
        """Open a file; with ``compressed`` its ``.gz`` twin, which nginx would send."""
        name = f"{path}{_TWIN}" if compressed else path
        with self._opened(name) as file:
            yield _Gzip(file, name) if compressed else file

    def _opened(self, name: str) -> BinaryIO:
        place = self._place(name)
        try:
            # Without waiting for a writer of a pipe; and what was resolved is no link any more.
            descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise MissingError(f"{name}: there is no such file") from error
        except OSError as error:
            raise storage_error("read", place, error) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise DamagedError(f"{name}: it is no file")
        return open(descriptor, "rb")  # noqa: PTH123 - wraps a descriptor

    def _place(self, name: str) -> Path:
        """Return the real place of a path of the tree; raise DamagedError if that is outside."""
        try:
            place = (self._directory / unquote(name)).resolve()
        except (OSError, RuntimeError, ValueError) as error:
            raise DamagedError(f"{name}: it can't be looked up: {error}") from error
        if not place.is_relative_to(self._directory):
            raise DamagedError(f"{name}: it leads out of the tree")
        return place

    def roots(self) -> Sequence[str]:
        """Return the prefix of every simplestreams index below the directory."""
        found = []
        for directory, _, _ in os.walk(self._directory):
            if (Path(directory) / _INDEX).is_file():
                relative = Path(directory).relative_to(self._directory).as_posix()
                found.append("" if relative == "." else f"{relative}/")
        return sorted(found)

    def signed(self, endings: tuple[str, ...]) -> Sequence[tuple[str, str]]:
        """Return path and ending of each file that has one with such an ending beside it."""
        found = []
        for directory, _, names in os.walk(self._directory):
            relative = Path(directory).relative_to(self._directory)
            for name in names:
                path = quote((relative / name).as_posix(), safe=PLAIN_CHARACTERS)
                found += [(path, ending) for ending in endings if f"{name}{ending}" in names]
        return sorted(found)

    def identity(self, path: str) -> object:
        """Return device and number of the file."""
        try:
            status = self._place(path).stat()
        except (OSError, DamagedError):
            return path
        return status.st_dev, status.st_ino
