"""X.509 certificates of a small local authority: PEM in, PEM out. The one door to cryptography.

Nothing here touches files, the clock or the network; times and serial numbers are arguments.
``new_key`` alone draws from the system's randomness.

The authority is one that people can safely trust for long. Its name constraints (RFC 5280 4.2.1.10)
are critical: it can vouch for this host's names, for names that exist in private networks only, and
for private addresses, never for the rest of the world. It carries no name of its own: LXD expects a
server to have the first DNS name of the certificate it was told to trust. Its subject follows from its
key alone, so that a renewed one stands in the same place.
"""

import ipaddress
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.serve.server_names import IPAddress, ServerName, ServerNames

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

AUTHORITY_LIFE = timedelta(days=3653)
SERVER_LIFE = timedelta(days=90)
SKEW = timedelta(hours=1)
"""How far certificates begin in the past: clocks of clients differ."""

PRIVATE_SUFFIXES = (
    *("corp", "home", "home.arpa", "incus", "internal", "intranet", "lan", "local", "localdomain"),
    *("localhost", "lxd", "private", "test"),
)
"""Names that the public DNS doesn't and won't hold, or that LXD and routers use."""

PRIVATE_NETWORKS: tuple[IPNetwork, ...] = tuple(
    map(
        ipaddress.ip_network,
        (
            *("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.168.0.0/16", "::1/128", "fc00::/7", "fe80::/10"),
        ),
    )
)

_Extension = tuple[x509.ExtensionType, bool]


class CertificateError(UsageError):
    """A certificate or key that can't be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFacts:
    """What a certificate says. ``fingerprint`` is the hexadecimal sha256 of its DER form."""

    subject: str
    issuer: str
    fingerprint: str
    public_key: bytes
    not_before: datetime
    not_after: datetime
    names: ServerNames
    is_authority: bool

    def due(self, at: datetime) -> bool:
        """Whether two thirds of its life are over, or the clock was ahead when it was made."""
        return at < self.not_before or at >= self.not_after - (self.not_after - self.not_before) / 3


def new_key() -> bytes:
    """Return a new ECDSA P-256 private key, PEM (PKCS #8)."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


def public_key(key: bytes) -> bytes:
    """Return the public half of a private key, DER; raise CertificateError without its text."""
    return _der(_private(key).public_key())


def new_authority(key: bytes, names: ServerNames, *, at: datetime, serial: int) -> bytes:
    """Return a certificate for an authority that may vouch for ``names`` and what is private."""
    dns = {*PRIVATE_SUFFIXES, *names.dns}
    public = {
        ipaddress.ip_network(address)
        for address in names.addresses
        if not any(address in network for network in PRIVATE_NETWORKS)
    }
    constraints = x509.NameConstraints(
        permitted_subtrees=[
            *(x509.DNSName(name) for name in sorted(dns)),
            *(x509.IPAddress(network) for network in PRIVATE_NETWORKS),
            *(x509.IPAddress(network) for network in sorted(public, key=str)),
        ],
        excluded_subtrees=[x509.DNSName(f".{name}") for name in sorted(dns) if _is_lone(name, dns)]
        or None,
    )
    return _authority(key, constraints, at=at, serial=serial)


def _is_lone(name: str, dns: Collection[str]) -> bool:
    """Whether ``name`` is a bare host name: what is below it belongs to others.

    A host may be called ``dev``, and ``.dev`` is a public suffix.
    """
    return (
        "." not in name
        and name not in PRIVATE_SUFFIXES
        and not any(other.endswith(f".{name}") for other in dns)
    )


def renewed_authority(key: bytes, certificate: bytes, *, at: datetime, serial: int) -> bytes:
    """Return the authority's certificate with a new life: same key, subject and constraints."""
    old = _certificate(certificate)
    try:
        constraints = old.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound as error:
        raise CertificateError("it has no name constraints: somebody else made it") from error
    return _authority(key, constraints, at=at, serial=serial)


def _authority(
    key: bytes, constraints: x509.NameConstraints, *, at: datetime, serial: int
) -> bytes:
    private = _private(key)
    subject = _authority_subject(private)
    return _signed(
        subject,
        private.public_key(),
        issuer=subject,
        issuer_key=private,
        life=(at - SKEW, at + AUTHORITY_LIFE),
        serial=serial,
        extensions=(
            (x509.BasicConstraints(ca=True, path_length=0), True),
            (_key_usage(authority=True), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
            (constraints, True),
        ),
    )


def _authority_subject(key: ec.EllipticCurvePrivateKey) -> x509.Name:
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()[:12]
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "lxdocker-lxd"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"lxdocker-lxd local CA {identifier}"),
        ]
    )


