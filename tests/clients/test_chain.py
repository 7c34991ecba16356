"""The chain with the real GnuPG and TLS: followed when all is right, broken off when anything isn't."""

import hashlib
import shutil
import ssl
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import trustme

from lxdocker_lxd.clients.chain import (
    LxcPair,
    Trust,
    UntrustedRemoteError,
    image_server,
)
from lxdocker_lxd.clients.document import DocumentError
from lxdocker_lxd.clients.image_registry import UnknownRemoteError
from lxdocker_lxd.clients.lxc_images import UnknownImageError
from lxdocker_lxd.clients.remote_address import parse_address
from lxdocker_lxd.clients.signature_check import BadSignatureError, UnknownSignerError
from lxdocker_lxd.clients.signed_tree import UnsignedError
from lxdocker_lxd.clients.tree import UnreachedError
from lxdocker_lxd.clients.tree_http import CertificateRefusedError, RedirectedError
from lxdocker_lxd.clients.whole_document import OversizeError
from lxdocker_lxd.errors import LxdockerError, NotFoundError, UsageError
from tests.clients.signed_servers import (
    INDEX,
    LINES,
    META,
    REGISTRY,
    ROOTFS,
    SignedServers,
    signed_servers,
)
from tests.serve.checked import change_byte
from tests.serve.tree_web import breaks_off, fails, never_ends

pytestmark = pytest.mark.tools
NAME = "images/alpine/3.19/amd64/default"


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignedServers]:
    with signed_servers(tmp_path_factory.mktemp("servers")) as made:
        yield made


@pytest.fixture
def servers(both: SignedServers) -> Iterator[SignedServers]:
    yield both
    both.reset()


def followed(servers: SignedServers, directory: Path, name: str = NAME) -> LxcPair:
    """Follow the chain to the end."""
    with image_server(servers.address, servers.trust, name, "amd64", directory) as (server, wanted):
        return server.fetch(server.find(wanted), directory)


def refused(
    kind: type[LxdockerError], servers: SignedServers, directory: Path, match: str, name: str = NAME
) -> LxdockerError:
    """Follow the chain, which must break with this error; no root filesystem may be left."""
    with pytest.raises(kind, match=match) as caught:
        followed(servers, directory, name)
    assert type(caught.value) is kind
    assert not list(directory.glob("rootfs.*"))
    return caught.value


# ---- nothing wrong


@pytest.mark.parametrize("name", [NAME, "images/alpine/3.19", "alpine"])
def test_an_image_is_found_by_each_form_of_its_name(
    servers: SignedServers, tmp_path: Path, name: str
) -> None:
    pair = followed(servers, tmp_path, name)
    content = (servers.images / ROOTFS).read_bytes()
    assert pair.rootfs.path.read_bytes() == content
    assert pair.rootfs.sha256 == hashlib.sha256(content).hexdigest()
    assert pair.rootfs.size_bytes == len(content)
    assert pair.metadata.path.read_bytes() == (servers.images / META).read_bytes()
    # What isn't needed is not asked for; what is fetched is asked for once.
    assert sorted(servers.images_web.asked) == sorted(
        f"{path}{end}" for path in (INDEX, META, ROOTFS) for end in ("", ".asc")
    )


def test_a_server_of_images_can_be_the_first(servers: SignedServers, tmp_path: Path) -> None:
    servers.server_authority.cert_pem.write_to_path(str(tmp_path / "ca"))
    keys = servers.home.export(servers.server_key, tmp_path / "keys")
    trust = Trust(keys=keys, authorities=tmp_path / "ca")
    address = parse_address(servers.images_url, what="the server")
    with image_server(address, trust, "alpine/3.19", "amd64", tmp_path) as (server, wanted):
        pair = server.fetch(server.find(wanted), tmp_path)
    assert pair.rootfs.path.is_file()
    assert servers.registry_web.asked == []


