"""Registries, token servers and mirrors that lie: a named error, or no harm, and nobody else asked."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lxdocker_lxd.convert.json_document import InvalidDocumentError
from lxdocker_lxd.convert.registry.origin import Address, UnsafeAddressError
from lxdocker_lxd.convert.registry.refusal import (
    BusyError,
    DeniedError,
    NotInRegistryError,
    RateLimitedError,
    UnexpectedAnswerError,
)
from lxdocker_lxd.convert.registry.settings import RegistrySettings, TransferLimits
from lxdocker_lxd.convert.registry.transport import AnswerTooLongError, Transport
from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.http_session import resolve
from tests.harness import faulty
from tests.harness.fake_registry import Exchange, FakeRegistry, Fault, Reply, fake_registry
from tests.harness.registry_client import describe, read_blob, registry_client
from tests.harness.tiny_image import tiny_image

IMAGE = tiny_image({"a": b"content"})
LIMITS = TransferLimits(connect_seconds=2, document_seconds=5, quiet_seconds=2)


def closing(fault: Fault) -> Fault:
    """Close the connection after it: a body whose length nobody knows ends there."""

    def closed(exchange: Exchange, reply: Reply) -> None:
        fault(exchange, reply)
        exchange.close_connection = True

    return closed


def large_redirect(exchange: Exchange, reply: Reply) -> None:
    """A redirect whose body is meant to fill the memory; its reader hangs up."""
    exchange.send_response(302)
    exchange.send_header("Location", "https://[::1")
    exchange.send_header("Content-Length", str(1 << 40))
    exchange.end_headers()
    exchange.close_connection = True
    while True:
        exchange.wfile.write(bytes(1 << 16))


# What a registry answers to whatever it is asked, and the error it makes; None for no harm.
ANSWERS: dict[str, tuple[Fault, type[LxdockerError] | None]] = {
    "a limit's window of a superscript": (
        faulty.status(429, ratelimit_remaining="0;w=²"),
        RateLimitedError,
    ),
    "a limit's window of thousands of digits": (
        faulty.status(429, ratelimit_remaining="0;w=" + "9" * 5000),
        RateLimitedError,
    ),
    "a superscript of pulls left": (faulty.with_headers(ratelimit_remaining="²"), None),
    "thousands of digits of pulls left": (
        faulty.with_headers(ratelimit_remaining="9" * 5000),
        None,
    ),
    "a time to come back of a superscript": (faulty.status(503, retry_after="²"), BusyError),
    "a time to come back without end": (faulty.status(503, retry_after="9" * 5000), BusyError),
    "a date to come back beyond all calendars": (
        faulty.status(503, retry_after="Fri, 31 Dec 99999 23:59:59 GMT"),
        BusyError,
    ),
    "a length of a superscript": (closing(faulty.with_headers(Content_Length="²")), None),
    "a length of thousands of digits": (
        closing(faulty.with_headers(Content_Length="9" * 5000)),
        None,
    ),
    "a negative length": (closing(faulty.with_headers(Content_Length="-1")), None),
    "a digest of another kind": (faulty.with_headers(Docker_Content_Digest="md5:x/../y"), None),
    "brackets in a redirect": (faulty.redirect("https://[::1"), UnsafeAddressError),
    "a redirect with an endless body": (large_redirect, UnsafeAddressError),
    "a redirect to a backslash": (
        faulty.redirect(r"http://169.254.169.254\.cdn.example/latest/meta-data/"),
        UnsafeAddressError,
    ),
    "a redirect to a number": (faulty.redirect("https://2852039166/"), UnsafeAddressError),
    "a redirect to a final dot": (faulty.redirect("https://192.168.0.1./"), UnsafeAddressError),
    "a redirect to a translated address": (
        faulty.redirect("https://[64:ff9b::a9fe:a9fe]/"),
        UnsafeAddressError,
    ),
    "a redirect to a file": (faulty.redirect("file:///etc/shadow"), UnsafeAddressError),
    "a redirect to a name that is none": (faulty.redirect("https://a..b/"), UnsafeAddressError),
    "a redirect with a user": (faulty.redirect("https://a:b@cdn.example/"), UnsafeAddressError),
    "a redirect to itself": (faulty.redirect("{path}"), UnexpectedAnswerError),
    "a status that is none": (faulty.status(999), UnexpectedAnswerError),
    "a refusal of brackets": (faulty.status(403, b"[" * 60_000), DeniedError),
    "a refusal without an end": (faulty.status(404, b"x" * (1 << 20)), NotInRegistryError),
    "control characters in a refusal": (
        faulty.status(404, b'{"errors":[{"code":"\\u001b[2J","message":"\\u202e"}]}'),
        NotInRegistryError,
    ),
}


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with fake_registry() as registry:
        registry.push("web", "1", IMAGE)
        yield registry


def outcome(action: Callable[[], object]) -> type[LxdockerError] | None:
    """Return the kind of error; anything that is not ours is the test's failure."""
    try:
        action()
    except LxdockerError as error:
        found = error
    else:
        return None
    assert (found.message + found.hint).isprintable(), found.message
    assert len(found.message) < 2000
    return type(found)


