"""What a path of the image server leads to: a document rendered when asked for, or a published file.

Pure. Paths are relative, ``/``-separated, already decoded and without empty or dot segments; they are
names, never places on a disk.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from lxdocker_lxd.catalogue import PublishedFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """Text made from the catalogue. ``render`` always returns the same bytes; it may take long.

    With ``reads_file`` it reads a whole published file, which may be gigabytes.
    """

    path: str
    media_type: str
    render: Callable[[], bytes]
    reads_file: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """A published file under one of its names."""

    path: str
    media_type: str
    file: PublishedFile


Entry = Document | FileEntry


class Signer(Protocol):
    """Makes OpenPGP signatures with the key the administrator chose. Raises ToolError."""

    @property
    def long_id(self) -> str:
        """The key's long id: 16 hexadecimal digits."""
        ...

    def public_key(self) -> bytes:
        """Return the public key, armoured."""
        ...

    def clear_signed(self, content: bytes) -> bytes:
        """Return ``content`` inside a clear-signed message."""
        ...

    def detached(self, content: bytes) -> bytes:
        """Return an armoured detached signature of ``content``."""
        ...

    def detached_file(self, file: PublishedFile) -> bytes:
        """Return an armoured detached signature of a published file."""
        ...