def test_another_packing_of_the_root_filesystem(servers: SignedServers, tmp_path: Path) -> None:
    for end in ("", ".asc"):
        file = servers.images / f"{ROOTFS}{end}"
        file.rename(str(file).replace(".tar.xz", ".squashfs"))
    assert followed(servers, tmp_path).rootfs.path.name == "rootfs.squashfs"


def test_a_server_s_own_certificate_may_be_named(servers: SignedServers, tmp_path: Path) -> None:
    """The registry may name the server's certificate itself, as well as its authority's."""
    address = servers.images_web.url.rpartition("/")[2]
    pem = servers_certificate(address)
    servers.certificate_file.unlink()
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.decode())).hexdigest()
    servers.put(servers.registry / "certs" / digest, pem, servers.registry_key)
    servers.say(trusted_certs=[f"/certs/{digest}"])
    assert followed(servers, tmp_path).rootfs.path.is_file()


def servers_certificate(address: str) -> bytes:
    """What a server shows."""
    host, _, port = address.partition(":")
    return ssl.get_server_certificate((host, int(port))).encode()


# ---- every signed document, damaged in every way

Pick = Callable[[SignedServers], Path]
SIGNED: dict[str, tuple[Pick, str]] = {
    "registry": (lambda one: one.registry / REGISTRY, "registry_key"),
    "key": (lambda one: one.key_file, "registry_key"),
    "certificate": (lambda one: one.certificate_file, "registry_key"),
    "index": (lambda one: one.images / INDEX, "server_key"),
    "metadata": (lambda one: one.images / META, "server_key"),
    "rootfs": (lambda one: one.images / ROOTFS, "server_key"),
}


@pytest.mark.parametrize("document", SIGNED)
class TestEverySignedDocument:
    """Wherever the chain is touched, it breaks there."""

    def file(self, servers: SignedServers, document: str) -> Path:
        return SIGNED[document][0](servers)

    def test_a_changed_byte(self, servers: SignedServers, tmp_path: Path, document: str) -> None:
        file = self.file(servers, document)
        change_byte(file)
        error = refused(BadSignatureError, servers, tmp_path, "the signature is wrong")
        assert file.name in error.message
        assert error.hint

    def test_no_signature(self, servers: SignedServers, tmp_path: Path, document: str) -> None:
        file = self.file(servers, document)
        Path(f"{file}.asc").unlink()
        error = refused(UnsignedError, servers, tmp_path, "is not signed")
        assert f"{file.name}.asc" in error.message

    def test_another_key(self, servers: SignedServers, tmp_path: Path, document: str) -> None:
        servers.sign(self.file(servers, document), servers.stranger)
        refused(UnknownSignerError, servers, tmp_path, servers.stranger[-16:])

    def test_the_key_of_the_other_end(
        self, servers: SignedServers, tmp_path: Path, document: str
    ) -> None:
        """A server can't speak for the registry that names it, nor the registry for the server."""
        others = {"registry_key": "server_key", "server_key": "registry_key"}
        key = getattr(servers, others[SIGNED[document][1]])
        servers.sign(self.file(servers, document), key)
        refused(UnknownSignerError, servers, tmp_path, key[-16:])

    def test_cut_short(self, servers: SignedServers, tmp_path: Path, document: str) -> None:
        file = self.file(servers, document)
        file.write_bytes(file.read_bytes()[:-1])
        refused(BadSignatureError, servers, tmp_path, "the signature is wrong")

    def test_the_connection_breaks(
        self, servers: SignedServers, tmp_path: Path, document: str
    ) -> None:
        self.fault(servers, document, breaks_off)
        refused(UnreachedError, servers, tmp_path, "the connection broke off")

    @pytest.mark.full
    def test_the_server_fails(self, servers: SignedServers, tmp_path: Path, document: str) -> None:
        self.fault(servers, document, fails)
        refused(UnreachedError, servers, tmp_path, "the server answers 503")

    @pytest.mark.parametrize("scheme", ["https", "http"])
    def test_sent_elsewhere(
        self, servers: SignedServers, tmp_path: Path, document: str, scheme: str
    ) -> None:
        """Even to the same files, on another port or without TLS."""
        place = f"{scheme}://127.0.0.1:{9 if scheme == 'https' else servers.images_web.url.rpartition(':')[2]}/x"
        self.fault(servers, document, sending_to(place))
        error = refused(RedirectedError, servers, tmp_path, "sends us to another one")
        assert place in error.message

    @pytest.mark.full
    def test_a_signature_that_never_ends(
        self, servers: SignedServers, tmp_path: Path, document: str
    ) -> None:
        self.fault(servers, document, never_ends, ".asc")
        refused(OversizeError, servers, tmp_path, "asc is larger than 65536 bytes")

    def test_a_forgeable_hash(self, servers: SignedServers, tmp_path: Path, document: str) -> None:
        file = self.file(servers, document)
        servers.sign(file, getattr(servers, SIGNED[document][1]), "--digest-algo", "SHA1")
        refused(BadSignatureError, servers, tmp_path, "a hash that can be forged")

    def test_a_signature_that_has_expired(
        self, servers: SignedServers, tmp_path: Path, document: str
    ) -> None:
        file = self.file(servers, document)
        past = ("--faked-system-time", "20260201T000000", "--default-sig-expire", "1d")
        servers.sign(file, getattr(servers, SIGNED[document][1]), *past)
        refused(BadSignatureError, servers, tmp_path, "has expired")

    def fault(
        self,
        servers: SignedServers,
        document: str,
        fault: Callable[[BaseHTTPRequestHandler, bytes], None],
        end: str = "",
    ) -> None:
        file = self.file(servers, document)
        for tree, one in (
            (servers.registry, servers.registry_web),
            (servers.images, servers.images_web),
        ):
            if file.is_relative_to(tree):
                one.faults[f"{file.relative_to(tree)}{end}"] = fault


