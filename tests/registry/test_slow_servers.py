"""A server that is slow, in whatever part of an answer, holds up nothing but its own images."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from lxdocker_lxd.convert.pull import PullTooLongError
from lxdocker_lxd.convert.registry.settings import (
    RegistriesSettings,
    RegistrySettings,
    TransferLimits,
)
from lxdocker_lxd.convert.registry.transport import TooSlowError
from lxdocker_lxd.convert.source import BlobInterruptedError
from lxdocker_lxd.convert.store import Store
from lxdocker_lxd.errors import LxdockerError, NetworkError
from lxdocker_lxd.progress import Event, ImageFinished
from tests.convert.workshop import Events, Workshop, outcome, outcomes
from tests.harness import faulty
from tests.harness.fake_registry import Exchange, FakeRegistry, Reply, fake_registry
from tests.harness.registry_client import RegistryClient, describe, read_blob, registry_client
from tests.harness.tiny_image import TinyImage, tiny_image

CONTENT = os.urandom(300_000)
BLOB = "GET .*/blobs/"
MANIFEST = "GET .*/manifests/"
# A byte each 0.05 s is never quiet for long, and so within every limit for a single read.
TIGHT = TransferLimits(
    document_seconds=0.15, blob_start_seconds=5.0, window_seconds=0.15, least_bytes_per_second=4096
)
"""For servers that never do anything in time."""
ROOMY = replace(TIGHT, document_seconds=1.0, window_seconds=0.6)
"""For servers that do some things in time, on a busy machine too."""
OK = b"HTTP/1.1 200 OK\r\n"
DRIPS = {
    "status line": faulty.drip(b"HTTP/1.1 2"),
    "header": faulty.drip(OK + b"X-Long: "),
    "body": faulty.drip(OK + b"Content-Length: 100000\r\n\r\n{"),
    "body without a length": faulty.drip(OK + b"Connection: close\r\n\r\n{"),
    "chunk's head": faulty.drip(OK + b"Transfer-Encoding: chunked\r\n\r\n1;"),
    "chunk": faulty.drip(OK + b"Transfer-Encoding: chunked\r\n\r\nfffff\r\n"),
    "refusal": faulty.drip(b"HTTP/1.1 500 x\r\nContent-Length: 9999\r\n\r\n"),
    "interim answers": faulty.drip(b"HTTP/1.1 100 Continue\r\nX: "),
}


@pytest.fixture
def client() -> Iterator[RegistryClient]:
    with registry_client(limits=ROOMY) as client:
        yield client


@pytest.fixture
def hasty() -> Iterator[RegistryClient]:
    with registry_client(limits=TIGHT) as client:
        yield client


@pytest.fixture
def image(registry: FakeRegistry) -> TinyImage:
    image = tiny_image({"a": CONTENT})
    registry.push("web", "1", image)
    return image


def test_a_document_that_comes_byte_by_byte_is_given_up(image: TinyImage) -> None:
    def ask(part: str) -> None:
        with fake_registry() as registry, registry_client(limits=TIGHT) as hasty:
            registry.push("web", "1", image)
            registry.fail(MANIFEST, DRIPS[part], times=9)
            with pytest.raises(TooSlowError) as caught:
                hasty.open(f"{registry.host}/web:1").manifest(None)
            reason = f"{registry.host} is too slow: no whole answer within 0.15 s"
            assert reason in caught.value.message, part
            assert caught.value.exit_code == NetworkError.exit_code
            assert len(registry.seen(MANIFEST)) == 2, "tried once more, not five times"
            # Others of this registry's images don't wait for it again and again.
            with pytest.raises(TooSlowError):
                hasty.open(f"{registry.host}/web:1").manifest(None)
            assert len(registry.seen(MANIFEST)) == 3, part

    with ThreadPoolExecutor(len(DRIPS)) as threads:
        list(threads.map(ask, DRIPS))


def test_one_slow_answer_is_asked_for_again(
    registry: FakeRegistry, client: RegistryClient, image: TinyImage
) -> None:
    registry.fail(MANIFEST, DRIPS["body"])
    assert client.open(f"{registry.host}/web:1").manifest(None).raw == image.manifest
    assert "trying again" in client.notices[0]


def test_redirects_share_the_time_of_one_request(
    registry: FakeRegistry, client: RegistryClient, image: TinyImage
) -> None:
    def late(exchange: Exchange, reply: Reply) -> None:
        time.sleep(0.6)
        faulty.redirect(f"http://{registry.host}{{path}}")(exchange, reply)

    registry.fail(MANIFEST, late, times=99)
    with pytest.raises(TooSlowError):
        client.open(f"{registry.host}/web:1").manifest(None)
    assert 2 <= len(registry.seen(MANIFEST)) <= 4, "two hops in each of two attempts"


def test_a_token_server_that_drips_is_given_up(
    registry: FakeRegistry, hasty: RegistryClient, image: TinyImage
) -> None:
    registry.challenge = f'Bearer realm="http://{registry.host}/token"'
    registry.admits = lambda seen: "/token" in seen.path
    registry.routes["/token"] = lambda _seen, _body: Reply(status=200)
    registry.fail("GET /token", DRIPS["body"], times=9)
    with pytest.raises(TooSlowError, match="token of"):
        hasty.open(f"{registry.host}/web:1").head()


@contextlib.contextmanager
def bare_server(greet: Callable[[socket.socket], None]) -> Iterator[str]:
    """Yield the address of a server that does ``greet`` with each connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            greet(connection)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_a_tls_greeting_that_comes_byte_by_byte_is_given_up(hasty: RegistryClient) -> None:
    def greet(connection: socket.socket) -> None:
        connection.sendall(b"\x16\x03\x03\x40\x00")
        while True:
            time.sleep(0.05)
            connection.sendall(b"x")

    with bare_server(greet) as host, pytest.raises(TooSlowError):
        hasty.open(f"{host}/web:1").head()


