"""The server's TLS: one live context whose certificate is replaced while connections are open.

A new pair is loaded into a context of its own first, from bytes read once. Only a pair that belongs
together takes the place of the old one, in a single assignment, and serves the next handshake; a file
that is half replaced, or bad, changes nothing. (Loading into the context in use would leave a moment
without a key, and would go on serving an RSA certificate beside its ECDSA successor.)
"""

import contextlib
import os
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NoReturn, Protocol

from lxdocker_lxd.atomic import storage_error
from lxdocker_lxd.errors import NotFoundError
from lxdocker_lxd.serve import certificate as x509
from lxdocker_lxd.serve import this_host
from lxdocker_lxd.serve.certificate import CertificateError, CertificateFacts
from lxdocker_lxd.serve.certificate_directory import CertificateDirectory, readable_by_others
from lxdocker_lxd.serve.server_names import ServerNames, parse

PROTOCOLS = ("http/1.1",)
"""LXD and Incus speak HTTP/1.1 only."""

_MOST_BYTES = 1 << 20
_SOON_SECONDS = 14 * 86400


class ServerCertificate(Protocol):
    """A certificate that stays fresh while its context serves. Not for several threads at once."""

    def context(self) -> ssl.SSLContext:
        """Return the one context of the server's whole life."""
        ...

    def refresh(self, now: datetime) -> bool:
        """Renew or read again what is due or changed; return whether the next handshake differs.

        Raises LxdockerError when that fails; the old certificate then goes on serving.
        """
        ...

    def facts(self) -> CertificateFacts:
        """Return what the certificate in use says."""
        ...

    def authority(self) -> bytes | None:
        """Return the certificate (PEM) clients should trust; None when it isn't ours to know."""
        ...

    def notices(self, now: datetime) -> tuple[str, ...]:
        """Return what the administrator should know: expired, expires soon, names left out."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """A private key and its certificate with intermediate ones, PEM, and how errors name them."""

    key: bytes = field(repr=False)
    certificate: bytes
    key_name: str
    certificate_name: str


def given_certificate(key: Path, cert: Path, minimum: ssl.TLSVersion) -> ServerCertificate:
    """Return the certificate of two files of the administrator's; :meth:`refresh` rereads them.

    Raises NotFoundError, StorageError and CertificateError.
    """
    return _Given(key, cert, minimum)


def local_certificate(
    directory: Path,
    names: Sequence[str],
    now: datetime,
    minimum: ssl.TLSVersion,
    *,
    host: Callable[[], ServerNames] = this_host.server_names,
) -> ServerCertificate:
    """Return a certificate from a local authority in ``directory``, both made when missing.

    It is for ``names``, and for the host's own ones as far as the authority may vouch for them.
    Raises as :meth:`CertificateDirectory.held` does, and UsageError for bad names.
    """
    return _Local(directory, ServerNames.of(map(parse, names)), now, minimum, host)


class _Live:
    """The context that connections begin with, and the pair they get."""

    def __init__(self, pair: KeyPair, minimum: ssl.TLSVersion) -> None:
        self._minimum = minimum
        self.pair = pair
        self._current = loaded(pair, minimum)
        # Loaded too, so that the context is whole for whoever looks at it.
        self.context = loaded(pair, minimum)
        self.context.sni_callback = self._greeted
        self.facts = x509.facts(pair.certificate)

    def _greeted(
        self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _: ssl.SSLContext
    ) -> None:
        # Called for every handshake, with or without a server name.
        connection.context = self._current

    def replace(self, pair: KeyPair) -> bool:
        """Serve ``pair`` from the next handshake on; return whether it is another one."""
        if (pair.key, pair.certificate) == (self.pair.key, self.pair.certificate):
            return False
        context = loaded(pair, self._minimum)
        self.facts = x509.facts(pair.certificate)
        self.pair, self._current = pair, context
        return True


class _Given:
    def __init__(self, key: Path, cert: Path, minimum: ssl.TLSVersion) -> None:
        self._key = key
        self._cert = cert
        self._live = _Live(self._read(), minimum)

    def _read(self) -> KeyPair:
        return KeyPair(
            key=_content(self._key, "key"),
            certificate=_content(self._cert, "certificate"),
            key_name=os.fspath(self._key),
            certificate_name=os.fspath(self._cert),
        )

    def context(self) -> ssl.SSLContext:
        return self._live.context

    def refresh(self, now: datetime) -> bool:  # noqa: ARG002 - files change at any time
        return self._live.replace(self._read())

    def facts(self) -> CertificateFacts:
        return self._live.facts

    def authority(self) -> bytes | None:
        return None

    def notices(self, now: datetime) -> tuple[str, ...]:
        found = _validity(self.facts(), os.fspath(self._cert), now)
        if readable_by_others(self._key):
            found.append(f"{self._key}: every user of this machine may read the key (chmod 0600)")
        if not self.facts().names.all():
            found.append(
                f"{self._cert}: names no server (subjectAltName), so LXD and browsers refuse it"
            )
        return tuple(found)


class _Local:
    def __init__(
        self,
        directory: Path,
        named: ServerNames,
        now: datetime,
        minimum: ssl.TLSVersion,
        host: Callable[[], ServerNames],
    ) -> None:
        self._directory = CertificateDirectory(directory)
        self._named = named
        self._host = host
        self._live = _Live(self._held(now), minimum)

    def _held(self, now: datetime) -> KeyPair:
        held = self._directory.held(self._named, self._host(), at=now)
        self._authority = held.authority
        self._left_out = held.left_out
        return KeyPair(
            key=held.key,
            certificate=held.certificate,
            key_name=f"{self._directory.directory}/server.key",
            certificate_name=f"{self._directory.directory}/server.crt",
        )

    def context(self) -> ssl.SSLContext:
        return self._live.context

    def refresh(self, now: datetime) -> bool:
        return self._live.replace(self._held(now))

    def facts(self) -> CertificateFacts:
        return self._live.facts

    def authority(self) -> bytes | None:
        return self._authority

    def notices(self, now: datetime) -> tuple[str, ...]:
        place = os.fspath(self._directory.directory)
        found = _validity(self.facts(), f"{place}/server.crt", now)
        if self._left_out.all():
            found.append(
                f"{place}/ca.crt: was made without {self._left_out}, so the server has no"
                " certificate for them; docs/certificates.md says how to make a new CA"
            )
        found += [
            f"{path}: every user of this machine may read the key (chmod 0600)"
            for path in self._directory.loose_keys()
        ]
        return tuple(found)


def _validity(facts: CertificateFacts, where: str, now: datetime) -> list[str]:
    if now < facts.not_before:
        return [f"{where}: not valid before {facts.not_before:%Y-%m-%d %H:%M} UTC: check the clock"]
    if now >= facts.not_after:
        return [f"{where}: expired on {facts.not_after:%Y-%m-%d}: clients refuse it"]
    if (facts.not_after - now).total_seconds() < _SOON_SECONDS:
        return [f"{where}: expires on {facts.not_after:%Y-%m-%d}"]
    return []


def loaded(pair: KeyPair, minimum: ssl.TLSVersion) -> ssl.SSLContext:
    """Return a server's context with ``pair`` loaded; raise CertificateError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = minimum
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(list(PROTOCOLS))
    # OpenSSL reads files only; these are in memory, so that nothing can change between two looks.
    with _in_memory(pair.certificate) as certificate, _in_memory(pair.key) as key:
        try:
            context.load_cert_chain(certificate, key, password=_refuse_password)
        except (ssl.SSLError, _EncryptedKeyError, ValueError) as error:
            raise _explained(pair, error) from error
    return context


