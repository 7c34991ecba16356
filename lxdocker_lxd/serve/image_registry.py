"""The registry protocol planned for LXD in 2014 and 2015, as static documents.

Pure. A client was to be given one registry, to read ``1.0/index.json`` there, to find a server and
the keys to trust, and to go on with that server's own protocol: here the indexes that lxc-create's
download template reads too. ``arguments`` of an alias are the first, second and fourth column of
such an index. Keys are ``keys/LONG-ID``, certificates ``certs/SHA256`` (of the DER form). Our
``clients`` read it; no released LXC or LXD does, LXD dropped the plan in February 2015.
"""

import functools
import hashlib
import json
import re
import ssl
from collections.abc import Callable, Iterator, Mapping

from lxdocker_lxd.serve.entry import Document, Entry, Signer
from lxdocker_lxd.serve.lxc_index import RELEASE, VARIANT
from lxdocker_lxd.serve.site import SiteContext

INDEX_PATH = "1.0/index.json"

_VERSION = 1
_JSON = "application/json"
_KEY = "application/pgp-keys"
_CERTIFICATE = "application/x-pem-file"
_SIGNATURE = "application/pgp-signature"
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)


def entries(context: SiteContext) -> Iterator[Entry]:
    """Yield the index, the keys and certificates it names, and with a signer their signatures."""
    certificates = certificates_by_path(context.settings.certificates)
    documents = [
        Document(
            path=INDEX_PATH,
            media_type=_JSON,
            render=functools.partial(_index, context, tuple(certificates)),
        ),
        *(
            Document(path=path, media_type=_CERTIFICATE, render=functools.partial(bytes, pem))
            for path, pem in certificates.items()
        ),
    ]
    signer = context.signer
    if signer is None:
        yield from documents
        return
    documents.append(
        Document(path=_key_path(signer), media_type=_KEY, render=signer.public_key),
    )
    for document in documents:
        yield document
        yield Document(
            path=f"{document.path}.asc",
            media_type=_SIGNATURE,
            render=functools.partial(_signature, signer, document.render),
        )


def _index(context: SiteContext, certificates: tuple[str, ...]) -> bytes:
    settings = context.settings
    _, _, place = settings.base_url.partition("://")
    server = {
        "name": settings.remote_name,
        "description": "Application images",
        "url": f"https+lxc-images://{place}",
        "arguments": {},
        "trusted_keys": [] if context.signer is None else [f"/{_key_path(context.signer)}"],
        "trusted_certs": [f"/{path}" for path in certificates],
    }
    document = {
        "version": _VERSION,
        "generated_at": int(context.catalogue.updated_at.timestamp()),
        "servers": [server],
        "aliases": _aliases(context),
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def _aliases(context: SiteContext) -> Mapping[str, object]:
    """Return what each name of an image stands for that the index for LXC has too."""
    found: dict[str, object] = {}
    products = [
        product
        for product in context.catalogue.products
        if product.newest.lxc is not None and product.newest.file("lxc-rootfs") is not None
    ]
    names = {product.name for product in products}
    for product in products:
        arguments = {"distribution": product.name, "release": RELEASE, "variant": VARIANT}
        target = {"server": context.settings.remote_name, "arguments": arguments}
        for alias in (product.name, *(alias for alias in product.aliases if alias not in names)):
            found.setdefault(alias, target)
    return found


def certificates_by_path(pem: bytes) -> dict[str, bytes]:
    """Return each certificate of a PEM text by its path on the site, which ends in its sha256."""
    found = {}
    for block in _PEM.findall(pem):
        certificate = ssl.PEM_cert_to_DER_cert(block.decode("ascii"))
        found[f"certs/{hashlib.sha256(certificate).hexdigest()}"] = block
    return found


def _key_path(signer: Signer) -> str:
    return f"keys/{signer.long_id}"


def _signature(signer: Signer, render: Callable[[], bytes]) -> bytes:
    return signer.detached(render())
