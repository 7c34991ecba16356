"""What servers answer: headers, addresses, tokens, trees of images."""

import json
from datetime import UTC, datetime

from lxdocker_lxd.clients import image_registry, lxc_images, simplestreams
from lxdocker_lxd.clients.document import DocumentError
from lxdocker_lxd.clients.remote_address import parse_address
from lxdocker_lxd.convert.registry.bearer_token import parse_token
from lxdocker_lxd.convert.registry.challenge import choose_challenge, parse_challenges
from lxdocker_lxd.convert.registry.origin import Origin, check_hop
from lxdocker_lxd.convert.registry.refusal import refusal
from lxdocker_lxd.convert.registry.retry import RetryPolicy, parse_retry_after
from lxdocker_lxd.convert.registry.settings import RegistriesSettings
from lxdocker_lxd.errors import LxdockerError, UsageError
from lxdocker_lxd.serve import lxc_rules, stream_rules
from lxdocker_lxd.serve.request_path import parse as parse_path
from lxdocker_lxd.serve.request_path import spell
from lxdocker_lxd.update import stream_listing
from lxdocker_lxd.update.delivery import LONGEST_WAIT, wait_of
from lxdocker_lxd.update.stream_listing import Wanted
from tests.fuzz.target import Target, compact, json_mutation

_NOW = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)
_STATUSES = (401, 403, 404, 408, 429, 500, 503, 302)


def auth_headers(data: bytes) -> None:
    """Read WWW-Authenticate headers, one a line, and the realm of the one that is chosen."""
    headers = data.decode("latin-1").split("\n")
    found = parse_challenges(headers)
    assert sum(len(one.scheme) for one in found) <= len(data)
    chosen = choose_challenge(found)
    if chosen is not None:
        assert all(scope and " " not in scope for scope in chosen.scopes)
        if chosen.realm:
            Origin.of(chosen.realm, what="realm")


def retry_headers(data: bytes) -> None:
    """Read how long a server asks to wait."""
    text = data.decode("latin-1")
    seconds = parse_retry_after(text, now=_NOW)
    delay = RetryPolicy().delay_seconds(1, wished_seconds=seconds, chance=0.5)
    assert delay is None or 0 <= delay <= 200
    wait = wait_of(text, _NOW)
    assert wait is None or wait <= LONGEST_WAIT


def refusals(data: bytes) -> None:
    """Tell of a refusal: a status, headers of the allowance, a body."""
    head, _, body = data.partition(b"\n\n")
    lines = head.decode("latin-1").split("\n")
    names = ("ratelimit-remaining", "ratelimit-limit", "retry-after", "x-retry-after")
    headers = dict(zip(names, lines[1:], strict=False))
    status = _STATUSES[len(lines[0]) % len(_STATUSES)]
    error = refusal(status, body, what="x", registry="r", headers=headers, now=_NOW)
    assert error.message.isprintable()
    assert len(error.message) < 1000


def addresses(data: bytes) -> None:
    """Judge an address that a server names; what is judged is printed as it is judged."""
    url = data.decode("utf-8", "surrogateescape")
    origin = Origin.of(url, what="redirect")
    again = Origin.of(str(origin), what="again")
    assert (again.scheme, again.port) == (origin.scheme, origin.port)
    registry = Origin(scheme="https", name="registry.example", port=443)
    check_hop(registry, origin, RegistriesSettings(), what="redirect")


def remote_addresses(data: bytes) -> None:
    """Read the address of an image server."""
    found = parse_address(data.decode("utf-8", "surrogateescape"), what="remote")
    assert found.url.startswith("https://")


def tokens(data: bytes) -> None:
    """Read a token server's answer: what is sent on fits one line of a header."""
    token = parse_token(data, now=_NOW, what="token")
    assert token.value.isprintable()
    assert token.value.isascii()
    token.is_fresh(_NOW)


def stream_documents(data: bytes) -> None:
    """Read one document as an index and as products, for a client, the updater and `verify`."""
    readers = (
        lambda: simplestreams.parse_index(data, what="d"),
        lambda: simplestreams.parse_products(data, what="d"),
        lambda: stream_listing.product_documents(data),
        lambda: stream_listing.standing_for(data, _WANTED),
        lambda: _verified(data),
    )
    errors: list[LxdockerError] = []
    for read in readers:
        try:
            read()
        except DocumentError as error:
            errors.append(error)
        except stream_listing.ListingError as error:
            errors.append(error)
    if len(errors) == len(readers):
        raise errors[0]


def _verified(data: bytes) -> None:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return
    entries, _ = stream_rules.read_index(document, path=stream_rules.INDEX_PATH)
    listing = stream_rules.StreamListing()
    entry = stream_rules.IndexEntry(path="streams/v1/images.json", products=frozenset({"p"}))
    for one in (*entries[:1], entry):
        stream_rules.read_products(document, one, listing)
    list(listing.conflicts("index"))


def lxc_index(data: bytes) -> None:
    """Read an index of LXC's images, as `verify` and as a client do."""
    lxc_rules.read_index(data, path="meta/1.0/index-user")
    for image in lxc_images.parse_index(data, what="index"):
        assert ".." not in image.file("meta.tar.xz").split("/")
        str(image.name)