class _EncryptedKeyError(Exception):
    """OpenSSL wants a passphrase; by itself it would ask on the terminal."""


def _refuse_password() -> NoReturn:
    raise _EncryptedKeyError


def _explained(pair: KeyPair, error: Exception) -> CertificateError:
    """Return what is wrong in words; OpenSSL's own name neither the file nor the reason well."""
    if isinstance(error, _EncryptedKeyError):
        return CertificateError(
            f"{pair.key_name}: the key is protected by a passphrase, which nobody is there to type",
            hint="write it without one: openssl pkey -in OLD -out NEW (umask 077)",
        )
    reason = getattr(error, "reason", "") or ""
    # The second is what OpenSSL says when one is RSA and the other ECDSA, for instance.
    if reason in ("KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED"):
        return CertificateError(
            f"{pair.key_name} is not the key of {pair.certificate_name}",
            hint="give the two files that were made together",
        )
    if reason in ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"):
        return CertificateError(
            f"{pair.certificate_name}: OpenSSL refuses it as too weak ({reason})",
            hint="make one with RSA 2048 bits or more, or ECDSA P-256, and SHA-256",
        )
    try:
        x509.facts(pair.certificate)
    except CertificateError:
        return CertificateError(
            f"{pair.certificate_name}: no certificate in PEM form",
            hint="it begins with -----BEGIN CERTIFICATE-----; DER files: openssl x509 -inform der",
        )
    return CertificateError(
        f"{pair.key_name}: no private key in PEM form that fits {pair.certificate_name}",
        hint="it begins with -----BEGIN PRIVATE KEY-----",
    )


@contextlib.contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """Yield the path of a file that is on no disk and that only this process sees."""
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _content(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFoundError(
            f"read the server's {what}: {path} does not exist",
            hint="give a PEM file with --key or --cert",
        ) from error
    except OSError as error:
        raise storage_error("read", path, error) from error
    if len(content) > _MOST_BYTES:
        raise CertificateError(f"{path}: too large for a {what} in PEM form")
    return content
