"""What goes wrong on the way is mended, at the very byte where it broke, or said clearly."""

import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from lxdocker_lxd.convert.registry.refusal import (
    BusyError,
    RateLimitedError,
    UnexpectedAnswerError,
)
from lxdocker_lxd.convert.registry.settings import RegistrySettings
from lxdocker_lxd.convert.registry.transport import AnswerTooLongError, UnreachableError
from lxdocker_lxd.convert.source import BlobInterruptedError
from lxdocker_lxd.convert.store import Store
from lxdocker_lxd.digest import DigestMismatchError
from lxdocker_lxd.errors import NotFoundError
from tests.harness import faulty
from tests.harness.fake_registry import Exchange, FakeRegistry, Reply, Seen, fake_registry
from tests.harness.registry import real_registry
from tests.harness.registry_client import (
    NOW,
    RegistryClient,
    describe,
    read_blob,
    registry_client,
)
from tests.harness.tiny_image import TinyImage, tiny_image, tiny_index

CONTENT = os.urandom(900_000)
IMAGE = tiny_image({"a": CONTENT})
BLOB = "GET .*/blobs/"
MANIFEST = "GET .*/manifests/"


@pytest.fixture
def client() -> Iterator[RegistryClient]:
    with registry_client(read_timeout_seconds=0.5) as client:
        yield client


@pytest.fixture
def image(registry: FakeRegistry) -> TinyImage:
    registry.push("web", "1", IMAGE)
    return IMAGE


def layer_requests(registry: FakeRegistry, image: TinyImage) -> list[str]:
    """The Range headers of the requests for the layer, in order."""
    return [one.range for one in registry.seen(f"{BLOB}{image.layer_digests[0]}")]


def test_a_run_meets_every_fault_and_ends_right(
    registry: FakeRegistry, client: RegistryClient, tmp_path: Path
) -> None:
    image = tiny_image({"a": CONTENT}, {"b": CONTENT[::-1]})
    index = tiny_index({"linux/amd64": image})
    registry.push("web", "1", index)
    tokens = {"valid": "t1"}

    def token(_seen: Seen, _body: bytes) -> Reply:
        return Reply(status=200, body=f'{{"token":"{tokens["valid"]}"}}'.encode())

    registry.routes["/token"] = token
    registry.challenge = f'Bearer realm="http://{registry.host}/token",service="s"'
    registry.admits = lambda seen: seen.authorization == f"Bearer {tokens['valid']}"
    first, second = (f"{BLOB}{digest}" for digest in image.layer_digests)

    def expire(exchange: object, _reply: Reply) -> None:
        """The token runs out while the registry is asked."""
        tokens["valid"] = "t2"
        faulty.status(401, WWW_Authenticate=registry.challenge)(exchange, _reply)  # type: ignore[arg-type]  # an Exchange

    with fake_registry() as network:
        network.push("web", "1", image)
        registry.fail(MANIFEST, faulty.status(429, retry_after="7"))
        registry.fail(MANIFEST, faulty.status(500))
        registry.fail(MANIFEST, faulty.spoil())
        registry.fail(first, faulty.cut(300_001))
        registry.fail(first, faulty.cut(200_000, reset=True))
        registry.fail(first, faulty.status(503))
        registry.fail(second, expire)
        registry.fail(second, faulty.spoil(5))
        registry.fail(second, faulty.redirect(f"http://{network.host}{{path}}"))
        pulled = client.pull(f"{registry.host}/web:1", Store(tmp_path / "cache"), jobs=1)
        leaked = [one.authorization for one in network.requests if one.authorization]
    assert tuple(layer.path.read_bytes() for layer in pulled.layers) == image.layers
    assert str(pulled.top_digest) == index.digest
    assert leaked == []
    assert [one.range for one in registry.seen(first)] == [
        "",
        "bytes=300001-",
        "bytes=500001-",
        "bytes=500001-",
    ]
    assert 7 in client.slept


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("after_bytes", [0, 1, 65_536, 300_007, 899_999])
def test_a_broken_download_goes_on_at_the_byte_of_the_break(
    registry: FakeRegistry,
    client: RegistryClient,
    image: TinyImage,
    after_bytes: int,
    *,
    reset: bool,
) -> None:
    registry.fail(BLOB, faulty.cut(after_bytes, reset=reset))
    source = client.open(f"{registry.host}/web:1")
    assert read_blob(source, describe(image.layers[0])) == image.layers[0]
    again = f"bytes={after_bytes}-" if after_bytes else ""
    assert layer_requests(registry, image) == ["", again]
    assert f"broke off at byte {after_bytes} of {len(image.layers[0])}" in client.notices[0]


