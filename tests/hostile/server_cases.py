"""Hostile servers: registries, token servers, mirrors, image servers."""

import contextlib
import gzip
import json
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import trustme

from lxdocker_lxd.clients.document import DocumentError
from lxdocker_lxd.clients.lxc_images import USER_INDEX, parse_index
from lxdocker_lxd.clients.simplestreams import INDEX, find_image
from lxdocker_lxd.clients.tree import DamagedError, UnreachedError
from lxdocker_lxd.clients.tree_http import HttpTree, RedirectedError
from lxdocker_lxd.clients.whole_document import OversizeError, read_whole
from lxdocker_lxd.convert.json_document import InvalidDocumentError
from lxdocker_lxd.convert.registry.origin import UnsafeAddressError
from lxdocker_lxd.convert.registry.refusal import (
    BusyError,
    DeniedError,
    NotInRegistryError,
    UnexpectedAnswerError,
)
from lxdocker_lxd.convert.registry.settings import RegistrySettings, TransferLimits
from lxdocker_lxd.convert.registry.transport import (
    AnswerTooLongError,
    UnreachableError,
)
from lxdocker_lxd.convert.source import BlobInterruptedError
from lxdocker_lxd.convert.store import Store
from lxdocker_lxd.digest import DigestMismatchError
from lxdocker_lxd.errors import LxdockerError, NetworkError
from lxdocker_lxd.update import image_server_http
from lxdocker_lxd.update.image_server_http import AskingError
from tests.harness import faulty
from tests.harness.fake_registry import (
    Exchange,
    FakeRegistry,
    Fault,
    Reply,
    fake_registry,
)
from tests.harness.registry_client import credential_file, registry_client
from tests.harness.tiny_image import TinyImage, tiny_image
from tests.hostile.case import HostileCase
from tests.serve.tree_web import breaks_off, never_ends, web

_NAME, _TAG = "team/web", "1"
_SECRET = "ann:s3cr3t"
_IMAGE = tiny_image({"bin/app": bytes(range(256)) * 400})
_MANIFEST, _BLOB, _HEAD = "GET .*/manifests/", "GET .*/blobs/", "HEAD .*/manifests/"
_ALWAYS = 10**6
_METADATA = "http://169.254.169.254/latest/meta-data/"
_BACKSLASH = "http://169.254.169.254\\.cdn.example/latest/meta-data/"


@dataclass
class Scene:
    """A registry with one image, a token server, and a second server that is or isn't to be asked."""

    registry: FakeRegistry
    other: FakeRegistry
    image: TinyImage
    place: Path

    def want_tokens(self, realm: str = "") -> None:
        """Let the registry ask for tokens of ``realm``, else of its own token server."""
        where = realm or f"http://{self.registry.host}/token"
        self.registry.challenge = f'Bearer realm="{where}",service="s"'
        self.registry.admits = lambda seen: seen.authorization == "Bearer good"

    def token(self, reply: Reply) -> None:
        """Let the registry's token server give one answer."""
        self.want_tokens()
        self.registry.routes["/token"] = lambda _seen, _body: reply


Prepare = Callable[[Scene], object]


def pulled(
    place: Path,
    prepare: Prepare,
    *,
    mirror: bool = False,
    login: bool = False,
    by_digest: bool = False,
    addresses: Mapping[str, str] | None = None,
    limits: TransferLimits | None = None,
) -> None:
    """Pull an image as a conversion does; nobody else may hear the password."""
    with fake_registry() as registry, fake_registry() as other:
        registry.push(_NAME, _TAG, _IMAGE)
        other.push(_NAME, _TAG, _IMAGE)
        prepare(Scene(registry, other, _IMAGE, place))
        files = credential_file(place / "auth.json", {registry.host: _SECRET}) if login else ()
        hosts = [RegistrySettings(host=registry.host, mirrors=(other.host,) if mirror else ())]
        named = f"@{_IMAGE.digest}" if by_digest else f":{_TAG}"
        reference = f"{registry.host}/{_NAME}{named}"
        with registry_client(
            *hosts,
            credential_files=files,
            read_timeout_seconds=0.3,
            limits=limits,
            addresses=addresses,
        ) as client:
            try:
                client.open(reference).head()
                result = client.pull(reference, Store(place / "cache"))
                assert str(result.top_digest) == _IMAGE.digest
                assert result.layers[0].path.read_bytes() == _IMAGE.layers[0]
            except LxdockerError as error:
                assert "s3cr3t" not in error.message + error.hint  # noqa: PT017 - raised again
                raise
            finally:
                assert all(seen.user != _SECRET for seen in other.requests)
                assert sum(client.slept) < 600


