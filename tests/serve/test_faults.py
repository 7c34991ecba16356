"""Clients, disks and administrators at their worst, against a server in a process of its own."""

import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.processes import eventually
from tests.serve.running import (
    Background,
    RunningServer,
    many,
    read_all,
    read_until,
    request,
    running,
    seconds_until_closed,
)
from tests.serve.shelf import Shelf

FULL = os.environ.get("LXDOCKER_TEST_FULL") == "1"
MIB = 1 << 20
BIG = os.urandom(MIB) * 24


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "images")


@pytest.fixture
def server(shelf: Shelf, tmp_path: Path) -> Iterator[RunningServer]:
    shelf.publish("web", BIG)
    with running(shelf, tmp_path) as found:
        yield found


def path_of(shelf: Shelf, name: str = "web") -> str:
    product = shelf.source.read().product(name, "amd64")
    assert product is not None
    file = product.newest.file("rootfs")
    assert file is not None
    return f"/{file.path}"


def test_clients_that_say_nothing_are_closed_in_time(server: RunningServer) -> None:
    """Slow headers and idle connections after 5 s; a handshake that never ends after 10 s."""
    slow, idle, silent, kept = server.tls(), server.tls(), server.plain(), server.asked("/healthz")
    began = time.monotonic()

    def drip() -> None:
        with contextlib.suppress(OSError):
            for byte in request("/healthz", "X-Slow: " + "x" * 100):
                slow.sendall(bytes([byte]))
                time.sleep(0.5)

    threading.Thread(target=drip, daemon=True).start()
    read_until(kept, b"ok\n")
    for connection, expected in ((idle, 5), (slow, 5), (kept, 5), (silent, 10)):
        seconds_until_closed(connection)
        assert expected - 0.5 < time.monotonic() - began < expected + 2.5, expected
        connection.close()
    assert server.get("/healthz").body == b"ok\n"


def test_a_thousand_idle_connections_keep_nobody_out(shelf: Shelf, tmp_path: Path) -> None:
    count = 1000 if FULL else 150
    with (
        running(
            shelf, tmp_path, "--connections", str(count * 4 // 5), "--metrics", "local"
        ) as server,
        many(count, server.plain),
    ):
        assert server.get("/healthz").status == 200
        with many(count // 4, server.tls):
            began = time.monotonic()
            for _ in range(5):
                assert server.get("/streams/v1/index.json").status == 200
            assert time.monotonic() - began < 5
            assert server.open_files < count + 50
        assert "evicted" in server.get("/metrics").body.decode()


def test_too_few_descriptors_stop_no_service(shelf: Shelf, tmp_path: Path) -> None:
    """With 100 open files 150 unfinished handshakes starved the stock server for a minute."""
    server = RunningServer(shelf, tmp_path)
    server.prefix = ("prlimit", "--nofile=100:100")
    try:
        server.start()
        with many(150, server.plain):
            assert server.get("/healthz").status == 200
    finally:
        server.stop()


def test_plain_http_on_the_tls_port_is_refused_at_once(server: RunningServer) -> None:
    """LXD tries http first; it must not wait."""
    with server.plain() as connection:
        connection.sendall(request("/"))
        began = time.monotonic()
        assert b"HTTP/1.1 200" not in read_all(connection)
        assert time.monotonic() - began < 1


def test_old_tls_is_refused_and_http_1_1_agreed_upon(server: RunningServer) -> None:
    context = server.context
    context.set_alpn_protocols(["h2", "http/1.1"])
    with context.wrap_socket(server.plain(), server_hostname="127.0.0.1") as connection:
        assert connection.version() == "TLSv1.3"
        assert connection.selected_alpn_protocol() == "http/1.1"
    old = server.context
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with server.plain() as connection, pytest.raises(ssl.SSLError):
        old.wrap_socket(connection, server_hostname="127.0.0.1")


def test_tls_1_2_can_be_asked_for(shelf: Shelf, tmp_path: Path) -> None:
    with running(shelf, tmp_path, "--tls-minimum", "1.2") as server:
        old = server.context
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with old.wrap_socket(server.plain(), server_hostname="127.0.0.1") as connection:
            connection.sendall(request("/healthz"))
            read_until(connection, b"ok\n")


@pytest.mark.parametrize(
    "opening",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
        request(
            "/",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        ),
        b"\x00\x01\x02nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
        request("/", "X-Large: " + "x" * 100_000),
        request("/", *(f"X-Many-{number}: x" for number in range(5000))),
        request("/" + "a" * 50_000),
    ],
)
def test_what_is_no_proper_request_gets_no_page(server: RunningServer, opening: bytes) -> None:
    with server.tls() as connection:
        with contextlib.suppress(OSError):
            connection.sendall(opening)
        answer = read_all(connection)
    status = answer[:12]
    assert status in (b"", b"HTTP/1.1 400", b"HTTP/1.1 403", b"HTTP/1.1 431", b"HTTP/1.1 505"), (
        answer
    )
    assert server.get("/healthz").status == 200
    assert "bug" not in server.log.read_text()
    assert "Traceback" not in server.log.read_text()


def test_an_upgrade_to_http_2_is_ignored(server: RunningServer) -> None:
    """It cost several times the processor time, and brought attacks of its own."""
    upgrade = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    with server.asked("/healthz", *upgrade) as connection:
        assert read_until(connection, b"ok\n").startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "target",
    [
        "/../../../etc/passwd",
        "/images/../../../../etc/passwd",
        "/images/..%2f..%2f..%2fetc%2fpasswd",
        "/images/%2e%2e/catalogue.json",
        "/images//../catalogue.json",
        "/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/..%252f..%252fetc/passwd",
        "/catalogue.json",
    ],
)
def test_no_spelling_leaves_the_site(server: RunningServer, target: str) -> None:
    found = server.get(target)
    assert found.status in (400, 404)
    assert b"root:" not in found.body
    assert b"products" not in found.body


