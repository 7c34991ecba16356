"""The directory of a local authority: ``ca.crt``, ``ca.key``, ``server.crt`` and ``server.key``.

Guarantees. Keys have mode 0600 before their first byte. Every file is replaced whole, a key before the
certificate that needs it, so whatever a crash left is completed by the next :meth:`held`; one process at
a time writes. The authority's key never changes by itself: clients trust it. Nothing but these
four files and ``.lock`` is touched.
"""

import contextlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from lxdocker_lxd import atomic
from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.serve import certificate as x509
from lxdocker_lxd.serve.certificate import CertificateError, CertificateFacts
from lxdocker_lxd.serve.server_names import ServerNames

AUTHORITY_NAME = "ca.crt"
AUTHORITY_KEY_NAME = "ca.key"
SERVER_NAME = "server.crt"
SERVER_KEY_NAME = "server.key"
EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)
"""A clock before this is wrong: the program is younger."""

_LOCK_NAME = ".lock"
_KEY_MODE = 0o600
_SERIAL_BITS = 126


class NameNotPermittedError(UsageError):
    """The server shall have a name that its authority may not vouch for."""


class ClockError(UsageError):
    """The machine's clock is so wrong that a new certificate would be useless."""


class AuthorityKeyError(UsageError):
    """The authority's key is missing or another one, so nothing can be signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldCertificate:
    """What a server needs, PEM. ``left_out`` are names of the host it may not claim."""

    key: bytes
    certificate: bytes
    authority: bytes
    left_out: ServerNames


@dataclass(frozen=True, slots=True, kw_only=True)
class _Files:
    """What the four files hold, None where one is missing."""

    authority: bytes | None
    authority_key: bytes | None
    certificate: bytes | None
    key: bytes | None

    def pair(self) -> tuple[bytes, bytes, CertificateFacts] | None:
        """Return key and certificate of the server if they are usable and belong together."""
        if self.key is None or self.certificate is None:
            return None
        try:
            found = x509.facts(self.certificate)
            same = x509.public_key(self.key) == found.public_key
        except CertificateError:
            return None
        return (self.key, self.certificate, found) if same else None


class CertificateDirectory:
    """Keeps a server's certificate valid; safe for several processes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def held(self, named: ServerNames, detected: ServerNames, *, at: datetime) -> HeldCertificate:
        """Return a certificate for all ``named`` names, made or renewed when that is due.

        ``detected`` names are added as far as the authority permits them. Names that are no longer
        wanted stay until the next renewal. Raises NameNotPermittedError, ClockError,
        AuthorityKeyError, CertificateError and StorageError.
        """
        found = self._current(self._read(), named, detected, at)
        if found is not None:
            return found
        atomic.make_directory(self.directory, mode=0o700)
        with atomic.locked(self.directory / _LOCK_NAME):
            atomic.sweep(self.directory)
            files = self._read()
            found = self._current(files, named, detected, at)
            return found or self._renewed(files, named, detected, at)

    def _current(
        self, files: _Files, named: ServerNames, detected: ServerNames, at: datetime
    ) -> HeldCertificate | None:
        """Return what is there unless something is missing or due."""
        pair = files.pair()
        if files.authority is None or pair is None or not x509.issued(files.authority, pair[1]):
            return None
        authority = x509.facts(files.authority)
        permitted, left_out = self._allowed(files.authority, named, detected)
        due = authority.due(at) or pair[2].due(at)
        missing = set(permitted.all()) - set(pair[2].names.all())
        # With a clock that is wrong for certain, and without the authority's key while there is time
        # left, what is there serves better than nothing.
        patient = at < EARLIEST or (files.authority_key is None and at < pair[2].not_after)
        if (due and not patient) or (missing and not (patient and missing <= set(detected.all()))):
            return None
        return HeldCertificate(
            key=pair[0], certificate=pair[1], authority=files.authority, left_out=left_out
        )

    def _allowed(
        self, authority: bytes, named: ServerNames, detected: ServerNames
    ) -> tuple[ServerNames, ServerNames]:
        """Split the names into those the authority permits and detected ones it doesn't."""
        for name in named.all():
            if not x509.permitted(authority, name):
                place = self.directory / AUTHORITY_NAME
                raise NameNotPermittedError(
                    f"server name {name}: the local CA {place} was made without it and may not"
                    " vouch for it",
                    hint=f"leave the name out; or remove {place} and start again: a new CA"
                    " certificate is made, which every client that uses the name must trust anew",
                )
        allowed = ServerNames.of(name for name in detected.all() if x509.permitted(authority, name))
        left_out = ServerNames.of(set(detected.all()) - set(allowed.all()))
        return ServerNames.of({*named.all(), *allowed.all()}), left_out

    def _renewed(
        self, files: _Files, named: ServerNames, detected: ServerNames, at: datetime
    ) -> HeldCertificate:
        """Make what is missing or due; only for the holder of the lock."""
        if at < EARLIEST:
            raise ClockError(
                f"make a certificate in {self.directory}: this machine's clock says {at:%Y-%m-%d}",
                hint="set the clock (timedatectl), then start again",
            )
        files = self._with_authority(files, named, detected, at)
        if files.authority is None or files.authority_key is None:
            raise AssertionError("made just above")
        names, left_out = self._allowed(files.authority, named, detected)
        key = files.key
        if key is None or not _is_usable(key):
            key = x509.new_key()
            self._write(SERVER_KEY_NAME, key, mode=_KEY_MODE)
        certificate = x509.new_server_certificate(
            key,
            names,
            authority_key=files.authority_key,
            authority=files.authority,
            at=at,
            serial=_serial(),
        )
        self._write(SERVER_NAME, certificate)
        return HeldCertificate(
            key=key, certificate=certificate, authority=files.authority, left_out=left_out
        )

    def _with_authority(
        self, files: _Files, named: ServerNames, detected: ServerNames, at: datetime
    ) -> _Files:
        """Return the files with an authority that is there, whole and not due."""
        key = files.authority_key
        key_path = self.directory / AUTHORITY_KEY_NAME
        if key is None:
            if files.authority is not None:
                raise AuthorityKeyError(
                    f"renew the certificate in {self.directory}: {key_path} is missing",
                    hint=f"bring it back; or remove {self.directory / AUTHORITY_NAME} too: a new CA"
                    " is made, which every client must trust anew",
                )
            key = x509.new_key()
            self._write(AUTHORITY_KEY_NAME, key, mode=_KEY_MODE)
        with _about(key_path):
            public = x509.public_key(key)
        authority = files.authority
        if authority is None:
            names = ServerNames.of({*named.all(), *detected.all()})
            authority = x509.new_authority(key, names, at=at, serial=_serial())
            self._write(AUTHORITY_NAME, authority)
        found = x509.facts(authority)
        if found.public_key != public:
            raise AuthorityKeyError(
                f"{key_path} is not the key of {self.directory / AUTHORITY_NAME}",
                hint="bring back the two files that belong together; or remove both: a new CA is"
                " made, which every client must trust anew",
            )
        if found.due(at):
            with _about(self._path(AUTHORITY_NAME)):
                authority = x509.renewed_authority(key, authority, at=at, serial=_serial())
            self._write(AUTHORITY_NAME, authority)
        return replace(files, authority=authority, authority_key=key)

    def _read(self) -> _Files:
        authority = self._content(AUTHORITY_NAME)
        if authority is not None:
            with _about(self._path(AUTHORITY_NAME)):
                x509.facts(authority)
        return _Files(
            authority=authority,
            authority_key=self._content(AUTHORITY_KEY_NAME),
            certificate=self._content(SERVER_NAME),
            key=self._content(SERVER_KEY_NAME),
        )

    def _content(self, name: str) -> bytes | None:
        path = self.directory / name
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise atomic.storage_error("read", path, error) from error

    def _write(self, name: str, content: bytes, *, mode: int = 0o644) -> None:
        atomic.write(self.directory / name, content, mode=mode)

    def loose_keys(self) -> tuple[Path, ...]:
        """Return the key files that others than their owner may read."""
        return tuple(filter(readable_by_others, map(self._path, _KEY_NAMES)))

    def _path(self, name: str) -> Path:
        return self.directory / name


_KEY_NAMES = (AUTHORITY_KEY_NAME, SERVER_KEY_NAME)


def readable_by_others(path: Path) -> bool:
    """Whether everybody on the machine may read ``path``; a group may be given a key on purpose."""
    try:
        return bool(path.stat().st_mode & 0o004)
    except OSError:
        return False


def _is_usable(key: bytes) -> bool:
    try:
        x509.public_key(key)
    except CertificateError:
        return False
    return True


def _serial() -> int:
    """Return a positive random number of at most 20 octets (RFC 5280 4.1.2.2)."""
    return secrets.randbits(_SERIAL_BITS) + 1


@contextlib.contextmanager
def _about(path: Path) -> Iterator[None]:
    """Say which file is meant in errors of the block."""
    try:
        yield
    except CertificateError as error:
        raise CertificateError(
            f"{os.fspath(path)}: {error.message}",
            hint="bring the file back from a copy; or remove the directory: a new CA is made,"
            " which every client must trust anew",
        ) from error
