"""Signatures in a tree: which there are, which should be, and whether they are right.

Documents of one kind are signed together or not at all: where one of them has a signature, each should. A
signature by a key nobody gave us proves nothing and is a remark, unless keys were given.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import BinaryIO
from urllib.parse import unquote

from lxdocker_lxd.clients.signature_check import (
    BadSignatureError,
    SignatureChecker,
    UnknownSignerError,
)
from lxdocker_lxd.serve.finding import Finding, remark, wrong

FetchDocument = Callable[[str], bytes | None]


@dataclass(slots=True)
class TreeSignatures:
    """Checks signatures; ``strict`` when the user gave the keys that must have signed.

    ``checked`` counts the good ones.
    """

    checker: SignatureChecker | None
    strict: bool
    fetch: FetchDocument
    checked: int = 0
    seen: set[str] = field(default_factory=set)

    def group(self, contents: Iterable[tuple[str, bytes | None]], suffix: str) -> list[Finding]:
        """Check detached signatures of documents of one kind, at their paths and ``suffix``.

        A content that is None is checked by others (:meth:`file`), but must be signed alike.
        """
        documents = list(contents)
        signatures = {path: self.fetch(path + suffix) for path, _ in documents}
        self.seen.update(unquote(path + suffix) for path, _ in documents)
        found: list[Finding] = []
        if any(signature is not None for signature in signatures.values()):
            found += [
                wrong(path + suffix, "the signature is missing, others like it are there")
                for path, signature in signatures.items()
                if signature is None
            ]
        for path, content in documents:
            signature = signatures[path]
            if signature is not None and content is not None:
                finding = self.detached(path + suffix, signature, content)
                found += [finding] if finding is not None else []
        return found

    def file(self, path: str, suffix: str) -> Callable[[BinaryIO], Finding | None] | None:
        """Return the check of a file's detached signature, None where it has none."""
        signature = self.fetch(path + suffix)
        if signature is None:
            return None
        return lambda content: self.detached(path + suffix, signature, content)

    def further(self, path: str, suffix: str) -> Callable[[BinaryIO], Finding | None] | None:
        """Return the check of a signature that nothing led to, None if it was looked at already.

        Whoever made it needn't be one of the keys.
        """
        if unquote(path + suffix) in self.seen:
            return None
        signature = self.fetch(path + suffix)
        if signature is None:
            return None
        return lambda content: self.detached(path + suffix, signature, content, anyones=True)

    def detached(
        self, path: str, signature: bytes, content: bytes | BinaryIO, *, anyones: bool = False
    ) -> Finding | None:
        """Check one detached signature; ``anyones`` if it needn't be by one of the keys."""
        if self.checker is None:
            return remark(path, "not checked: gpg is not installed")
        try:
            self.checker.detached(signature, content)
        except UnknownSignerError as error:
            return remark(path, error.message) if anyones else self._finding(path, error)
        except BadSignatureError as error:
            return self._finding(path, error)
        self.checked += 1
        return None

    def clear_signed(self, path: str, message: bytes) -> tuple[bytes | None, Finding | None]:
        """Check a clear-signed document; return what it says, or the finding."""
        if self.checker is None:
            return None, remark(path, "not checked: gpg is not installed")
        try:
            content = self.checker.clear_signed(message)
        except BadSignatureError as error:
            return None, self._finding(path, error)
        self.checked += 1
        return content, None

    def _finding(self, path: str, error: BadSignatureError) -> Finding:
        if isinstance(error, UnknownSignerError) and not self.strict:
            return remark(path, error.message)
        return wrong(path, error.message)
