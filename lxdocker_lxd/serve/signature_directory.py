"""Signatures kept as files, so that content that didn't change isn't signed anew."""

from pathlib import Path

from lxdocker_lxd import atomic


class SignatureDirectory:
    """One directory of signatures, made when the first one is put there."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._used: set[str] = set()

    def get(self, name: str, /) -> bytes | None:
        """Return the signature of that name, if it is kept; raise StorageError."""
        path = self._directory / name
        self._used.add(name)
        try:
            return path.read_bytes() or None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise atomic.storage_error("read", path, error) from error

    def put(self, name: str, signature: bytes, /) -> None:
        """Keep a signature; raise StorageError."""
        atomic.make_directory(self._directory)
        atomic.write(self._directory / name, signature)

    def forget_unused(self) -> None:
        """Remove the signatures that nobody asked for."""
        if not self._directory.is_dir():
            return
        for path in self._directory.iterdir():
            if path.name not in self._used:
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    raise atomic.storage_error("remove", path, error) from error