def new_server_certificate(
    key: bytes,
    names: ServerNames,
    *,
    authority_key: bytes,
    authority: bytes,
    at: datetime,
    serial: int,
) -> bytes:
    """Return a certificate for a server reached by ``names``, which the authority must permit."""
    issuer = _certificate(authority)
    end = min(at + SERVER_LIFE, issuer.not_valid_after_utc)
    san = x509.SubjectAlternativeName(
        [
            *(x509.DNSName(name) for name in names.dns),
            *(x509.IPAddress(address) for address in names.addresses),
        ]
    )
    return _signed(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lxdocker-lxd image server")]),
        _private(key).public_key(),
        issuer=issuer.subject,
        issuer_key=_private(authority_key),
        life=(at - SKEW, end),
        serial=serial,
        extensions=(
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_key_usage(authority=False), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
            (san, False),
        ),
    )


def _signed(
    subject: x509.Name,
    public: ec.EllipticCurvePublicKey,
    *,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    life: tuple[datetime, datetime],
    serial: int,
    extensions: Iterable[_Extension],
) -> bytes:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(life[0])
        .not_valid_after(life[1])
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def permitted(authority: bytes, name: ServerName) -> bool:
    """Whether the authority's name constraints let it vouch for ``name``."""
    found = _certificate(authority).extensions
    try:
        constraints = found.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return True
    return any(
        _covers(subtree, name) for subtree in constraints.permitted_subtrees or ()
    ) and not any(_covers(subtree, name) for subtree in constraints.excluded_subtrees or ())


def confined(pem: bytes, names: ServerNames, networks: Collection[IPNetwork] = ()) -> bytes:
    """Return the one authority in ``pem``, written anew, if it may vouch for nothing foreign.

    That is what is private, ``names`` with what is below them, and addresses in ``networks``, by name
    constraints that no client may pass over. Raises CertificateError with what else it could do.
    """
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise CertificateError("no certificate in PEM form") from error
    if len(found) != 1:
        raise CertificateError(f"expected one certificate, got {len(found)}")
    try:
        _expect_confined(found[0].extensions, names, networks)
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
        raise CertificateError(f"the certificate can't be read: {error}") from error
    return found[0].public_bytes(Encoding.PEM)


def _expect_confined(
    found: x509.Extensions, names: ServerNames, networks: Collection[IPNetwork]
) -> None:
    extensions = {extension.oid: extension for extension in found}
    basic = extensions.get(ExtensionOID.BASIC_CONSTRAINTS)
    if basic is None or not isinstance(basic.value, x509.BasicConstraints) or not basic.value.ca:
        raise CertificateError("it is no authority")
    uses = extensions.get(ExtensionOID.EXTENDED_KEY_USAGE)
    server_only = isinstance(getattr(uses, "value", None), x509.ExtendedKeyUsage)
    if uses is None or not server_only or set(uses.value) != {ExtendedKeyUsageOID.SERVER_AUTH}:
        raise CertificateError("it is for other uses than servers, too")
    limits = extensions.get(ExtensionOID.NAME_CONSTRAINTS)
    if limits is None or not isinstance(limits.value, x509.NameConstraints):
        raise CertificateError("it has no name constraints: it may vouch for all names")
    if not limits.critical:
        raise CertificateError("its name constraints are not critical: clients may pass over them")
    permitted = limits.value.permitted_subtrees or []
    # What isn't mentioned at all isn't limited (RFC 5280 4.2.1.10).
    for kind, what in ((x509.DNSName, "DNS names"), (x509.IPAddress, "addresses")):
        if not any(isinstance(subtree, kind) for subtree in permitted):
            raise CertificateError(f"{what} aren't limited by its name constraints")
    excluded = [one.value for one in limits.value.excluded_subtrees or () if _is_dns(one)]
    allowed = [*PRIVATE_NETWORKS, *networks, *map(ipaddress.ip_network, names.addresses)]
    for subtree in permitted:
        if not (_is_own_dns(subtree, names, excluded) or _is_own_address(subtree, allowed)):
            raise CertificateError(f"it may vouch for {subtree.value}")