def test_a_blob_slower_than_the_least_speed_is_a_broken_one(image: TinyImage) -> None:
    drips = {**DRIPS, "body": faulty.drip_body(1000)}

    def ask(part: str) -> None:
        with fake_registry() as registry, registry_client(limits=TIGHT) as hasty:
            registry.push("web", "1", image)
            registry.fail(BLOB, drips[part], times=9)
            with pytest.raises(BlobInterruptedError, match="slower than 4096 bytes/s"):
                read_blob(hasty.open(f"{registry.host}/web:1"), describe(image.layers[0]))
            assert len(registry.seen(BLOB)) == 5, part

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(ask, ("body", "body without a length", "chunk's head", "chunk")))


def test_a_slow_blob_goes_on_where_it_was(
    registry: FakeRegistry, client: RegistryClient, image: TinyImage
) -> None:
    registry.fail(BLOB, faulty.drip_body(100_000))
    source = client.open(f"{registry.host}/web:1")
    assert read_blob(source, describe(image.layers[0])) == image.layers[0]
    first, second = registry.seen(BLOB)
    assert first.range == ""
    assert int(second.range[6:-1]) >= 100_000


def test_a_blob_may_take_any_time_that_its_speed_allows(
    registry: FakeRegistry, client: RegistryClient, image: TinyImage
) -> None:
    """Three windows long, and never below the least speed."""
    registry.fail(BLOB, faulty.drip_body(0, piece_bytes=12_000, pause_seconds=0.05))
    source = client.open(f"{registry.host}/web:1")
    assert read_blob(source, describe(image.layers[0])) == image.layers[0]
    assert len(registry.seen(BLOB)) == 1


def test_what_we_do_between_reads_is_not_the_servers_fault(
    registry: FakeRegistry, client: RegistryClient
) -> None:
    image = tiny_image({"a": os.urandom(8 << 20)})
    registry.push("large", "1", image)
    layer = describe(image.layers[0])
    pieces = []
    with client.open(f"{registry.host}/large:1").blob(layer, 0) as stream:
        pieces.append(stream.read(1000))
        time.sleep(3 * ROOMY.window_seconds)
        while piece := stream.read(1 << 20):
            pieces.append(piece)
    assert b"".join(pieces) == image.layers[0]
    assert len(registry.seen(BLOB)) == 1


def test_connections_serve_further_requests_after_their_deadline(
    registry: FakeRegistry, client: RegistryClient, image: TinyImage
) -> None:
    source = client.open(f"{registry.host}/web:1")
    for _ in range(2):
        assert str(source.head()) == image.digest
        time.sleep(1.2 * ROOMY.document_seconds)
    assert client.notices == []


def test_a_mirror_that_drips_is_passed_over_once_for_all(
    registry: FakeRegistry, image: TinyImage, tmp_path: Path
) -> None:
    with fake_registry() as mirror:
        mirror.push("web", "1", image)
        mirror.fail(".*", DRIPS["header"], times=99)
        mirrored = RegistrySettings(host=registry.host, mirrors=(mirror.host,))
        with registry_client(mirrored, limits=ROOMY) as client:
            for _ in range(3):
                client.pull(f"{registry.host}/web:1", Store(tmp_path / "cache"))
        assert len(mirror.requests) == 1
    assert [one for one in client.notices if "is passed over" in one] == client.notices


def test_a_mirror_whose_blobs_drip_is_passed_over_for_all_others(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    image = tiny_image({"a": CONTENT}, {"b": CONTENT[::-1]}, {"c": CONTENT[1:]})
    registry.push("web", "1", image)
    with fake_registry() as mirror:
        mirror.push("web", "1", image)
        for digest in image.layer_digests:
            mirror.fail(f"{BLOB}{digest}", faulty.drip_body(10), times=99)
        mirrored = RegistrySettings(host=registry.host, mirrors=(mirror.host,))
        with registry_client(mirrored, limits=ROOMY) as client:
            pulled = client.pull(f"{registry.host}/web:1", Store(tmp_path / "cache"), jobs=1)
        asked = [one for one in mirror.seen(BLOB) if one.path.split("/")[-1] in image.layer_digests]
    assert len(asked) == 1
    assert tuple(layer.path.read_bytes() for layer in pulled.layers) == image.layers


# ---- whole runs


def of_registry(workshop: Workshop, name: str, registry: FakeRegistry) -> TinyImage:
    """Let a specification's image come from a registry."""
    image = tiny_image({"bin/app": name.encode(), "content": CONTENT})
    registry.push(name, "1", image)
    workshop.spec(name, f"image: {registry.host}/{name}:1\n")
    return image


def limited(workshop: Workshop, limits: TransferLimits) -> None:
    workshop.options = replace(workshop.options, registries=RegistriesSettings(limits=limits))


class Heard(Events):
    """Events, and whether an image was finished."""

    def __init__(self, image: str) -> None:
        super().__init__()
        self._image = image
        self.finished = threading.Event()

    def emit(self, event: Event, /) -> None:
        super().emit(event)
        if isinstance(event, ImageFinished) and event.image == self._image:
            self.finished.set()


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path / "workshop")