def test_the_store_keeps_what_came_and_the_next_run_goes_on_there(
    registry: FakeRegistry, client: RegistryClient, image: TinyImage, tmp_path: Path
) -> None:
    store = Store(tmp_path / "cache")
    registry.fail(BLOB + image.layer_digests[0], faulty.cut(400_000))
    registry.fail(BLOB + image.layer_digests[0], faulty.status(500), times=5)
    with pytest.raises(BlobInterruptedError) as caught:
        client.pull(f"{registry.host}/web:1", store)
    assert "at byte 400000 of" in caught.value.message
    assert "run it again" in caught.value.hint
    assert caught.value.exit_code == 5
    pulled = client.pull(f"{registry.host}/web:1", store)
    assert pulled.layers[0].path.read_bytes() == image.layers[0]
    assert layer_requests(registry, image)[-1] == "bytes=400000-"


def test_progress_starts_the_counting_of_breaks_anew(
    registry: FakeRegistry, client: RegistryClient
) -> None:
    image = tiny_image({"a": os.urandom(9 << 20)})
    registry.push("web", "1", image)
    registry.fail(BLOB, faulty.cut(1 << 20), times=8)
    source = client.open(f"{registry.host}/web:1")
    assert read_blob(source, describe(image.layers[0])) == image.layers[0]
    assert client.slept == [1.0] * 8


def test_breaks_without_progress_are_given_up(
    registry: FakeRegistry, client: RegistryClient, image: TinyImage
) -> None:
    registry.fail(BLOB, faulty.cut(10), times=99)
    source = client.open(f"{registry.host}/web:1")
    with pytest.raises(BlobInterruptedError, match="at byte 50 of"):
        read_blob(source, describe(image.layers[0]))
    assert client.slept == [1.0, 2.0, 4.0, 8.0]


def test_a_server_that_stops_sending_is_asked_again(
    registry: FakeRegistry, client: RegistryClient, image: TinyImage
) -> None:
    registry.fail(BLOB, faulty.stall(5_000, seconds=1.0))
    source = client.open(f"{registry.host}/web:1")
    assert read_blob(source, describe(image.layers[0])) == image.layers[0]
    assert layer_requests(registry, image) == ["", "bytes=5000-"]
    assert "it stopped sending" in client.notices[0]


def test_answers_to_a_range_that_are_no_range(
    registry: FakeRegistry, client: RegistryClient, image: TinyImage
) -> None:
    (layer,) = image.layers
    last = len(layer) - 1
    wrong = [
        faulty.whole_instead_of_range(layer),
        faulty.status(416),
        faulty.content_range(f"bytes 999-{last}/{len(layer)}"),
        faulty.content_range(f"bytes 1000-{last - 1}/{len(layer)}"),
        faulty.content_range(f"bytes 1000-{last}/{len(layer) + 1}"),
        faulty.content_range("bytes"),
        faulty.without_headers("Content-Range"),
    ]
    source = client.open(f"{registry.host}/web:1")
    for fault in wrong:
        registry.fail(BLOB, fault)
        assert read_blob(source, describe(layer), 1000) == layer[1000:]
    assert not client.slept


def test_a_size_without_announcement_is_read_and_one_byte_too_many_is_seen(
    registry: FakeRegistry, client: RegistryClient, image: TinyImage, tmp_path: Path
) -> None:
    (layer,) = image.layers
    registry.fail(BLOB, faulty.unannounced())
    registry.fail(BLOB, faulty.unannounced(layer + b"more"), times=2)
    source = client.open(f"{registry.host}/web:1")
    assert read_blob(source, describe(layer)) == layer
    store = Store(tmp_path / "cache")
    with store.using(), pytest.raises(DigestMismatchError, match="got more"):
        store.put(
            describe(layer),
            lambda offset: source.blob(describe(layer), offset),
            on_bytes=lambda _count: None,
        )


def test_another_announced_size_ends_the_transfer_at_once(
    registry: FakeRegistry, client: RegistryClient, image: TinyImage
) -> None:
    (layer,) = image.layers
    for size_bytes in (len(layer) - 1, len(layer) + 1):
        registry.fail(BLOB, faulty.announce(size_bytes))
        source = client.open(f"{registry.host}/web:1")
        with pytest.raises(DigestMismatchError, match=f"announces {size_bytes}"):
            read_blob(source, describe(layer))