def _is_dns(name: x509.GeneralName) -> bool:
    return isinstance(name, x509.DNSName)


def _is_own_dns(
    subtree: x509.GeneralName, names: ServerNames, excluded: Collection[object]
) -> bool:
    if not isinstance(subtree, x509.DNSName) or not subtree.value:
        return False
    below = [*PRIVATE_SUFFIXES, *(name for name in names.dns if "." in name)]
    bare = subtree.value.removeprefix(".")
    if any(bare == one or bare.endswith(f".{one}") for one in below):
        return True
    # A host's bare name, with what is below it taken out.
    return "." not in subtree.value and f".{bare}" in excluded


def _is_own_address(subtree: x509.GeneralName, allowed: Collection[IPNetwork]) -> bool:
    if not isinstance(subtree, x509.IPAddress) or not isinstance(subtree.value, IPNetwork):
        return False
    return any(_is_inside(subtree.value, network) for network in allowed)


def _is_inside(network: IPNetwork, outer: IPNetwork) -> bool:
    return network.version == outer.version and (
        network.network_address in outer and network.broadcast_address in outer
    )


def _covers(subtree: x509.GeneralName, name: ServerName) -> bool:
    if isinstance(name, str):
        # One that begins with a dot covers what is below it and not itself.
        return isinstance(subtree, x509.DNSName) and (
            name == subtree.value or name.endswith(f".{subtree.value.removeprefix('.')}")
        )
    return (
        isinstance(subtree, x509.IPAddress)
        and isinstance(subtree.value, IPNetwork)
        and name in subtree.value
    )


def issued(authority: bytes, certificate: bytes) -> bool:
    """Whether the authority's key signed ``certificate``."""
    try:
        _certificate(certificate).verify_directly_issued_by(_certificate(authority))
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def facts(certificate: bytes) -> CertificateFacts:
    """Return what the first certificate of ``certificate`` says; raise CertificateError."""
    parsed = _certificate(certificate)
    try:
        extensions = parsed.extensions
        names = [
            name
            for extension in extensions
            if isinstance(extension.value, x509.SubjectAlternativeName)
            for name in extension.value
        ]
        is_authority = any(
            isinstance(extension.value, x509.BasicConstraints) and extension.value.ca
            for extension in extensions
        )
        public = _der(parsed.public_key())
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
        raise CertificateError(f"the certificate can't be read: {error}") from error
    return CertificateFacts(
        subject=parsed.subject.rfc4514_string(),
        issuer=parsed.issuer.rfc4514_string(),
        fingerprint=parsed.fingerprint(hashes.SHA256()).hex(),
        public_key=public,
        not_before=parsed.not_valid_before_utc,
        not_after=parsed.not_valid_after_utc,
        names=ServerNames.of(found for name in names for found in _names(name)),
        is_authority=is_authority,
    )


def _names(name: x509.GeneralName) -> list[ServerName]:
    if isinstance(name, x509.DNSName):
        return [name.value]
    if isinstance(name, x509.IPAddress) and isinstance(name.value, IPAddress):
        return [name.value]
    return []


def _certificate(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise CertificateError("no certificate in PEM form") from error


def _private(pem: bytes) -> ec.EllipticCurvePrivateKey:
    # What the library says isn't repeated: no word of a key may reach a log.
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CertificateError("no unencrypted private key in PEM form") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError("expected an ECDSA key")
    return key


def _der(key: CertificatePublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