def _fail(pattern: str, fault: Fault, *, times: int = _ALWAYS) -> Prepare:
    return lambda scene: scene.registry.fail(pattern, fault, times=times)


def _mirror_fails(fault: Fault, pattern: str = ".*") -> Prepare:
    return lambda scene: scene.other.fail(pattern, fault, times=_ALWAYS)


def _case(
    party: str,
    name: str,
    prepare: Prepare,
    error: type[LxdockerError] | None = None,
    says: str = "",
    **how: object,
) -> HostileCase:
    meet = partial(pulled, prepare=prepare, **how)  # type: ignore[arg-type]  # flags of it
    return HostileCase(party=party, name=name, meet=meet, error=error, says=says)


_registry = partial(_case, "registry")
_tokens = partial(_case, "token server")
_mirror = partial(_case, "mirror", mirror=True)


# ---- what registries may do


def _endless(exchange: Exchange, _reply: Reply) -> None:
    exchange.send_response(200)
    exchange.end_headers()
    exchange.close_connection = True
    with contextlib.suppress(OSError):
        for _ in range(4096):
            exchange.wfile.write(b"a" * (1 << 16))


def _raw(content: bytes) -> Fault:
    def fault(exchange: Exchange, _reply: Reply) -> None:
        exchange.close_connection = True
        with contextlib.suppress(OSError):
            exchange.wfile.write(content)

    return fault


def _other_manifest(scene: Scene) -> None:
    stranger = tiny_image({"evil": b"x"})
    headers = {"Content-Type": stranger.media_type, "Docker-Content-Digest": scene.image.digest}
    reply = Reply(status=200, headers=headers, body=stranger.manifest)
    scene.registry.fail(_MANIFEST, lambda exchange, _: exchange.send(reply), times=_ALWAYS)


def _challenge(header: str) -> Prepare:
    def prepare(scene: Scene) -> None:
        scene.registry.challenge = header
        scene.registry.admits = lambda _seen: False

    return prepare


def _labelled(scene: Scene) -> None:
    fault = faulty.with_headers(Content_Encoding="gzip")
    scene.registry.fail(_BLOB, fault, times=_ALWAYS)


def _to(url: str, pattern: str = _BLOB) -> Prepare:
    return _fail(pattern, faulty.redirect(url))


def _to_other(scene: Scene) -> None:
    """Redirects to another server, which asks for a password of its own."""
    scene.registry.challenge = 'Basic realm="x"'
    scene.registry.admits = lambda seen: seen.user == _SECRET
    scene.registry.fail(_BLOB, faulty.redirect(f"http://{scene.other.host}{{path}}"), times=_ALWAYS)
    scene.other.challenge = 'Basic realm="give"'
    scene.other.admits = lambda _seen: False