def test_a_wrong_digest_is_fetched_once_more_then_refused(
    registry: FakeRegistry, client: RegistryClient, image: TinyImage, tmp_path: Path
) -> None:
    registry.fail(BLOB + image.layer_digests[0], faulty.spoil(), times=99)
    store = Store(tmp_path / "cache")
    with pytest.raises(DigestMismatchError) as caught:
        client.pull(f"{registry.host}/web:1", store)
    assert image.layer_digests[0] in caught.value.message
    assert caught.value.exit_code == 6
    assert layer_requests(registry, image) == ["", ""]
    assert not store.path(describe(image.layers[0]).digest).exists()


def test_a_manifest_with_a_wrong_digest_is_refused(
    registry: FakeRegistry, client: RegistryClient, image: TinyImage
) -> None:
    registry.fail(MANIFEST, faulty.spoil(), times=2)
    source = client.open(f"{registry.host}/web@{image.digest}")
    with pytest.raises(DigestMismatchError, match="sends other bytes"):
        source.manifest(None)
    assert source.manifest(None).raw == image.manifest


def test_retry_after_in_seconds_and_as_a_date(
    registry: FakeRegistry, client: RegistryClient, image: TinyImage
) -> None:
    date = format_datetime(NOW + timedelta(seconds=11), usegmt=True)
    past = format_datetime(NOW - timedelta(seconds=11), usegmt=True)
    registry.fail(MANIFEST, faulty.status(429, retry_after="3"))
    registry.fail(MANIFEST, faulty.status(503, retry_after=date))
    registry.fail(MANIFEST, faulty.status(503, retry_after=past))
    registry.fail(MANIFEST, faulty.status(503, retry_after="soon"))
    assert client.open(f"{registry.host}/web:1").manifest(None).raw == image.manifest
    assert client.slept == [3, 11, 4, 8]
    assert f"{registry.host} answers 429; it asks to come back in 3 s" in client.notices[0]


def test_a_long_retry_after_is_told_and_not_waited_for(
    registry: FakeRegistry, client: RegistryClient, image: TinyImage
) -> None:
    body = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"pull limit"}]}'
    registry.fail(MANIFEST, faulty.status(429, body, retry_after="1800"))
    with pytest.raises(BusyError) as caught:
        client.open(f"{registry.host}/web:1").manifest(None)
    assert "429 TOOMANYREQUESTS: pull limit" in caught.value.message
    assert "try again in 1800 s" in caught.value.hint
    assert client.slept == []
    assert caught.value.exit_code == 5


def test_a_used_up_allowance_is_not_waited_for(
    registry: FakeRegistry, client: RegistryClient, image: TinyImage
) -> None:
    limited = faulty.status(
        429, ratelimit_limit="100;w=21600", ratelimit_remaining="0;w=21600", retry_after="42"
    )
    registry.fail(MANIFEST, limited)
    with pytest.raises(RateLimitedError) as caught:
        client.open(f"{registry.host}/web:1").manifest(None)
    assert "the allowance of 100 pulls in 360 minutes" in caught.value.message
    assert "try again in 42 s" in caught.value.hint
    assert "docker login" in caught.value.hint


@pytest.mark.parametrize("code", [408, 429, 499, 500, 502, 503, 504, 522])
def test_statuses_that_pass_are_waited_out_with_growing_patience(
    registry: FakeRegistry, client: RegistryClient, image: TinyImage, code: int
) -> None:
    registry.fail(MANIFEST, faulty.status(code), times=4)
    assert client.open(f"{registry.host}/web:1").manifest(None).raw == image.manifest
    assert client.slept == [1, 2, 4, 8]


def test_a_registry_that_keeps_failing_is_given_up_after_five_attempts(
    registry: FakeRegistry, client: RegistryClient, image: TinyImage
) -> None:
    registry.fail(MANIFEST, faulty.status(500, b"<html>oops</html>"), times=9)
    with pytest.raises(BusyError) as caught:
        client.open(f"{registry.host}/web:1").manifest(None)
    assert caught.value.message == f"{registry.host}/web:1: {registry.host} answers 500"
    assert len(registry.seen(MANIFEST)) == 5