def test_each_odd_answer_has_its_error_or_does_no_harm() -> None:
    def ask(what: str) -> tuple[str, type[LxdockerError] | None]:
        fault, _ = ANSWERS[what]
        with fake_registry() as registry, registry_client(limits=LIMITS) as client:
            registry.push("web", "1", IMAGE)
            registry.fail("/manifests/", fault, times=99)
            source = client.open(f"{registry.host}/web:1")
            return what, outcome(lambda: (source.head(), source.manifest(None)))

    with ThreadPoolExecutor(4) as threads:
        found = dict(threads.map(ask, ANSWERS))
    assert found == {what: error for what, (_, error) in ANSWERS.items()}


def test_a_mirror_of_odd_answers_is_passed_over_for_the_registry(registry: FakeRegistry) -> None:
    with fake_registry() as mirror:
        mirrored = RegistrySettings(host=registry.host, mirrors=(mirror.host,))
        for fault, _ in ANSWERS.values():
            mirror.fail("/manifests/", fault)
        with registry_client(mirrored, limits=LIMITS) as client:
            for _ in ANSWERS:
                assert client.open(f"{registry.host}/web:1").manifest(None).raw == IMAGE.manifest


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", InvalidDocumentError),
        (b"[" * 100_000, InvalidDocumentError),
        (b'{"token": 5}', InvalidDocumentError),
        (b'{"token": "a\\r\\nHost: other"}', InvalidDocumentError),
        ('{"token": "ü"}'.encode(), InvalidDocumentError),
        (b'{"token": "t", "expires_in": "soon"}', InvalidDocumentError),
        (b'{"token": "t", "token": "u"}', InvalidDocumentError),
        (b'{"token": "' + b"t" * (1 << 20) + b'"}', AnswerTooLongError),
        (b'{"token": "t", "expires_in": 1' + b"0" * 4000 + b"}", InvalidDocumentError),
        (b'{"token": "t", "expires_in": -5, "issued_at": "9999-12-31T23:59:59Z"}', None),
        (b'{"token": "t", "issued_at": "0001-01-01T00:00:00+23:59"}', None),
    ],
)
def test_a_token_servers_odd_answers(
    registry: FakeRegistry, body: bytes, error: type[LxdockerError] | None
) -> None:
    registry.challenge = f'Bearer realm="http://{registry.host}/token"'
    registry.admits = lambda seen: seen.authorization == "Bearer t"
    registry.routes["/token"] = lambda _seen, _body: Reply(status=200, body=body)
    with registry_client(limits=LIMITS) as client:
        assert outcome(client.open(f"{registry.host}/web:1").head) is error