def test_images_are_built_while_other_sources_are_still_being_asked(
    workshop: Workshop, registry: FakeRegistry
) -> None:
    """The slow one answers only after the good one was published."""
    workshop.events = Heard("good")
    workshop.both("good", b"good")
    of_registry(workshop, "slow", registry)

    def late(exchange: Exchange, reply: Reply) -> None:
        good = isinstance(workshop.events, Heard) and workshop.events.finished.wait(20)
        exchange.send(reply if good else Reply(status=418))

    registry.fail("HEAD .*", late, times=9)
    assert outcomes(workshop.run()) == {"good": "built", "slow": "built"}


def test_a_dripping_registry_fails_its_own_image_only(
    workshop: Workshop, registry: FakeRegistry
) -> None:
    workshop.both("good", b"good")
    of_registry(workshop, "slow", registry)
    registry.fail(".*", DRIPS["header"], times=99)
    limited(workshop, TIGHT)
    report = workshop.run()
    assert outcomes(report) == {"good": "built", "slow": "failed"}
    assert isinstance(outcome(report, "slow").error, TooSlowError)


def test_an_image_has_a_deadline_and_the_next_run_goes_on(
    workshop: Workshop, registry: FakeRegistry
) -> None:
    """Fast enough for its least speed, but larger than its time allows."""
    image = tiny_image({"bin/app": b"x", "content": os.urandom(6 << 20)})
    registry.push("large", "1", image)
    workshop.spec("large", f"image: {registry.host}/large:1\n")
    slowly = faulty.drip_body(0, piece_bytes=1 << 18, pause_seconds=0.1)
    registry.fail(f"{BLOB}{image.layer_digests[0]}", slowly)
    limited(workshop, replace(ROOMY, image_seconds=0.6))
    error = outcome(workshop.run(), "large").error
    assert isinstance(error, PullTooLongError)
    assert "what came so far is kept" in error.hint
    limited(workshop, TransferLimits())
    assert outcomes(workshop.run()) == {"large": "built"}
    assert registry.seen(f"{BLOB}{image.layer_digests[0]}")[-1].range.startswith("bytes=")


def test_many_slow_images_leave_places_for_others(
    workshop: Workshop, registry: FakeRegistry
) -> None:
    """More images hang in their downloads than are made at once; the last in line is made."""
    limited(workshop, TransferLimits(turn_seconds=0.2))
    workshop.events = Heard("z-good")
    images = [of_registry(workshop, f"slow-{n}", registry) for n in range(4)]
    workshop.both("z-good", b"good")

    def late(exchange: Exchange, reply: Reply) -> None:
        good = isinstance(workshop.events, Heard) and workshop.events.finished.wait(20)
        exchange.send(reply if good else Reply(status=418))

    for image in images:
        registry.fail(f"{BLOB}{image.layer_digests[0]}", late, times=9)
    assert set(outcomes(workshop.run()).values()) == {"built"}


def test_the_same_bytes_from_a_slow_server_hold_up_nobody(tmp_path: Path) -> None:
    """Two sources have one layer; who gets it from the slower one doesn't keep it from the other."""
    store = Store(tmp_path / "cache", stalled_seconds=0.2)
    content = os.urandom(50_000)
    layer = describe(content)
    begun, free = threading.Event(), threading.Event()

    class Slow:
        def read(self, _size: int = -1, /) -> bytes:
            begun.set()
            free.wait(30)
            return b""

    class Quick:
        left = content

        def read(self, size: int = -1, /) -> bytes:
            piece, self.left = self.left[:size], self.left[size:]
            return piece

    def put(stream: Slow | Quick) -> None:
        with contextlib.suppress(LxdockerError):
            store.put(
                layer, lambda _offset: contextlib.nullcontext(stream), on_bytes=lambda _n: None
            )

    with store.using():
        slow = threading.Thread(target=put, args=(Slow(),))
        slow.start()
        assert begun.wait(10)
        quick = threading.Thread(target=put, args=(Quick(),))
        quick.start()
        quick.join(10)
        waits_for_the_first = quick.is_alive()
        free.set()
        slow.join(10)
        quick.join(10)
    assert not waits_for_the_first
    assert store.path(layer.digest).read_bytes() == content