def sending_to(place: str) -> Callable[[BaseHTTPRequestHandler, bytes], None]:
    """A redirect."""

    def fault(handler: BaseHTTPRequestHandler, content: bytes) -> None:
        handler.send_response(302)
        handler.send_header("Location", place)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return fault


# ---- what is signed right, and means no trust


def test_a_key_swapped_in_the_registry(servers: SignedServers, tmp_path: Path) -> None:
    """Signed by the registry, but not the key that its index names."""
    other = servers.home.export(servers.stranger, tmp_path / "other").read_bytes()
    servers.put(servers.key_file, other, servers.registry_key)
    error = refused(UntrustedRemoteError, servers, tmp_path, servers.stranger)
    assert "swapped" in error.hint


def test_an_entry_that_names_another_key(servers: SignedServers, tmp_path: Path) -> None:
    other = servers.home.export(servers.stranger, tmp_path / "other").read_bytes()
    path = f"keys/{servers.stranger[-16:]}"
    servers.put(servers.registry / path, other, servers.registry_key)
    servers.say(trusted_keys=[f"/{path}"])
    refused(UnknownSignerError, servers, tmp_path, servers.server_key[-16:])


def test_an_entry_without_keys(servers: SignedServers, tmp_path: Path) -> None:
    servers.say(trusted_keys=[])
    refused(UntrustedRemoteError, servers, tmp_path, "names no keys")
    assert servers.images_web.asked == []


def test_a_key_that_is_none(servers: SignedServers, tmp_path: Path) -> None:
    servers.put(servers.key_file, b"no key", servers.registry_key)
    refused(DocumentError, servers, tmp_path, "no OpenPGP public key")


def test_a_certificate_swapped_in_the_registry(servers: SignedServers, tmp_path: Path) -> None:
    other = trustme.CA().cert_pem.bytes()
    servers.put(servers.certificate_file, other, servers.registry_key)
    refused(UntrustedRemoteError, servers, tmp_path, "is another certificate")
    servers.put(servers.certificate_file, b"none", servers.registry_key)
    refused(DocumentError, servers, tmp_path, "no certificate in PEM form")