def test_other_statuses_are_not_repeated(
    registry: FakeRegistry, client: RegistryClient, image: TinyImage
) -> None:
    registry.fail(MANIFEST, faulty.status(418))
    with pytest.raises(UnexpectedAnswerError, match="answers 418"):
        client.open(f"{registry.host}/web:1").manifest(None)
    registry.fail(MANIFEST, faulty.status(204))
    with pytest.raises(UnexpectedAnswerError, match="answers 204"):
        client.open(f"{registry.host}/web:1").manifest(None)
    assert not client.slept


def test_connections_closed_without_an_answer_are_repeated(
    registry: FakeRegistry, client: RegistryClient, image: TinyImage
) -> None:
    registry.fail(MANIFEST, faulty.hang_up(), times=2)
    source = client.open(f"{registry.host}/web:1")
    source.head()
    assert source.manifest(None).raw == image.manifest
    assert client.slept == [1, 2]


def test_a_manifest_that_breaks_off_is_read_again(
    registry: FakeRegistry, client: RegistryClient, image: TinyImage
) -> None:
    registry.fail(MANIFEST, faulty.cut(20))
    assert client.open(f"{registry.host}/web:1").manifest(None).raw == image.manifest


def test_nobody_at_home_is_said_once_and_soon(client: RegistryClient) -> None:
    with fake_registry() as gone:
        host = gone.host
    with pytest.raises(UnreachableError) as caught:
        client.open(f"{host}/web:1").head()
    assert caught.value.message == f"{host}/web:1: {host} can't be reached: Connection refused"
    assert caught.value.exit_code == 5
    assert len(client.slept) == 2
    with pytest.raises(UnreachableError):
        client.open(f"{host}/other:1").head()
    assert len(client.slept) == 2


def test_an_unknown_host_name_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_arguments: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    # Without a name server in reach of the tests this is the only way to hear its answer.
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    direct = RegistrySettings(host="nowhere.invalid", proxy="")
    with registry_client(direct) as client, pytest.raises(UnreachableError) as caught:
        client.open("nowhere.invalid/web:1").head()
    assert "Name or service not known" in caught.value.message
    assert "check the spelling of nowhere.invalid" in caught.value.hint


def test_a_manifest_over_the_limit_is_not_read(
    registry: FakeRegistry, client: RegistryClient, image: TinyImage
) -> None:
    huge = b" " * ((4 << 20) + 1)
    registry.fail(MANIFEST, faulty.announce(len(huge)))
    registry.fail(MANIFEST, faulty.unannounced(huge))
    for _ in range(2):
        with pytest.raises(AnswerTooLongError, match="more than 4194304 bytes"):
            client.open(f"{registry.host}/web:1").manifest(None)


def test_head_without_a_digest_falls_back_to_get_and_its_answer_is_used(
    registry: FakeRegistry, client: RegistryClient, image: TinyImage
) -> None:
    for fault in (
        faulty.without_headers("Docker-Content-Digest"),
        faulty.with_headers(Docker_Content_Digest="sha256:XYZ"),
        faulty.status(405),
        faulty.status(404),
    ):
        registry.fail("HEAD .*", fault)
        source = client.open(f"{registry.host}/web:1")
        before = len(registry.seen(MANIFEST))
        assert str(source.head()) == image.digest
        assert source.manifest(None).raw == image.manifest
        assert len(registry.seen(MANIFEST)) == before + 1


def test_a_fresh_image_costs_one_head_and_no_get(
    registry: FakeRegistry, client: RegistryClient, image: TinyImage
) -> None:
    for _ in range(3):
        assert str(client.open(f"{registry.host}/web:1").head()) == image.digest
    assert [one.method for one in registry.requests] == ["HEAD"] * 3


def test_warnings_and_few_pulls_left_are_told_once(
    registry: FakeRegistry, client: RegistryClient, image: TinyImage
) -> None:
    registry.extra_headers = {
        "Warning": '299 - "this image is deprecated"',
        "ratelimit-remaining": "3;w=21600",
    }
    for _ in range(3):
        client.open(f"{registry.host}/web:1").head()
    assert client.notices == [
        f"{registry.host} says: this image is deprecated",
        f"{registry.host}: fewer than 10 pulls are left for now",
    ]