def test_huge_ranges_are_ranges(server: RunningServer) -> None:
    target = path_of(server.shelf)
    huge = "9" * 400
    assert server.get(target, {"Range": f"bytes=0-{huge}"}).body == BIG
    assert server.get(target, {"Range": f"bytes={huge}-"}).status == 416
    assert server.get(target, {"Range": f"bytes=-{huge}"}).body == BIG
    many_parts = "bytes=" + ",".join(f"{number}-{number}" for number in range(0, 2000, 2))
    assert server.get(target, {"Range": many_parts}).status == 200
    assert server.get(target, {"Range": "bytes=-7"}).body == BIG[-7:]


def test_heads_of_large_files_cost_nothing(server: RunningServer) -> None:
    """Each read the whole file."""
    target = path_of(server.shelf)
    before = server.cpu_seconds
    with server.tls() as connection:
        for _ in range(50):
            connection.sendall(request(target).replace(b"GET", b"HEAD"))
            answer = connection.recv(4096)
            assert answer.startswith(b"HTTP/1.1 200")
            assert f"content-length: {len(BIG)}".encode() in answer.lower()
    assert server.cpu_seconds - before < 0.5


def test_a_file_costs_little_processor_time(server: RunningServer) -> None:
    """A gigabyte cost 55 s, and no more than 15 MB came in a second. docs/performance.md has the speed."""
    target = path_of(server.shelf)
    server.get(target)
    before = server.cpu_seconds
    gigabytes = 0.0
    for _ in range(8):
        gigabytes += len(server.get(target).body) / 1e9
    assert (server.cpu_seconds - before) / gigabytes < 10


def test_a_document_that_was_made_before_costs_milliseconds(server: RunningServer) -> None:
    for target in ("/streams/v1/index.json", "/streams/v1/images.json", "/"):
        server.get(target)
        before = server.cpu_seconds
        with server.tls() as connection:
            for _ in range(50):
                connection.sendall(request(target).replace(b"GET", b"HEAD"))
                assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        assert (server.cpu_seconds - before) / 50 < 0.01


