"""Signatures kept as files, so that content that didn't change isn't signed anew."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from lxdocker_lxd import atomic
from lxdocker_lxd.ownership import directory_descriptor, open_plain, own_directory

_MOST_BYTES = 1 << 20


class SignatureDirectory:
    """One directory of signatures, made when the first one is put there.

    It is below ``top`` by these ``names``; each of them must be a real directory of this user's or root's that
    others can't write to. Raises UnsafeDirectoryError where one isn't.
    """

    def __init__(self, top: Path, *names: str) -> None:
        self._top = top
        self._names = names
        self._directory = top.joinpath(*names)
        self._used: set[str] = set()

    @contextlib.contextmanager
    def _opened(self, *, make: bool = False) -> Iterator[int]:
        with contextlib.ExitStack() as opened:
            descriptor = opened.enter_context(directory_descriptor(self._top))
            path = self._top
            for name in self._names:
                path /= name
                inner = own_directory(descriptor, name, path=path, make=make)
                descriptor = opened.enter_context(inner)
            yield descriptor

    def get(self, name: str, /) -> bytes | None:
        """Return the signature of that name, if it is kept; raise StorageError."""
        self._used.add(name)
        try:
            with self._opened() as directory, open_plain(name, directory=directory) as file:
                return file.read(_MOST_BYTES) or None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise atomic.storage_error("read", self._directory / name, error) from error

    def put(self, name: str, signature: bytes, /) -> None:
        """Keep a signature; raise StorageError."""
        path = self._directory / name
        atomic.make_directory(self._top)
        try:
            with self._opened(make=True) as directory:
                atomic.write(path, signature, directory=directory)
        except OSError as error:
            raise atomic.storage_error("write", path, error) from error

    def forget_unused(self) -> None:
        """Remove the signatures that nobody asked for."""
        try:
            with self._opened() as directory:
                names = os.listdir(directory)  # noqa: PTH208 - of a descriptor
                for name in set(names) - self._used:
                    os.unlink(name, dir_fd=directory)
        except FileNotFoundError:
            return
        except OSError as error:
            raise atomic.storage_error("remove from", self._directory, error) from error