_BAD_WORDS = b'{"errors":[{"code":"\\u001b[2J\\u202e","message":"' + b"a" * 5000 + b'\\r\\nok"}]}'
_LONG_HEADERS = b"HTTP/1.1 200 OK\r\n" + b"X: " + b"a" * (1 << 20) + b"\r\n\r\n"
_MANY_HEADERS = b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 50_000 + b"\r\n"
_HUGE_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n{}"
_REGISTRIES = (
    _registry("another manifest than its digest says", _other_manifest, DigestMismatchError, by_digest=True),
    _registry("manifest with one byte changed", _fail(_MANIFEST, faulty.spoil()), DigestMismatchError, by_digest=True),
    _registry("layer with one byte changed", _fail(_BLOB, faulty.spoil(5)), DigestMismatchError),
    _registry("layers that always break off", _fail(_BLOB, faulty.cut(0)), BlobInterruptedError),
    _registry("layers that stop coming", _fail(_BLOB, faulty.stall(0, 1)), BlobInterruptedError),
    _registry("layer that is announced a terabyte", _fail(_BLOB, faulty.announce(1 << 40)), LxdockerError),
    _registry("layer that is longer than announced", _fail(_BLOB, faulty.unannounced(_IMAGE.layers[0] + b"x" * 999)), LxdockerError),
    _registry("layer that never ends", _fail(_BLOB, _endless), LxdockerError),
    _registry("manifest that never ends", _fail(_MANIFEST, _endless), AnswerTooLongError, "bytes"),
    _registry("manifest that is a page", _fail(_MANIFEST, faulty.unannounced(b"<html>")), LxdockerError),
    _registry("redirects in a circle", _to("{path}"), UnexpectedAnswerError, "redirects more than 10"),
    _registry("redirect to the cloud's metadata", _to(_METADATA), UnsafeAddressError, "private network"),
    _registry("redirect to the network inside", _to("https://10.0.0.1/x"), UnsafeAddressError, "private network"),
    _registry("redirect to IPv6's inside", _to("https://[fd00::1]/x"), UnsafeAddressError, "private network"),
    _registry("redirect to a mapped address", _to("http://[::ffff:169.254.169.254]/x"), UnsafeAddressError),
    _registry("redirect to an address in octal", _to("http://0251.0376.0251.0376/x"), UnsafeAddressError),
    _registry("redirect to an address as one number", _to("http://2852039166/x"), UnsafeAddressError),
    _registry("redirect to an address behind a backslash", _to(_BACKSLASH), UnsafeAddressError),
    _registry("redirect to a file", _to("file:///etc/shadow"), UnsafeAddressError),
    _registry("redirect with a password in it", _to("https://user:pw@cdn.example/"), UnsafeAddressError, "user name"),
    _registry("redirect that wants the password elsewhere", _to_other, DeniedError, login=True),
    _registry("refuses every login", _challenge('Basic realm="x"'), DeniedError, login=True),
    _registry("challenge of 60 kB of quotes", _challenge("Bearer " + 'a="\\' * 15_000), LxdockerError),
    _registry("challenge of 60 kB of commas", _challenge("Bearer" + ", " * 30_000), LxdockerError),
    _registry("busy for ever", _fail(".*", faulty.status(503)), BusyError, "503"),
    _registry("asks to come back in 30 years", _fail(".*", faulty.status(429, retry_after="999999999")), BusyError),
    _registry("words that command a terminal", _fail(".*", faulty.status(403, _BAD_WORDS)), DeniedError),
    _registry("has never heard of it", _fail(".*", faulty.status(404, b"\xff" * 70_000)), NotInRegistryError),
    _registry("hangs up on everybody", _fail(".*", faulty.hang_up()), UnreachableError),
    _registry("header of 1 MiB", _fail(".*", _raw(_LONG_HEADERS)), LxdockerError),
    _registry("50,000 headers", _fail(".*", _raw(_MANY_HEADERS)), LxdockerError),
    _registry("length of 5,000 digits", _fail(_MANIFEST, _raw(_HUGE_LENGTH)), LxdockerError),
    _registry("answers that are no HTTP", _fail(".*", _raw(b"SSH-2.0-x\r\n")), UnreachableError),
    _registry("layers labelled as compressed once more", _labelled),
    _registry("digest in a header that is none", _fail(_HEAD, faulty.with_headers(Docker_Content_Digest="../../shadow"))),
)  # fmt: skip