def test_encoded_transfer_is_neither_asked_for_nor_undone(
    registry: FakeRegistry, client: RegistryClient, image: TinyImage
) -> None:
    registry.fail(BLOB, faulty.with_headers(Content_Encoding="gzip"))
    source = client.open(f"{registry.host}/web:1")
    assert read_blob(source, describe(image.layers[0])) == image.layers[0]
    assert {one.headers["accept-encoding"] for one in registry.requests} == {"identity"}


def test_a_missing_blob_is_not_found(
    registry: FakeRegistry, client: RegistryClient, image: TinyImage, tmp_path: Path
) -> None:
    registry.forget_blob(image.layer_digests[0])
    with pytest.raises(NotFoundError, match="BLOB_UNKNOWN"):
        client.pull(f"{registry.host}/web:1", Store(tmp_path / "cache"))


def test_a_break_while_the_held_part_is_passed_over_is_mended(
    registry: FakeRegistry, client: RegistryClient, image: TinyImage
) -> None:
    (layer,) = image.layers
    for broken in (faulty.cut(700), faulty.cut(0), faulty.cut(700, reset=True)):
        # The range is refused, and the whole blob breaks before the byte that is missing.
        registry.fail(BLOB, faulty.status(416))
        registry.fail(BLOB, broken)
        source = client.open(f"{registry.host}/web:1")
        assert read_blob(source, describe(layer), 1000) == layer[1000:]


def test_a_break_after_the_last_byte_is_none(
    registry: FakeRegistry, client: RegistryClient, image: TinyImage
) -> None:
    (layer,) = image.layers

    def chunks_without_end(exchange: Exchange, reply: Reply) -> None:
        exchange.send_response(200)
        exchange.send_header("Transfer-Encoding", "chunked")
        exchange.end_headers()
        exchange.wfile.write(b"%x\r\n%s\r\n" % (len(reply.body), reply.body))
        exchange.close_connection = True

    registry.fail(BLOB, chunks_without_end)
    source = client.open(f"{registry.host}/web:1")
    assert read_blob(source, describe(layer)) == layer
    assert client.slept == []


def test_chunks_that_end_too_early_are_a_break(
    registry: FakeRegistry, client: RegistryClient, image: TinyImage
) -> None:
    (layer,) = image.layers
    registry.fail(BLOB, faulty.unannounced(layer[:5000]))
    source = client.open(f"{registry.host}/web:1")
    assert read_blob(source, describe(layer)) == layer
    assert layer_requests(registry, image) == ["", "bytes=5000-"]


def test_a_part_nobody_asked_for_is_refused(
    registry: FakeRegistry, client: RegistryClient, image: TinyImage
) -> None:
    registry.fail(BLOB, faulty.status(206, b"x"))
    source = client.open(f"{registry.host}/web:1")
    with pytest.raises(UnexpectedAnswerError, match="answers 206"):
        read_blob(source, describe(image.layers[0]))


def test_a_layer_of_no_bytes_needs_no_request(
    registry: FakeRegistry, client: RegistryClient
) -> None:
    assert read_blob(client.open(f"{registry.host}/web:1"), describe(b"")) == b""
    assert registry.requests == []


def test_many_threads_share_few_connections(
    registry: FakeRegistry, client: RegistryClient, image: TinyImage
) -> None:
    source = client.open(f"{registry.host}/web:1")
    layer = describe(image.layers[0])
    with ThreadPoolExecutor(8) as executor:
        contents = list(executor.map(lambda _n: read_blob(source, layer), range(24)))
    assert set(contents) == set(image.layers)


@pytest.mark.registry
def test_a_real_registry_behind_a_proxy_that_resets_connections(tmp_path: Path) -> None:
    image = tiny_image({"a": os.urandom(3 << 20)}, {"b": b"y" * 100})
    layout = image.write_layout(tmp_path / "layout")
    limits_bytes = [1_000_000, 700_000, 5_000]
    with (
        real_registry(tmp_path / "registry") as real,
        faulty.breaking_proxy(real.host, limits_bytes) as host,
        registry_client() as client,
    ):
        real.push_layout(layout, "latest", "web")
        pulled = client.pull(f"{host}/web", Store(tmp_path / "cache"), jobs=1)
        asked = [
            line for line in real.log() if f'"GET /v2/web/blobs/{image.layer_digests[0]}' in line
        ]
    assert tuple(layer.path.read_bytes() for layer in pulled.layers) == image.layers
    assert limits_bytes == []
    assert len(asked) == 4
    assert [notice for notice in client.notices if "broke off at byte 9" in notice]
