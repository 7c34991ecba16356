"""Content digests, and readers that verify while they read.

Grammar (image-spec, descriptor.md): ``algorithm ":" encoded``; sha256 has 64 lower-case hexadecimal
digits, sha512 has 128. Other algorithms can't be verified here and are refused, before a digest
ever becomes part of a path or URL.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, Self

from lxdocker_lxd.errors import UsageError, VerificationError

_ENCODED = {"sha256": re.compile(r"[0-9a-f]{64}"), "sha512": re.compile(r"[0-9a-f]{128}")}
_READ_BYTES = 1 << 20


class DigestMismatchError(VerificationError):
    """Content whose digest or size is not the promised one."""


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A verified-grammar content digest; ``str()`` is the exact inverse of :meth:`parse`."""

    algorithm: str
    encoded: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the digest written in ``text``; raise UsageError naming the broken rule."""
        algorithm, separator, encoded = text.partition(":")
        pattern = _ENCODED.get(algorithm)
        if not separator or pattern is None:
            raise UsageError(
                f"digest {text[:160]!r} does not start with sha256: or sha512:",
                hint="only these two algorithms can be verified",
            )
        if not pattern.fullmatch(encoded):
            raise UsageError(
                f"digest {text[:160]!r} needs {pattern.pattern[9:-1]} lower-case hexadecimal digits"
                f" after {algorithm}:, got {len(encoded)} characters"
            )
        return cls(algorithm, encoded)

    @classmethod
    def of(cls, content: bytes) -> Self:
        """Return the sha256 digest of ``content``."""
        return cls("sha256", hashlib.sha256(content).hexdigest())

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.encoded}"


class ByteStream(Protocol):
    """Anything that yields its next bytes, and ``b""`` at its end."""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes."""
        ...


class VerifyingReader:
    """Reads a stream and guarantees digest and size by its end.

    Reading to the end *is* the check: the last ``read`` either returns ``b""`` or raises
    DigestMismatchError. Never asks the stream for more than one byte past ``size_bytes``.
    """

    def __init__(self, stream: ByteStream, digest: Digest, size_bytes: int, *, what: str) -> None:
        if size_bytes < 0:
            raise ValueError(f"{what}: a size can't be negative: {size_bytes}")
        self._stream = stream
        self._digest = digest
        self._size_bytes = size_bytes
        self._what = what
        self._hash = hashlib.new(digest.algorithm, usedforsecurity=True)
        self._seen_bytes = 0
        self._checked = False

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` verified-so-far bytes (at most 1 MiB for a negative size)."""
        if size == 0:
            return b""
        wanted = _READ_BYTES if size < 0 else size
        left = self._size_bytes - self._seen_bytes
        data = self._stream.read(min(wanted, left) if left else 1)
        if len(data) > left:
            raise DigestMismatchError(f"{self._what}: expected {self._size_bytes} bytes, got more")
        if data:
            self._seen_bytes += len(data)
            self._hash.update(data)
        else:
            self._check()
        return data

    def __iter__(self) -> Iterator[bytes]:
        while data := self.read():
            yield data

    def _check(self) -> None:
        if self._checked:
            return
        if self._seen_bytes != self._size_bytes:
            raise DigestMismatchError(
                f"{self._what}: expected {self._size_bytes} bytes, got {self._seen_bytes}"
            )
        got = self._hash.hexdigest()
        if got != self._digest.encoded:
            raise DigestMismatchError(
                f"{self._what}: expected digest {self._digest}, got {self._digest.algorithm}:{got}"
            )
        self._checked = True