# ---- token servers


def _realm(realm: str) -> Prepare:
    return lambda scene: scene.want_tokens(realm)


def _token(document: object, status: int = 200) -> Prepare:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return lambda scene: scene.token(Reply(status=status, body=body))


def _token_elsewhere(scene: Scene) -> None:
    scene.token(Reply(status=200, body=b'{"token":"good"}'))
    url = f"http://{scene.other.host}/token"
    scene.other.routes["/token"] = lambda _seen, _body: Reply(status=200, body=b'{"token":"good"}')
    scene.registry.fail("GET /token", faulty.redirect(url), times=_ALWAYS)


def _token_drips(scene: Scene) -> None:
    scene.want_tokens()
    scene.registry.fail("GET /token", faulty.drip(b"HTTP/1.1 2"), times=_ALWAYS)


_TOKEN_SERVERS = (
    _tokens("realm at the cloud's metadata", _realm(_METADATA), UnsafeAddressError, login=True),
    _tokens("realm behind a backslash", _realm(_BACKSLASH.replace("\\", "\\\\")), UnsafeAddressError, login=True),
    _tokens("realm that is a file", _realm("file:///etc/shadow"), UnsafeAddressError),
    _tokens("realm with a user", _realm("https://a:b@auth.example/"), UnsafeAddressError),
    _tokens("realm that is no address", _realm("http://["), UnsafeAddressError),
    _tokens("token of two lines", _token({"token": "a\r\nX-Evil: b"}), InvalidDocumentError, "no token"),
    _tokens("token of 1 MiB", _token({"token": "a" * (1 << 20)}), AnswerTooLongError),
    _tokens("token that is a number", _token({"token": 7}), InvalidDocumentError),
    _tokens("answer of 50,000 brackets", _token(b"[" * 50_000), InvalidDocumentError),
    _tokens("token for 10^40 seconds", _token({"token": "good", "expires_in": 10**40}), InvalidDocumentError),
    _tokens("token for -1 seconds, of the year 1", _token({"token": "good", "expires_in": -1, "issued_at": "0001-01-01T00:00:00+23:59"})),
    _tokens("token that nobody accepts", _token({"token": "bad"}), DeniedError),
    _tokens("refuses with a page", _token(b"<html>" * 9999, 401), DeniedError),
    _tokens("redirect to another server with the password", _token_elsewhere, login=True),
)  # fmt: skip


# ---- mirrors: the registry itself must still be asked, and its login stay with it


def _greedy(scene: Scene) -> None:
    scene.other.challenge = 'Basic realm="x"'
    scene.other.admits = lambda _seen: False


def _limited(text: str) -> Fault:
    return lambda exchange, _: exchange.send(
        Reply(status=429, headers={"ratelimit-remaining": text})
    )


_MIRRORS = (
    _mirror("wrong bytes in a layer", _mirror_fails(faulty.spoil(), _BLOB)),
    _mirror("layers that break off", _mirror_fails(faulty.cut(10), _BLOB)),
    _mirror("wrong bytes in a manifest", _mirror_fails(faulty.spoil(), _MANIFEST), LxdockerError),
    _mirror("wants a login", _greedy, login=True),
    _mirror("hangs up", _mirror_fails(faulty.hang_up())),
    _mirror("allowance that is no number", _mirror_fails(_limited("0;w=\u00b2"))),
    _mirror("allowance of 5,000 digits", _mirror_fails(_limited("0;w=" + "9" * 5000))),
    _mirror("redirects to the cloud's metadata", _mirror_fails(faulty.redirect(_METADATA))),
    _mirror("answers that are no HTTP", _mirror_fails(_raw(b"\0" * 999))),
    _mirror("header of 1 MiB", _mirror_fails(_raw(_LONG_HEADERS))),
)  # fmt: skip


# ---- image servers