def test_answers_on_one_connection_come_at_once(server: RunningServer) -> None:
    """Each took 40 ms: its second half waited until the first was acknowledged."""
    with server.tls() as connection:
        began = time.monotonic()
        for _ in range(20):
            connection.sendall(request("/healthz"))
            read_until(connection, b"ok\n")
        assert time.monotonic() - began < 0.4


def test_requests_may_come_before_answers_are_taken(server: RunningServer) -> None:
    with server.tls() as connection:
        connection.sendall(request("/healthz") * 20 + request("/readyz", "Connection: close"))
        answer = read_all(connection)
    assert answer.count(b"HTTP/1.1 200") == 21
    assert answer.endswith(b"ready\n")


def test_bodies_nobody_wants_end_with_405(server: RunningServer) -> None:
    with server.tls() as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n")
        with contextlib.suppress(OSError):
            for _ in range(20):
                connection.sendall(b"x" * 65536)
        assert b"HTTP/1.1 405" in connection.recv(4096)
    assert server.get("/healthz").status == 200
    assert server.get("/", {"Content-Length": "5"}, method="PUT").status == 405


def test_a_download_that_is_endless_in_its_request_body_still_ends(server: RunningServer) -> None:
    """A body sent beside a long answer is thrown away as it comes, and fills no queue."""
    target = path_of(server.shelf)
    with server.tls() as connection:
        head = request(target, "Transfer-Encoding: chunked", "Connection: close")
        connection.sendall(head)

        def feed() -> None:
            with contextlib.suppress(OSError, ValueError):
                while True:
                    connection.sendall(b"1000\r\n" + b"x" * 4096 + b"\r\n")
                    time.sleep(0.001)

        threading.Thread(target=feed, daemon=True).start()
        answer = read_all(connection)
    assert len(answer) > len(BIG) // 2
    eventually(lambda: server.open_files < 30, timeout_seconds=10, what="the connection to end")


def test_stalled_readers_cost_little_and_go(shelf: Shelf, tmp_path: Path) -> None:
    count = 100 if FULL else 25
    shelf.publish("web", BIG)
    target = path_of(shelf)
    with running(shelf, tmp_path, "--stall-timeout", "3") as server:
        server.get(target)
        before_kib, files = server.resident_kib, server.open_files
        with many(count, lambda: server.asked(target, receive_bytes=8192)):
            time.sleep(1)
            worst = 0.0
            for _ in range(10):
                began = time.monotonic()
                assert server.get("/streams/v1/index.json").status == 200
                worst = max(worst, time.monotonic() - began)
            grown_kib = server.resident_kib - before_kib
            assert grown_kib < 700 * count + 4096, grown_kib
            assert worst < 0.5
            eventually(
                lambda: server.open_files <= files + 2,
                timeout_seconds=12,
                what="stalled ones to go",
            )
            assert server.log.read_text().count(" stalled ") == count
        # What was taken is given back: the next ones cost nothing more.
        after_kib = server.resident_kib
        with many(count, lambda: server.asked(target, receive_bytes=8192)):
            time.sleep(1)
            assert server.resident_kib - after_kib < 700 * count + 4096


def test_too_many_downloads_are_asked_to_come_back(shelf: Shelf, tmp_path: Path) -> None:
    shelf.publish("web", BIG)
    target = path_of(shelf)
    with (
        running(shelf, tmp_path, "--downloads", "3", "--metrics", "local") as server,
        many(3, lambda: server.asked(target, receive_bytes=8192)) as readers,
    ):
        eventually(
            lambda: b"downloads 3" in server.get("/metrics").body, timeout_seconds=5, what="three"
        )
        found = server.get(target)
        assert (found.status, found.headers["retry-after"]) == (503, "30")
        readers[0].close()
        eventually(lambda: server.get(target).status == 200, timeout_seconds=10, what="a place")