@pytest.mark.parametrize(
    "realm",
    [
        r"http://169.254.169.254\\.auth.example/", "https://10.0.0.1/", "https://localhost.evil\\@10.0.0.1/",
        "file:///etc/passwd", "https://[::ffff:10.0.0.1]/", "//auth.example/", "", "https://0x0a000001/",
        "https://[::1", "https://auth.example:99999/", "https://\uff41uth.example/",
    ],
)  # fmt: skip
def test_a_token_servers_address_is_judged_before_it_is_asked(
    registry: FakeRegistry, realm: str
) -> None:
    registry.challenge = f'Bearer realm="{realm}"'.encode().decode("latin-1")
    registry.admits = lambda _seen: False
    with registry_client(limits=LIMITS) as client:
        assert outcome(client.open(f"{registry.host}/web:1").head) is UnsafeAddressError


def test_a_registry_of_unknown_place_may_not_name_one_in_this_machine(
    registry: FakeRegistry,
) -> None:
    """Behind a proxy nobody knows where a registry is; the redirect leads past the proxy."""
    inside = f"inside.example:{registry.host.partition(':')[2]}"
    here = {"inside.example": "127.0.0.1"}
    with fake_registry() as proxy:
        proxy.fail("HEAD .*", faulty.redirect(f"http://{inside}/"))
        far = RegistrySettings(host="far.example", insecure=True, proxy=f"http://{proxy.host}")
        with registry_client(far, limits=LIMITS, addresses=here) as client:
            # The proxy of the registry counts for the hosts it names too: nothing is connected to.
            outcome(client.open("far.example/web:1").head)
    assert registry.requests == []


def test_a_layers_address_may_not_be_a_name_of_this_machine(registry: FakeRegistry) -> None:
    port = registry.host.partition(":")[2]
    layer = describe(b"missing", urls=(f"https://inside.example:{port}/layer",))
    with registry_client(limits=LIMITS, addresses={"inside.example": "127.0.0.1"}) as client:
        source = client.open(f"{registry.host}/web:1")
        with pytest.raises(UnsafeAddressError, match=r"inside.example:\d+, which is 127.0.0.1"):
            read_blob(source, layer)


def test_a_server_here_may_not_name_one_in_the_network(registry: FakeRegistry) -> None:
    registry.fail("HEAD .*", faulty.redirect("https://inside.example/"))
    with (
        registry_client(limits=LIMITS, addresses={"inside.example": "10.255.255.1"}) as client,
        pytest.raises(UnsafeAddressError, match=r"which is 10.255.255.1") as caught,
    ):
        client.open(f"{registry.host}/web:1").head()
    assert "name inside.example under registries:" in caught.value.hint


def test_a_kept_connection_is_judged_for_each_request(registry: FakeRegistry) -> None:
    """The user named the host, and is connected to it; somebody else's word for it isn't enough."""
    own = f"own.example:{registry.host.partition(':')[2]}"
    settings = RegistrySettings(host=own, insecure=True)
    addresses = {"own.example": "127.0.0.1"}

    def look_up(name: str, port: int) -> Sequence[tuple[Any, ...]]:
        return resolve(addresses.get(name, name), port)

    transport = Transport(LIMITS, look_up=look_up)
    judged: list[str] = []

    def refuse(address: Address) -> None:
        judged.append(str(address))
        raise UnsafeAddressError("refused")

    url = f"http://{own}/v2/"
    transport.send("GET", url, settings=settings, what="first").close()
    with pytest.raises(UnsafeAddressError, match="refused"):
        transport.send("GET", url, settings=settings, what="second", permit=refuse)
    transport.close()
    assert judged == ["127.0.0.1"]
    assert len(registry.requests) == 1


def test_a_layers_address_by_plain_http_needs_a_word_in_the_settings(
    registry: FakeRegistry,
) -> None:
    layer = describe(b"missing", urls=("http://cdn.example/layer",))
    named = RegistrySettings(host="cdn.example", mirrors=("m.example",))
    for settings in ((), (named,)):
        with registry_client(*settings, limits=LIMITS) as client:
            source = client.open(f"{registry.host}/web:1")
            with pytest.raises(UnsafeAddressError, match="not encrypted") as caught:
                read_blob(source, layer)
        assert "set insecure: true for cdn.example" in caught.value.hint