def _looked_up(place: Path, index: bytes, products: bytes = b"{}", *, stay: bool = False) -> None:
    """Look an alias up in a tree of images that is served."""
    directory = place / "tree"
    (directory / "streams/v1").mkdir(parents=True)
    (directory / INDEX).write_bytes(index)
    (directory / "streams/v1/images.json").write_bytes(products)
    with web(directory) as server, contextlib.closing(HttpTree(server.url, stay=stay)) as tree:
        find_image(tree, "web", ("amd64",))


def _answered(
    place: Path, fault: Callable[[BaseHTTPRequestHandler, bytes], None], *, stay: bool = False
) -> None:
    """Read an index from a server with a fault."""
    with web(place) as server, contextlib.closing(HttpTree(server.url, stay=stay)) as tree:
        server.faults[INDEX] = fault
        read_whole(tree, INDEX, most_bytes=1 << 20)


def _polled(place: Path, fault: Callable[[BaseHTTPRequestHandler, bytes], None]) -> None:
    """Ask for an index as the updater does."""
    certificate = trustme.CA().issue_cert("127.0.0.1")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(tls)
    pem = certificate.cert_chain_pems[0].bytes().decode()
    with web(place, tls) as server:
        server.faults[INDEX] = fault
        image_server_http.ask(f"{server.url}/{INDEX}", certificate=pem, most_bytes=1 << 20)


def _lines(_place: Path, content: bytes) -> None:
    parse_index(content, what=USER_INDEX)


def _sends(status: int, body: bytes = b"", **headers: str) -> Callable[[BaseHTTPRequestHandler, bytes], None]:  # fmt: skip
    def fault(handler: BaseHTTPRequestHandler, _content: bytes) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        with contextlib.suppress(OSError):
            handler.wfile.write(body)

    return fault


def _index_of(path: str) -> bytes:
    entry = {"datatype": "image-downloads", "path": path, "products": ["p"]}
    return json.dumps({"index": {"images": entry}}).encode()


def _products(**version: object) -> bytes:
    items = {"a": {"ftype": "lxd.tar.xz", "sha256": "0" * 64, "size": 1, "path": "a",
                   "combined_squashfs_sha256": "f" * 64},
             "b": {"ftype": "squashfs", "sha256": "0" * 64, "size": 1, "path": "b", **version}}  # fmt: skip
    product = {"arch": "amd64", "aliases": "web", "versions": {"20260101": {"items": items}}}
    return json.dumps({"products": {"p": product}}).encode()


def _server(name: str, meet: Callable[[Path], object], error: type[LxdockerError] | None, says: str = "") -> HostileCase:  # fmt: skip
    return HostileCase(party="image server", name=name, meet=meet, error=error, says=says)


