"""A tree of which nothing counts unless one of the given keys signed it, and it says so beside it.

The signature of ``PATH`` is ``PATH.asc``. Documents stay in memory, up to a limit; files go to a
directory of the caller's while they arrive, and count only once their signature was checked.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lxdocker_lxd.atomic import storage_error
from lxdocker_lxd.clients.signature_check import BadSignatureError, SignatureChecker
from lxdocker_lxd.clients.tree import MissingError, Tree
from lxdocker_lxd.clients.whole_document import oversize, read_whole
from lxdocker_lxd.errors import VerificationError

SUFFIX = ".asc"
MOST_DOCUMENT_BYTES = 16 << 20
_MOST_SIGNATURE_BYTES = 1 << 16
_BLOCK_BYTES = 1 << 18
_HINT = "nothing was taken from there; ask who runs the server, or compare the keys you trust"


class UnsignedError(VerificationError):
    """Content without a signature, where only signed content counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedFile:
    """A file that arrived and was signed right. ``sha256`` in hexadecimal digits."""

    path: Path
    sha256: str
    size_bytes: int


class SignedTree:
    """Reads ``tree``, and believes the keys of ``checker`` only."""

    def __init__(self, tree: Tree, checker: SignatureChecker) -> None:
        self._tree = tree
        self._checker = checker

    @property
    def name(self) -> str:
        """How errors call the tree."""
        return self._tree.name

    def document(self, path: str, *, most_bytes: int = MOST_DOCUMENT_BYTES) -> bytes:
        """Return a signed document.

        Raises MissingError, UnsignedError, BadSignatureError, OversizeError, and what the tree raises
        (UnreachedError, DamagedError).
        """
        content = read_whole(self._tree, path, most_bytes=most_bytes)
        signature = self._signature(path)
        try:
            self._checker.detached(signature, content)
        except BadSignatureError as error:
            raise self._refused(path, error) from error
        return content

    def fetch(
        self,
        path: str,
        directory: Path,
        *,
        most_bytes: int,
        on_bytes: Callable[[int], None] = lambda _: None,
    ) -> FetchedFile:
        """Bring a signed file into ``directory``, under its own name, and return it.

        ``on_bytes`` is told how many arrived so far. A file that isn't signed right is removed.
        Raises what :meth:`document` raises, and StorageError.
        """
        with self._tree.open(path) as body:
            # Whoever has the file has its signature too; to look for it costs less than the file.
            signature = self._signature(path)
            place = directory / path.rpartition("/")[2]
            try:
                found = _stored(body.read, place, most_bytes, on_bytes, what=self._named(path))
                with place.open("rb") as content:
                    self._checker.detached(signature, content)
            except BadSignatureError as error:
                place.unlink(missing_ok=True)
                raise self._refused(path, error) from error
            except OSError as error:
                raise storage_error("write", place, error) from error
            except BaseException:
                place.unlink(missing_ok=True)
                raise
        return found

    def _signature(self, path: str) -> bytes:
        try:
            return read_whole(self._tree, path + SUFFIX, most_bytes=_MOST_SIGNATURE_BYTES)
        except MissingError as error:
            raise UnsignedError(
                f"{self._named(path)} is not signed: there is no {path.rpartition('/')[2]}{SUFFIX}",
                hint=_HINT,
            ) from error

    def _refused(self, path: str, error: BadSignatureError) -> BadSignatureError:
        return type(error)(f"{self._named(path)}: {error.message}", hint=_HINT)

    def _named(self, path: str) -> str:
        return f"{self._tree.name}/{path}"


def _stored(
    read: Callable[[int], bytes],
    place: Path,
    most_bytes: int,
    on_bytes: Callable[[int], None],
    *,
    what: str,
) -> FetchedFile:
    """Copy to a new file and hash what passes; at most one block is in memory."""
    digest = hashlib.sha256()
    done_bytes = 0
    with place.open("xb") as file:
        while block := read(_BLOCK_BYTES):
            done_bytes += len(block)
            if done_bytes > most_bytes:
                raise oversize(what, most_bytes)
            digest.update(block)
            file.write(block)
            on_bytes(done_bytes)
    return FetchedFile(path=place, sha256=digest.hexdigest(), size_bytes=done_bytes)
