"""How a remote LXD proves itself to us and we to it: one TLS context, always verifying.

A pinned certificate is the only anchor. When it is the server's own, as LXD's self-made ones are,
holding its key is the proof and its names don't matter (so do LXD's own clients). When it is an
authority, or the system's authorities decide, the address must be one of the certificate's.
"""

import ssl
from dataclasses import dataclass

from lxdocker_lxd.errors import AuthenticationError
from lxdocker_lxd.lxd.failures import ServerCertificateError
from lxdocker_lxd.lxd.place import RemotePlace


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A context that verifies; ``names_matter`` tells whether it compares host names too."""

    context: ssl.SSLContext
    names_matter: bool


def proof_for(place: RemotePlace) -> Proof:
    """Return the TLS context for ``place``; read its certificate files once.

    Raises AuthenticationError for a client certificate that can't be used and
    ServerCertificateError for a pinned one that can't.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    names_matter = _trust(context, place)
    context.check_hostname = names_matter
    try:
        context.load_cert_chain(place.client_certificate, place.client_key)
    except (OSError, ssl.SSLError) as error:
        raise AuthenticationError(
            f"the client certificate {place.client_certificate} with the key {place.client_key}"
            f" can't be used: {error}",
            hint="`lxc remote add` makes a pair in ~/.config/lxc (client.crt, client.key)",
        ) from error
    return Proof(context=context, names_matter=names_matter)


def _trust(context: ssl.SSLContext, place: RemotePlace) -> bool:
    if place.server_certificate is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return True
    # Lets a server's own certificate, which is no authority, be an anchor.
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=place.server_certificate.read_text("ascii"))
    except (OSError, ssl.SSLError, UnicodeDecodeError) as error:
        raise ServerCertificateError(
            f"the certificate {place.server_certificate} pinned for {place} can't be read: {error}",
            hint="store the server's certificate, or its authority's, there as PEM",
        ) from error
    return context.cert_store_stats()["x509_ca"] > 0