_GZIP_BOMB = gzip.compress(bytes(64 << 20), 1)
_GOOD_INDEX = _index_of("streams/v1/images.json")
_IMAGE_SERVERS = (
    _server("index that is a page", partial(_looked_up, index=b"<html>"), DocumentError, "JSON"),
    _server("index of 100,000 brackets", partial(_looked_up, index=b"[" * 100_000), DocumentError),
    _server("index with a number of 5,000 digits", partial(_looked_up, index=b'{"a":' + b"9" * 5000 + b"}"), DocumentError),
    _server("index that leads out of the tree", partial(_looked_up, index=_index_of("../../etc/shadow")), DocumentError, "leads out"),
    _server("index that leads to another server", partial(_looked_up, index=_index_of("https://evil.example/x")), DocumentError, "leads out"),
    _server("products that lead out of the tree", partial(_looked_up, index=_GOOD_INDEX, products=_products(path="../../../etc/shadow")), DocumentError),
    _server("17 MB of empty objects", partial(_looked_up, index=b'{"index":{},"x":[' + b"{}," * 5_900_000 + b"{}]}"), LxdockerError),
    _server("size that is a text", partial(_looked_up, index=_GOOD_INDEX, products=_products(size="1")), DocumentError),
    _server("document that never ends", partial(_answered, fault=never_ends), OversizeError, "larger than"),
    _server("document that breaks off", partial(_answered, fault=breaks_off), LxdockerError),
    _server("document that is a gzip bomb", partial(_answered, fault=_sends(200, _GZIP_BOMB, Content_Encoding="gzip")), OversizeError),
    _server("document that is broken gzip", partial(_answered, fault=_sends(200, b"x" * 99, Content_Encoding="gzip")), DamagedError),
    _server("redirects in a circle", partial(_answered, fault=_sends(302, Location=f"/{INDEX}")), DamagedError, "redirects"),
    _server("redirect elsewhere in a chain of trust", partial(_answered, fault=_sends(302, Location="http://127.0.0.2:1/"), stay=True), RedirectedError),
    _server("redirect to a file", partial(_answered, fault=_sends(302, Location="file:///etc/shadow")), UnreachedError),
    _server("updater: redirect elsewhere", partial(_polled, fault=_sends(302, Location="http://169.254.169.254/")), AskingError, "another server"),
    _server("updater: document that never ends", partial(_polled, fault=never_ends), AskingError, "larger than"),
    _server("updater: gzip bomb", partial(_polled, fault=_sends(200, _GZIP_BOMB, Content_Encoding="gzip")), AskingError),
    _server("LXC index that leads out", partial(_lines, content=b"a;b;c;d;e;/../../etc\n"), DocumentError, "leads out"),
    _server("LXC index of 100,000 bad lines", partial(_lines, content=b";;;;;\n" * 100_000), DocumentError, "line 1"),
)  # fmt: skip

# ---- servers that send a byte now and then


_HASTY = TransferLimits(
    connect_seconds=2,
    quiet_seconds=2,
    document_seconds=0.5,
    blob_start_seconds=0.5,
    window_seconds=0.5,
    image_seconds=5,
)
_OK = b"HTTP/1.1 200 OK\r\n"
_slow_registry = partial(_case, "registry", limits=_HASTY)
_DRIPS = (
    _slow_registry("a byte of the status now and then", _fail(".*", faulty.drip(b"HTTP/1.1 2")), NetworkError),
    _slow_registry("a byte of a header now and then", _fail(".*", faulty.drip(_OK + b"X: ")), NetworkError),
    _slow_registry("a byte of the manifest now and then", _fail(_MANIFEST, faulty.drip(_OK + b"Content-Length: 99999\r\n\r\n{")), NetworkError),
    _slow_registry("a byte of a layer now and then", _fail(_BLOB, faulty.drip_body(10)), NetworkError),
    _case("token server", "a byte of the token now and then", _token_drips, NetworkError, limits=_HASTY),
    _mirror("a byte of the manifest now and then", _mirror_fails(faulty.drip(_OK + b"Content-Length: 99999\r\n\r\n{")), limits=_HASTY),
    _mirror("a byte of a layer now and then", _mirror_fails(faulty.drip_body(10), _BLOB), limits=_HASTY),
)  # fmt: skip


# ---- names that a resolver leads into the network inside


def _named(url: str, *, realm: bool = False) -> Prepare:
    return _realm(url) if realm else _to(url)


def _resolver(name: str, url: str, address: str, **how: bool) -> HostileCase:
    prepare = _named(url, **how)
    return _case("DNS", name, prepare, UnsafeAddressError, addresses={"cdn.example": address})


_RESOLVERS = (
    _resolver("content network at the cloud's metadata", "http://cdn.example/x", "169.254.169.254"),
    _resolver("content network in the network inside", "https://cdn.example/x", "10.0.0.1"),
    _resolver("content network at IPv6's inside", "https://cdn.example/x", "fd00::1"),
    _resolver("token server at the cloud's metadata", "http://cdn.example/t", "169.254.169.254", realm=True),
)  # fmt: skip

CASES = (*_DRIPS, *_RESOLVERS, *_REGISTRIES, *_TOKEN_SERVERS, *_MIRRORS, *_IMAGE_SERVERS)
