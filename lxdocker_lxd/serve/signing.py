"""OpenPGP signatures made and checked with GnuPG.

A signature holds the time it was made, so the same content signed twice gives two texts. A signer
therefore remembers what it signed: in memory, or in a directory where it outlives the process.
"""

import contextlib
import hashlib
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from lxdocker_lxd.atomic import storage_error
from lxdocker_lxd.catalogue import PublishedFile
from lxdocker_lxd.errors import NotFoundError, ToolError, UsageError, VerificationError
from lxdocker_lxd.serve.gpg import Gpg, GpgResult

_DIGEST = ("--digest-algo", "SHA512")
_CLEAR_BEGIN = b"-----BEGIN PGP SIGNED MESSAGE-----"
# GnuPG overlooks characters that don't belong into a signature's text; here each one counts.
_ARMOUR = re.compile(
    rb"(?:-----BEGIN PGP SIGNATURE-----[ \t]*\r?\n(?:[A-Za-z]+: [^\r\n]*\r?\n)*[ \t]*\r?\n"
    rb"(?:[A-Za-z0-9+/]+={0,2}\r?\n)+(?:=[A-Za-z0-9+/]{4}\r?\n)?"
    rb"-----END PGP SIGNATURE-----[ \t\r\n]*)+"
)
_ARMOUR_BEGIN = b"-----BEGIN PGP SIGNATURE-----"
_BINARY = 0x80
_LONG_ID_DIGITS = 16
_USELESS = {"e": "has expired", "r": "is revoked", "d": "is disabled", "i": "is not valid"}


class SigningKeyError(NotFoundError):
    """No secret key of that name."""


class SigningFailedError(ToolError):
    """GnuPG made no signature."""


class BadSignatureError(VerificationError):
    """A signature that is wrong, by an unknown key, or none at all."""


class UnknownSignerError(BadSignatureError):
    """A signature by a key that isn't in the keyring: nobody can say whether it is right."""


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
        with self._lock:
            signature = self._kept.get(name)
            if signature is None:
                signature = sign()
                self._kept.put(name, signature)
        return signature

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


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureChecker:
    """Checks signatures against a set of public keys."""

    gpg: Gpg

    def clear_signed(self, message: bytes) -> bytes:
        """Return what a clear-signed message says; raise BadSignatureError."""
        # GnuPG would take other messages too, compressed ones for instance.
        if message.count(_CLEAR_BEGIN) != 1 or not message.startswith(_CLEAR_BEGIN):
            raise BadSignatureError("it is no clear-signed message")
        _expect_armour(message[message.rfind(_ARMOUR_BEGIN) :])
        done = self.gpg.run("--decrypt", content=message)
        _check(done)
        return done.output

    def detached(self, signature: bytes, content: bytes | BinaryIO) -> None:
        """Check a detached signature, armoured or not; raise BadSignatureError.

        ``content`` is bytes, or a file of the operating system at its beginning.
        """
        # The first byte of an OpenPGP packet has its highest bit set (RFC 4880, 4.2).
        if not signature or signature[0] < _BINARY:
            _expect_armour(signature)
        with tempfile.NamedTemporaryFile() as file:
            file.write(signature)
            file.flush()
            _check(self.gpg.run("--verify", file.name, "-", content=content))


def _expect_armour(signature: bytes) -> None:
    if not _ARMOUR.fullmatch(signature):
        raise BadSignatureError("the text of its signature is damaged")


def _check(done: GpgResult) -> None:
    if done.code == 0 and done.says("GOODSIG") and done.says("VALIDSIG"):
        return
    for keyword, reason in (
        ("BADSIG", "the signature is wrong"),
        ("EXPKEYSIG", "the key that signed it has expired"),
        ("REVKEYSIG", "the key that signed it is revoked"),
        ("EXPSIG", "the signature has expired"),
    ):
        if done.says(keyword):
            raise BadSignatureError(reason)
    missing = next(done.fields("NO_PUBKEY"), None)
    if missing:
        raise UnknownSignerError(f"signed with key {missing[0]}, which isn't in the keyring")
    raise BadSignatureError(f"no valid signature: {done.words or 'gpg failed'}")


@contextlib.contextmanager
def signature_checker(keyring: Path | None) -> Iterator[SignatureChecker]:
    """Yield a checker for the keys in the file ``keyring``, or for this user's own keyring.

    The file is a keyring or an exported key, armoured or not. Raises GpgMissingError, NotFoundError,
    and UsageError for a file without keys.
    """
    if keyring is None and _own_home().is_dir():
        yield SignatureChecker(gpg=Gpg.find())
        return
    # Keys of nobody else count, so they get a home of their own for as long as this takes. (And
    # GnuPG makes the user's own one when it is missing: to look must not do that.)
    with tempfile.TemporaryDirectory(prefix="lxdocker-keys-") as home:
        gpg = Gpg.find(home=Path(home))
        if keyring is not None:
            _import(gpg, keyring)
        yield SignatureChecker(gpg=gpg)


def _own_home() -> Path:
    return Path(os.environ.get("GNUPGHOME") or Path("~/.gnupg").expanduser())


def _import(gpg: Gpg, keyring: Path) -> None:
    if not keyring.is_file():
        raise NotFoundError(
            f"read the keyring: {keyring} does not exist", hint="name another file with --keyring"
        )
    done = gpg.run("--import", "--", str(keyring.absolute()))
    if not done.says("IMPORT_OK"):
        raise UsageError(
            f"{keyring}: no OpenPGP public key in it",
            hint="write one: gpg --armor --export KEY > FILE",
        )