def test_a_server_with_another_certificate(servers: SignedServers, tmp_path: Path) -> None:
    """Without a named certificate those given, or the system's, decide: neither knows this one."""
    servers.say(trusted_certs=[])
    error = refused(CertificateRefusedError, servers, tmp_path, "certificate is not trusted")
    assert "--ca" in error.hint


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("http+lxc-images://127.0.0.1:9", "is plain HTTP"),
        ("https+system-image://127.0.0.1:9", "can't be read"),
        ("https://127.0.0.1:9", "can't be read"),
        ("https+lxc-images://", "no valid host"),
        ("https+lxc-images://h:99999", "no valid host"),
        ("https+registry://127.0.0.1:9", "is a registry again"),
        ("", "can't be read"),
    ],
)
def test_an_entry_with_an_address_of_no_use(
    servers: SignedServers, tmp_path: Path, url: str, match: str
) -> None:
    servers.say(url=url)
    refused(UsageError, servers, tmp_path, match)


def test_a_registry_without_tls(servers: SignedServers, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is plain HTTP"):
        parse_address(servers.registry_url.replace("https", "http"), what="--from")


def test_names_nobody_knows(servers: SignedServers, tmp_path: Path) -> None:
    error = refused(
        UnknownRemoteError, servers, tmp_path, "neither a remote 'nobody'", "nobody/x/y"
    )
    assert error.hint == "its remotes are images; its aliases alpine"
    error = refused(
        UnknownImageError, servers, tmp_path, "no image alpine/3.20/amd64", "images/alpine/3.20"
    )
    assert "alpine/3.19/amd64/default, alpine/3.19/arm64/default" in error.hint
    error = refused(UnknownImageError, servers, tmp_path, "no image arch/", "images/arch/current")
    assert error.hint == "it has alpine, debian"
    refused(UsageError, servers, tmp_path, "names no image", "images/alpine")
    refused(UsageError, servers, tmp_path, "names no image", "images/a/b/c/d/e")


def test_keys_that_are_not_there(servers: SignedServers, tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    for keys, kind in (("none", NotFoundError), ("empty", UsageError)):
        trust = Trust(keys=tmp_path / keys, authorities=servers.authorities)
        with (
            pytest.raises(kind),
            image_server(servers.address, trust, NAME, "amd64", tmp_path),
        ):
            pass
    assert servers.registry_web.asked == []


# ---- what is signed right, and isn't what it should be


@pytest.mark.parametrize(
    ("lines", "match"),
    [
        ("alpine;3.19;amd64\n", "line 1: expected six fields"),
        (LINES + "a;b;amd64;d;e;../../etc\n", "line 4: the path leads out"),
        ("a;b;amd64;d;e;https://elsewhere/x\n", "line 1: the path leads out"),
        ("<html>\n", "line 1: expected six fields"),
    ],
)
def test_an_index_that_is_none(
    servers: SignedServers, tmp_path: Path, lines: str, match: str
) -> None:
    servers.put(servers.images / INDEX, lines.encode(), servers.server_key)
    refused(DocumentError, servers, tmp_path, match)


def test_a_document_that_never_ends(servers: SignedServers, tmp_path: Path) -> None:
    servers.registry_web.faults[REGISTRY] = never_ends
    refused(OversizeError, servers, tmp_path, "index.json is larger than 16777216 bytes")


def test_metadata_that_never_ends(servers: SignedServers, tmp_path: Path) -> None:
    servers.images_web.faults[META] = never_ends
    refused(OversizeError, servers, tmp_path, "meta.tar.xz is larger than 16777216 bytes")


def test_a_redirect_on_the_same_server(servers: SignedServers, tmp_path: Path) -> None:
    """Is followed: who answers is the same."""
    shutil.copytree(servers.images / "images", servers.images / "moved")
    servers.images_web.faults[ROOTFS] = sending_to(f"/moved{ROOTFS.removeprefix('images')}")
    assert followed(servers, tmp_path).rootfs.path.is_file()
