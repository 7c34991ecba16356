"""A tree of documents and files somewhere, to be read: the port, and which paths stay inside. Pure."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from lxdocker_lxd.errors import NetworkError, NotFoundError, VerificationError

PLAIN_CHARACTERS = "/:@+,~="
"""What paths of files hold besides letters, digits and ``_.-`` without being quoted."""


class MissingError(NotFoundError):
    """The tree has nothing at a path, or doesn't give it away."""


class UnreachedError(NetworkError):
    """The tree can't be read: no answer, a broken connection, a failing server."""


class DamagedError(VerificationError):
    """What is at a path can't be read: a broken encoding, a link out of the tree, no file."""


class Body(Protocol):
    """Content being read."""

    def read(self, size_bytes: int, /) -> bytes:
        """Return at most so many bytes, none at the end; raise UnreachedError or DamagedError."""
        ...


class Tree(Protocol):
    """Gives content by path. Paths are relative, as documents write them. Safe for threads."""

    @property
    def name(self) -> str:
        """How errors call the tree; without credentials."""
        ...

    @property
    def is_remote(self) -> bool:
        """Whether it is behind a network."""
        ...

    def open(self, path: str, *, compressed: bool = False) -> AbstractContextManager[Body]:
        """Open what is at ``path``; raise MissingError, DamagedError or UnreachedError.

        ``compressed`` asks for the form a client gets that understands gzip, unpacked; that may be
        missing.
        """
        ...

    def roots(self) -> Sequence[str]:
        """Return the prefixes of all simplestreams trees that can be found in it."""
        ...

    def signed(self, endings: tuple[str, ...]) -> Sequence[tuple[str, str]]:
        """Return path and ending of each file with a detached signature that can be found in it."""
        ...

    def identity(self, path: str) -> object:
        """Return the same for two paths only if they are one file."""
        ...


def is_inside(path: str) -> bool:
    """Whether a path that a document names stays in the tree and means one place to every client."""
    parts = path.split("/")
    return (
        bool(path)
        and "://" not in path
        and not any(character in path for character in "\\?#")
        and path.isprintable()
        and not any(part in ("", ".", "..") for part in parts)
    )