def slowly(connection: socket.socket, bytes_a_second: int, *, chunk: int = 16384) -> bytes:
    """Take an answer at a rate."""
    found = b""
    while block := connection.recv(chunk):
        found += block
        time.sleep(len(block) / bytes_a_second)
    return found


def test_a_slow_client_gets_everything(shelf: Shelf, tmp_path: Path) -> None:
    """Whole responses were cut after 60 s, and the end of a closing connection by asyncio."""
    content = os.urandom(MIB)
    shelf.publish("web", content)
    with running(shelf, tmp_path, "--stall-timeout", "2") as server:
        connection = server.asked(path_of(shelf), "Connection: close", receive_bytes=4096)
        with connection:
            answer = slowly(connection, len(content) // 5)
        assert answer.endswith(content)
        assert "complete" in server.log.read_text()


@pytest.mark.timeout(200)
def test_a_long_download_is_whole(shelf: Shelf, tmp_path: Path) -> None:
    """Every one was cut after 60 s, and nothing was logged."""
    seconds = 70 if FULL else 2
    content = os.urandom(MIB) * 15
    shelf.publish("web", content)
    with running(shelf, tmp_path) as server:
        began = time.monotonic()
        with server.asked(path_of(shelf), "Connection: close", receive_bytes=65536) as connection:
            answer = slowly(connection, len(content) // seconds, chunk=65536)
        assert time.monotonic() - began > seconds * 0.9
        assert hashlib.sha256(answer[-len(content) :]).digest() == hashlib.sha256(content).digest()


def test_a_killed_server_comes_back_and_the_download_goes_on(
    server: RunningServer,
) -> None:
    target = path_of(server.shelf)
    with server.asked(target, receive_bytes=8192) as connection:
        head, _, got = connection.recv(65536).partition(b"\r\n\r\n")
        etag = next(
            line.split(b" ", 1)[1]
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"etag:")
        )
        while len(got) < 3 * MIB:
            got += connection.recv(65536)
        server.signal(signal.SIGKILL)
        server.wait()
        got += read_all(connection)
    assert len(got) < len(BIG)
    server.start()
    rest = server.get(target, {"Range": f"bytes={len(got)}-", "If-Range": etag.decode()})
    assert rest.status == 206
    assert got + rest.body == BIG


def served_certificate(server: RunningServer) -> bytes:
    with server.tls() as connection:
        return connection.getpeercert(binary_form=True) or b""


def test_a_certificate_is_replaced_under_a_download(server: RunningServer) -> None:
    first = served_certificate(server)
    with server.asked(path_of(server.shelf), "Connection: close", receive_bytes=8192) as connection:
        got = connection.recv(65536)
        server.new_certificate()
        server.signal(signal.SIGHUP)
        eventually(
            lambda: served_certificate(server) != first, timeout_seconds=3, what="the new one"
        )
        got += read_all(connection)
    assert got.endswith(BIG)
    # Without a signal it is found too; a bad one changes nothing and is told once.
    second = served_certificate(server)
    server.new_certificate()
    eventually(lambda: served_certificate(server) != second, timeout_seconds=8, what="the third")
    third = served_certificate(server)
    server.cert.write_text("nonsense")
    eventually(
        lambda: "the old one serves on" in server.log.read_text(), timeout_seconds=8, what="it"
    )
    time.sleep(3.5)
    assert served_certificate(server) == third
    assert server.log.read_text().count("the old one serves on") == 1


def test_the_catalogue_changes_under_clients_and_none_sees_it(shelf: Shelf, tmp_path: Path) -> None:
    """Clients list and fetch while versions come and go: no error, no wrong hash."""
    rounds = 100 if FULL else 8
    shelf.publish("web", b"first" * 1000)
    with running(shelf, tmp_path) as server:

        def list_and_fetch() -> None:
            listed = json.loads(server.get("/streams/v1/images.json").body)
            index = json.loads(server.get("/streams/v1/index.json").body)
            assert index["index"]["images"]["products"]
            for product in listed["products"].values():
                newest = product["versions"][max(product["versions"])]
                for item in newest["items"].values():
                    found = server.get(f"/{item['path']}")
                    assert found.status == 200, (found.status, item["path"])
                    assert hashlib.sha256(found.body).hexdigest() == item["sha256"]
                    assert len(found.body) == item["size"]

        clients = [Background(list_and_fetch) for _ in range(4)]
        for number in range(rounds):
            shelf.publish("web", f"content {number}".encode() * 5000, keep=1)
            shelf.publish(f"other{number % 3}", os.urandom(100_000), keep=1)
            time.sleep(0.1)
        eventually(
            lambda: all(client.count or client.error for client in clients),
            timeout_seconds=30,
            what="every client to have fetched everything",
        )
        for client in clients:
            client.end()
        assert not re.search(r" 5\d\d \d+ bytes", server.log.read_text())


# ---- the end


def test_an_idle_connection_holds_no_stop_up(server: RunningServer) -> None:
    """An idle TLS client cost 30 s."""
    with server.asked("/healthz") as connection:
        read_until(connection, b"ok\n")
        server.signal(signal.SIGTERM)
        assert server.wait() < 2
    assert server.process.returncode == 0


def test_a_stop_lets_downloads_finish_and_takes_no_new_ones(server: RunningServer) -> None:
    with server.asked(path_of(server.shelf), receive_bytes=8192) as connection:
        got = connection.recv(65536)
        server.signal(signal.SIGTERM)
        eventually(
            lambda: "stopping; 1 downloads" in server.log.read_text(), timeout_seconds=5, what="it"
        )
        with socket.socket() as late, pytest.raises(ConnectionRefusedError):
            late.connect(("127.0.0.1", server.port))
        got += read_all(connection)
    assert got.endswith(BIG)
    assert server.wait() < 5
    assert server.process.returncode == 0
    assert "complete" in server.log.read_text()


def test_a_stop_does_not_wait_for_ever_for_a_client_that_takes_nothing(
    shelf: Shelf, tmp_path: Path
) -> None:
    """It did, on Python 3.12 and later."""
    shelf.publish("web", BIG)
    with (
        running(shelf, tmp_path, "--stop-timeout", "2") as server,
        server.asked(path_of(shelf), receive_bytes=8192),
    ):
        time.sleep(0.3)
        server.signal(signal.SIGTERM)
        assert 1.5 < server.wait() < 4.5
        assert "1 answers were cut" in server.log.read_text()


def test_a_second_signal_ends_at_once(server: RunningServer) -> None:
    with server.asked(path_of(server.shelf), receive_bytes=8192):
        time.sleep(0.3)
        server.signal(signal.SIGTERM)
        time.sleep(0.3)
        server.signal(signal.SIGINT)
        assert server.wait() < 3


def test_signals_at_the_very_end_make_no_one_look_killed(server: RunningServer) -> None:
    """On Python 3.12 the interpreter took long enough to end for a second one to kill it."""
    while server.process.poll() is None:
        server.signal(signal.SIGTERM)
        time.sleep(0.002)
    server.wait()
    assert server.process.returncode == 0


def test_requests_that_were_on_their_way_are_answered_at_the_stop(server: RunningServer) -> None:
    with many(20, server.plain) as connections:
        # A handshake costs this side, too, more of the server's last seconds than a request.
        secure = [
            server.context.wrap_socket(connection, server_hostname="127.0.0.1")
            for connection in connections
        ]
        server.signal(signal.SIGTERM)
        answered = 0
        for connection in secure:
            with connection, contextlib.suppress(OSError):
                connection.sendall(request("/healthz", "Connection: close"))
                answered += read_all(connection).endswith(b"ok\n")
        assert answered > 10
        server.wait()
