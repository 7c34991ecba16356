"""OpenPGP signatures made and checked with GnuPG.

A signature holds the time it was made, so the same content signed twice gives two texts. A signer
therefore remembers what it signed: in memory, or in a directory where it outlives the process.
"""

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from lxdocker_lxd.atomic import storage_error
from lxdocker_lxd.catalogue import PublishedFile
from lxdocker_lxd.clients.gpg import Gpg, GpgResult
from lxdocker_lxd.errors import NotFoundError, ToolError, UsageError

_DIGEST = ("--digest-algo", "SHA512")
_LONG_ID_DIGITS = 16
_USELESS = {"e": "has expired", "r": "is revoked", "d": "is disabled", "i": "is not valid"}


class SigningKeyError(NotFoundError):
    """No secret key of that name."""


class SigningFailedError(ToolError):
    """GnuPG made no signature."""


class Signatures(Protocol):
    """Where a signer keeps what it made, by a name that says key, kind and content."""

    def get(self, name: str, /) -> bytes | None:
        """Return what was kept, if anything."""
        ...

    def put(self, name: str, signature: bytes, /) -> None:
        """Keep a signature."""
        ...


class SignaturesInMemory:
    """Keeps signatures for the life of the process, the latest ones only.

    ``before`` is looked into as well and never written to.
    """

    def __init__(self, most_bytes: int = 64 << 20, *, before: Signatures | None = None) -> None:
        self._before = before
        self._kept: dict[str, bytes] = {}
        self._left_bytes = most_bytes

    def get(self, name: str, /) -> bytes | None:
        """Return what was kept, if anything."""
        kept = self._kept.get(name)
        return kept or (self._before.get(name) if self._before is not None else None)

    def put(self, name: str, signature: bytes, /) -> None:
        """Keep a signature; forget the oldest ones when there are too many."""
        self._kept[name] = signature
        self._left_bytes -= len(signature)
        while self._left_bytes < 0 and len(self._kept) > 1:
            self._left_bytes += len(self._kept.pop(next(iter(self._kept))))


class GpgSigner:
    """Signs with one key. ``fingerprint`` is the primary key's; safe for threads."""

    def __init__(self, gpg: Gpg, fingerprint: str, lxdimages: Path, kept: Signatures) -> None:
        self._gpg = gpg
        self._lxdimages = lxdimages
        self._kept = kept
        self._lock = threading.Lock()
        self._turns: dict[str, tuple[threading.Lock, int]] = {}
        self.fingerprint = fingerprint

    @property
    def long_id(self) -> str:
        """The key's long id: 16 hexadecimal digits in upper case."""
        return self.fingerprint[-_LONG_ID_DIGITS:]

    def clear_signed(self, content: bytes) -> bytes:
        """Return ``content`` inside a clear-signed message; raise SigningFailedError."""
        digest = hashlib.sha256(content).hexdigest()
        return self._signature(
            "clear", digest, lambda: self._run("--clearsign", content=content, what="a document")
        )

    def detached(self, content: bytes) -> bytes:
        """Return an armoured detached signature of ``content``; raise SigningFailedError."""
        digest = hashlib.sha256(content).hexdigest()
        return self._signature(
            "detached", digest, lambda: self._detached(content, what="a document")
        )

    def detached_file(self, file: PublishedFile) -> bytes:
        """Return an armoured detached signature of a published file.

        The file is read only if it was never signed before. Raises SigningFailedError and
        StorageError.
        """
        path = self._lxdimages / file.path

        def sign() -> bytes:
            try:
                with path.open("rb") as content:
                    return self._detached(content, what=str(path))
            except OSError as error:
                raise storage_error("read", path, error) from error

        return self._signature("detached", file.sha256, sign)

    def public_key(self) -> bytes:
        """Return the public key, armoured; raise SigningFailedError."""
        done = self._gpg.run(
            *("--armor", "--export-options", "export-minimal", "--export", self.fingerprint)
        )
        if done.code != 0 or not done.output:
            raise SigningFailedError(f"export key {self.fingerprint}: {done.words}")
        return done.output

    def _signature(self, kind: str, digest: str, sign: Callable[[], bytes]) -> bytes:
        name = f"{self.fingerprint}-{kind}-{digest}"
        with self._turn_of(name):
            with self._lock:
                signature = self._kept.get(name)
            if signature is None:
                signature = sign()
                with self._lock:
                    self._kept.put(name, signature)
        return signature

    @contextlib.contextmanager
    def _turn_of(self, name: str) -> Iterator[None]:
        """One thread at a time makes a signature; others are made meanwhile."""
        with self._lock:
            turn, users = self._turns.get(name, (threading.Lock(), 0))
            self._turns[name] = turn, users + 1
        try:
            with turn:
                yield
        finally:
            with self._lock:
                turn, users = self._turns.pop(name)
                if users > 1:
                    self._turns[name] = turn, users - 1

    def _detached(self, content: bytes | BinaryIO, *, what: str) -> bytes:
        return self._run("--armor", "--detach-sign", content=content, what=what)

    def _run(self, *command: str, content: bytes | BinaryIO, what: str) -> bytes:
        done = self._gpg.run(*_DIGEST, "--local-user", self.fingerprint, *command, content=content)
        if done.code != 0 or not done.says("SIG_CREATED"):
            raise _signing_failed(done, self.fingerprint, what)
        return done.output


