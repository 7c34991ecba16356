"""The registry protocol's static documents."""

import hashlib
import json
import ssl
from dataclasses import replace

import trustme

from lxdocker_lxd.catalogue import LxcSettings, PublishedFile, Version
from lxdocker_lxd.clients.image_registry import parse_registry
from lxdocker_lxd.clients.remote_address import parse_address
from lxdocker_lxd.serve.image_registry import entries
from lxdocker_lxd.serve.site import SiteContext
from tests.serve.test_streams import TestSignedDocuments
from tests.serve.trees import URL, context_of, made, named
from tests.unit.catalogues import START


def for_lxc(content: str) -> Version:
    """A version with a root filesystem for LXC."""
    plain = made(content)
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    file = PublishedFile(
        role="lxc-rootfs", path=f"images/{sha256}.tar.xz", sha256=sha256, size_bytes=3
    )
    settings = LxcSettings(uid=0, gid=0, groups=(), home="/", stop_signal=15, tmpfs=())
    return replace(plain, files=(*plain.files, file), lxc=settings)


def rendered(context: SiteContext) -> dict[str, bytes]:
    return {
        entry.path: entry.render()  # type: ignore[union-attr]  # all of them are documents
        for entry in entries(context)
    }


def test_the_index_leads_to_the_index_for_lxc() -> None:
    documents = rendered(
        context_of(
            named("web", for_lxc("w"), aliases=("www", "zoo")),
            named("web", for_lxc("v"), architecture="arm64"),
            named("zoo", for_lxc("z")),
            named("lxd-only", made("x")),
            named("from-before", replace(for_lxc("y"), lxc=None)),
        )
    )
    assert list(documents) == ["1.0/index.json"]
    web = {
        "server": "lxdocker",
        "arguments": {"distribution": "web", "release": "current", "variant": "default"},
    }
    zoo = web | {"arguments": {**web["arguments"], "distribution": "zoo"}}  # type: ignore[dict-item]  # an object
    assert json.loads(documents["1.0/index.json"]) == {
        "version": 1,
        "generated_at": int(START.timestamp()),
        "servers": [
            {
                "name": "lxdocker",
                "description": "Application images",
                "url": "https+lxc-images://images.example:8443",
                "arguments": {},
                "trusted_keys": [],
                "trusted_certs": [],
            }
        ],
        "aliases": {"web": web, "www": web, "zoo": zoo},
    }


def test_our_own_client_reads_it() -> None:
    context = context_of(
        named("web", for_lxc("w"), aliases=("www",)), signer=TestSignedDocuments.Pen()
    )
    index = parse_registry(rendered(context)["1.0/index.json"], what="the index")
    for name in ("www", "lxdocker/web/current"):
        server, image = index.resolve(name, "arm64")
        assert str(image) == "web/current/arm64/default"
        assert server.trusted_keys == ("keys/0123456789ABCDEF",)
        address = parse_address(server.url, what="the server")
        assert (address.protocol, address.url) == ("lxc-images", URL)


def test_keys_and_certificates_are_named_and_there() -> None:
    authority = trustme.CA()
    pem = authority.cert_pem.bytes()
    context = context_of(signer=TestSignedDocuments.Pen(), certificates=b"a comment\n" + pem)
    documents = rendered(context)
    fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.decode())).hexdigest()
    (server,) = json.loads(documents["1.0/index.json"])["servers"]
    assert server["trusted_keys"] == ["/keys/0123456789ABCDEF"]
    assert server["trusted_certs"] == [f"/certs/{fingerprint}"]
    assert documents["keys/0123456789ABCDEF"] == b"the key"
    assert documents[f"certs/{fingerprint}"] == pem
    for path in ("1.0/index.json", "keys/0123456789ABCDEF", f"certs/{fingerprint}"):
        assert documents[f"{path}.asc"] == b"detached:" + documents[path]
