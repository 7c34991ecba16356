"""OpenPGP signatures checked with GnuPG, against a set of public keys and no others."""

import contextlib
import itertools
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lxdocker_lxd.clients.document import DocumentError
from lxdocker_lxd.clients.gpg import Gpg, GpgResult
from lxdocker_lxd.errors import NotFoundError, UsageError, VerificationError

_CLEAR_BEGIN = b"-----BEGIN PGP SIGNED MESSAGE-----"
# GnuPG overlooks characters that don't belong into a signature's text; here each one counts.
_ARMOUR = re.compile(
    rb"(?:-----BEGIN PGP SIGNATURE-----[ \t]*\r?\n(?:[A-Za-z]+: [^\r\n]*\r?\n)*[ \t]*\r?\n"
    rb"(?:[A-Za-z0-9+/]+={0,2}\r?\n)+(?:=[A-Za-z0-9+/]{4}\r?\n)?"
    rb"-----END PGP SIGNATURE-----[ \t\r\n]*)+"
)
_ARMOUR_BEGIN = b"-----BEGIN PGP SIGNATURE-----"
_BINARY = 0x80
# Where VALIDSIG tells the hash (GnuPG's doc/DETAILS), and MD5, SHA-1 and RIPEMD-160 (RFC 4880, 9.4).
_HASH_FIELD = 7
_FORGEABLE = frozenset({"1", "2", "3"})
_KEY_ROWS = frozenset({"pub", "sub", "fpr"})


class BadSignatureError(VerificationError):
    """A signature that is wrong, by an unknown key, or none at all."""


class UnknownSignerError(BadSignatureError):
    """A signature by a key that isn't in the keyring: nobody can say whether it is right."""


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

    def fingerprints(self) -> tuple[str, ...]:
        """Return the fingerprint of each primary key, in hexadecimal digits of upper case."""
        listed = self.gpg.run("--with-colons", "--list-keys").output.decode("utf-8", "replace")
        rows = [line.split(":") for line in listed.splitlines()]
        return tuple(
            row[9]
            for before, row in itertools.pairwise(row for row in rows if row[0] in _KEY_ROWS)
            if before[0] == "pub" and row[0] == "fpr"
        )


def _expect_armour(signature: bytes) -> None:
    if not _ARMOUR.fullmatch(signature):
        raise BadSignatureError("the text of its signature is damaged")


def _check(done: GpgResult) -> None:
    if done.code == 0 and done.says("GOODSIG") and done.says("VALIDSIG"):
        if any(fields[_HASH_FIELD] in _FORGEABLE for fields in done.fields("VALIDSIG")):
            raise BadSignatureError("the signature rests on a hash that can be forged")
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


@contextlib.contextmanager
def checker_of(keys: Iterable[Path | bytes], *, what: str) -> Iterator[SignatureChecker]:
    """Yield a checker for these keys alone: files of the user's, or what a server gave for ``what``.

    Raises GpgMissingError, NotFoundError and UsageError for a file, DocumentError for what a server
    gave.
    """
    with tempfile.TemporaryDirectory(prefix="lxdocker-keys-") as home:
        gpg = Gpg.find(home=Path(home))
        for key in keys:
            if isinstance(key, Path):
                _import(gpg, key)
            elif not gpg.run("--import", content=key).says("IMPORT_OK"):
                raise DocumentError(f"{what}: no OpenPGP public key where one is named")
        yield SignatureChecker(gpg=gpg)


def _own_home() -> Path:
    return Path(os.environ.get("GNUPGHOME") or Path("~/.gnupg").expanduser())


def _import(gpg: Gpg, keyring: Path) -> None:
    if not keyring.is_file():
        raise NotFoundError(
            f"read the keyring: {keyring} does not exist",
            hint="name the file with the public keys you trust",
        )
    done = gpg.run("--import", "--", str(keyring.absolute()))
    if not done.says("IMPORT_OK"):
        raise UsageError(
            f"{keyring}: no OpenPGP public key in it",
            hint="write one: gpg --armor --export KEY > FILE",
        )