def registry_index(data: bytes) -> None:
    """Read a registry of image servers and look a name up in it."""
    found = image_registry.parse_registry(data, what="registry")
    for name in (*found.aliases, "s/debian/13"):
        try:
            found.resolve(name, "amd64")
        except (image_registry.UnknownRemoteError, UsageError):
            continue


def request_paths(data: bytes) -> None:
    """Read a request's path; it is spelled so that it means the same."""
    path = parse_path(data)
    assert ".." not in path.split("/")
    assert parse_path(spell(path).encode()) == path


_WANTED = frozenset({Wanted(alias="web", architecture="x86_64")})
_SHA = "ab" * 32
_ITEMS = {
    "m": {"ftype": "lxd.tar.xz", "path": "a/m", "sha256": _SHA, "size": 4,
          "combined_squashfs_sha256": _SHA, "combined_rootxz_sha256": _SHA},
    "r": {"ftype": "squashfs", "path": "a/r", "sha256": _SHA, "size": 5},
    "c": {"ftype": "lxd_combined.tar.gz", "path": "a/c", "sha256": _SHA, "size": 5},
}  # fmt: skip
_PRODUCTS = {
    "content_id": "images",
    "datatype": "image-downloads",
    "format": "products:1.0",
    "products": {
        "p": {
            "aliases": "web,www",
            "arch": "amd64",
            "os": "o",
            "release": "r",
            "variant": "default",
            "requirements": {"secureboot": "false"},
            "versions": {"20260101_0102": {"label": "release", "items": _ITEMS}},
        }
    },
}
_INDEX = {
    "format": "index:1.0",
    "index": {
        "images": {
            "datatype": "image-downloads",
            "path": "streams/v1/images.json",
            "products": ["p"],
            "format": "products:1.0",
        }
    },
}
_REGISTRY = {
    "version": 1,
    "servers": [
        {"name": "s", "url": "https://s", "trusted_keys": ["/k.asc"], "trusted_certs": ["c.pem"]}
    ],
    "aliases": {
        "web": {
            "server": "s",
            "arguments": {"dist": "debian", "release": "13", "variant": "default"},
        }
    },
}
_BEARER = b'Bearer realm="https://auth.example/token",service="registry",scope="repository:a:pull"'
_URLS = (
    "https://cdn.example/x?y=1", "http://127.0.0.1:5000/", "https://[::1]/", "https://0x7f.1/",
    "https://[::ffff:10.0.0.1]:8443/a", "https://localhost./", "https://user@host/",
    "https://169.254.169.254\\.cdn.example/", "https://a.example:99999/", "//host/path",
)  # fmt: skip

TARGETS = (
    Target(
        name="auth_headers",
        parse=auth_headers,
        seeds=(
            _BEARER,
            b'Basic realm="x"\nNegotiate abc==, Digest qop="auth", ' + _BEARER,
            b'Bearer realm=https://a/t,scope="a b",error="inv\\"alid"',
        ),
        most_bytes=1024,
    ),
    Target(
        name="retry_headers",
        parse=retry_headers,
        seeds=(
            b"120",
            b"Wed, 06 May 2026 07:09:09 GMT",
            b"Wednesday, 06-May-26 07:09:09 -0000",
            b"1780000000",
            b"06 May 0001 00:00:00 +2359",
        ),
        most_bytes=256,
    ),
    Target(
        name="refusals",
        parse=refusals,
        seeds=(
            b'\xff\n\n{"errors":[{"code":"DENIED","message":"no"}]}',
            b'abcd\n0;w=21600\n100;w=21600\n60\n\n{"details":"x","code":7}',
        ),
        most_bytes=1024,
    ),
    Target(
        name="addresses",
        parse=addresses,
        seeds=tuple(url.encode() for url in _URLS),
        most_bytes=256,
    ),
    Target(
        name="remote_addresses",
        parse=remote_addresses,
        seeds=(b"https+registry://r.example:8443/x", b"https+lxc-images://images.example"),
        most_bytes=256,
    ),
    Target(
        name="tokens",
        parse=tokens,
        seeds=(
            compact(
                {"token": "abc", "expires_in": 300, "issued_at": "2026-05-06T07:00:00.123456789Z"}
            ),
            compact({"access_token": "abc", "refresh_token": "def"}),
        ),
        mutation=json_mutation,
        most_bytes=1024,
    ),
    Target(
        name="stream_documents",
        parse=stream_documents,
        seeds=(compact(_INDEX), compact(_PRODUCTS)),
        mutation=json_mutation,
    ),
    Target(
        name="lxc_index",
        parse=lxc_index,
        seeds=(b"debian;13;amd64;default;20260101_01:02;/images/debian/13/\n" * 2, b"a;b;c;d;e;f"),
        most_bytes=1024,
    ),
    Target(
        name="registry_index",
        parse=registry_index,
        seeds=(compact(_REGISTRY),),
        mutation=json_mutation,
    ),
    Target(
        name="request_paths",
        parse=request_paths,
        seeds=(b"/a/b%20c/", b"http://host//x/%2e%2e", b"/at/a:b/index.html"),
        most_bytes=512,
    ),
)