def _signing_failed(done: GpgResult, fingerprint: str, what: str) -> SigningFailedError:
    if done.says("NEED_PASSPHRASE") or done.says("MISSING_PASSPHRASE"):
        return SigningFailedError(
            f"sign {what}: key {fingerprint} is protected by a passphrase",
            hint="use a key for this server alone, without one; or give the passphrase to the"
            " running gpg-agent first (gpg-preset-passphrase)",
        )
    return SigningFailedError(
        f"sign {what} with key {fingerprint}: {done.words or 'gpg failed'}",
        hint="look whether gpg --local-user KEY --clearsign works for this user",
    )


def gpg_signer(key: str, lxdimages: Path, kept: Signatures | None = None) -> GpgSigner:
    """Return the signer for ``key``: a fingerprint, key id or user id with a secret key here.

    Published files are looked for in the catalogue's directory ``lxdimages``. Raises GpgMissingError,
    SigningKeyError (no such key), UsageError (several, or one that is no longer valid).
    """
    gpg = Gpg.find()
    # Two dashes end the options: a key's name is never one.
    listed = gpg.run("--with-colons", "--list-secret-keys", "--", key)
    found = _primary_keys(listed.output.decode("utf-8", "replace"))
    if not found:
        home = f"GNUPGHOME={gpg.home}" if gpg.home else "GNUPGHOME or ~/.gnupg of this user"
        raise SigningKeyError(
            f"--gpg-key {key}: no secret key of that name",
            hint=f"gpg --list-secret-keys shows those in {home}",
        )
    if len(found) > 1:
        raise UsageError(
            f"--gpg-key {key}: several keys have that name: {', '.join(found)}",
            hint="give the fingerprint of one",
        )
    ((fingerprint, validity),) = found.items()
    if validity in _USELESS:
        raise UsageError(
            f"--gpg-key {key}: the key {fingerprint} {_USELESS[validity]}",
            hint="give another key, or prolong it: gpg --quick-set-expire",
        )
    return GpgSigner(gpg, fingerprint, lxdimages, SignaturesInMemory() if kept is None else kept)


def _primary_keys(listing: str) -> dict[str, str]:
    """Return fingerprint and validity of each primary key (GnuPG's doc/DETAILS)."""
    found: dict[str, str] = {}
    validity: str | None = None
    for line in listing.splitlines():
        fields = line.split(":")
        if fields[0] == "sec":
            validity = fields[1]
        elif fields[0] == "fpr" and validity is not None:
            found[fields[9]] = validity
            validity = None
    return found
