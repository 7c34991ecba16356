"""Requests as no good client makes them, over TLS: every one gets an answer or an end, and soon."""

import contextlib
import hashlib
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.processes import eventually, run
from tests.serve.running import (
    RunningServer,
    read_all,
    read_until,
    request,
    running,
    seconds_until_closed,
)
from tests.serve.shelf import Shelf

ROOTFS = os.urandom(1 << 20)
CLOSE = "Connection: close"
TARGETS = (
    "/",
    "/?q=web",
    "/streams/v1/index.json",
    "/streams/v1/images.json",
    "/lxe/docker.io/streams/v1/index.json",
    "/meta/1.0/index-system",
    "/1.0/index.json",
    "/feed.atom",
    "/healthz",
    "/readyz",
    "/nothing",
    "/images",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    place = tmp_path_factory.mktemp("odd")
    shelf = Shelf(place / "images")
    shelf.publish("web", ROOTFS)
    with running(shelf, place) as found:
        yield found
    assert "bug" not in found.log.read_text()
    assert "Traceback" not in found.log.read_text()


def file_path(server: RunningServer) -> str:
    return f"/{server.shelf.source.read().products[0].newest.files[1].path}"


def answered(server: RunningServer, data: bytes) -> tuple[int, bytes]:
    """Status and everything that comes until the server closes."""
    with server.tls() as connection:
        connection.sendall(data)
        found = read_all(connection)
    return int(found[9:12]), found


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("images.example", 200),
        ("images.example:8443", 200),
        ("[2001:db8::7]:8443", 200),
        ("192.0.2.7", 200),
        ("", 200),
        ("xn--bcher-kva.example:", 200),
        ("a b", 400),
        ("a/b", 400),
        ("someone@host", 400),
        ("[::1", 400),
        ("host:port", 400),
        ("h\u00e4", 400),
        ("<script>", 400),
    ],
)
def test_a_host_that_is_none_is_refused(server: RunningServer, host: str, status: int) -> None:
    """RFC 9112 3.2; the stock server took anything."""
    data = f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n{CLOSE}\r\n\r\n".encode()
    assert answered(server, data)[0] == status


def test_a_length_that_can_be_read_in_two_ways_is_refused(server: RunningServer) -> None:
    """What one proxy takes for a body is a request to the next: so ends the connection."""
    twofold = request("/healthz", "Transfer-Encoding: chunked", "Content-Length: 3")
    status, found = answered(server, twofold + b"0\r\n\r\n" + request("/readyz", CLOSE))
    assert status == 400
    assert found.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request("/healthz", "Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n", 501),
        (request("/healthz", "Content-Length: -5"), 400),
        (request("/healthz", "Name : value"), 400),
        (b"GET  /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /healthz\r\n\r\n", 400),
        (request("healthz", CLOSE), 400),
        (request("*", CLOSE), 400),
        (request("/%00", CLOSE), 400),
        (request("/images/%00", CLOSE), 400),
        (request("/streams/v1/index.json%00.html", CLOSE), 400),
        # A line end in a path matched no route, and was 404.
        (request("/%0d%0aX-Injected:%20yes", CLOSE), 400),
    ],
)
def test_what_can_not_be_read_is_refused_and_ends(
    server: RunningServer, data: bytes, status: int
) -> None:
    found, answer = answered(server, data)
    assert found == status
    assert b"injected" not in answer.lower()


@pytest.mark.parametrize("chunk", [b"ZZ\r\n", b"F" * 30 + b"\r\n", b"5;" + b"x" * 50_000])
def test_a_body_that_breaks_ends_the_connection(server: RunningServer, chunk: bytes) -> None:
    """The answer may be on its way already, or may be that this is no body."""
    status, found = answered(server, request("/healthz", "Transfer-Encoding: chunked") + chunk)
    assert status in (200, 400, 431)
    assert found.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("count", [100, 1000])
def test_many_headers_are_read(server: RunningServer, count: int) -> None:
    many = [f"X-{number}: {number}" for number in range(count)]
    assert answered(server, request("/healthz", CLOSE, *many))[1].endswith(b"ok\n")


@pytest.mark.parametrize(
    "target",
    [
        "http://elsewhere.example/healthz",
        "https://elsewhere.example:99/healthz",
        "HTTPS://elsewhere.example//healthz",
    ],
)
def test_a_whole_url_is_its_path(server: RunningServer, target: str) -> None:
    assert answered(server, request(target, CLOSE))[1].endswith(b"ok\n")


def test_a_url_without_a_path_is_the_page(server: RunningServer) -> None:
    """It was refused."""
    status, found = answered(server, request("https://elsewhere.example", CLOSE))
    assert status == 200
    assert b"<html" in found
    assert b"elsewhere.example" not in found


@pytest.mark.parametrize(
    "method",
    ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "CONNECT", "X" * 3000],
)
def test_no_other_method_reaches_anything(server: RunningServer, method: str) -> None:
    for target in ("/", file_path(server), "/healthz", "*", "elsewhere.example:443"):
        data = request(target, CLOSE).replace(b"GET", method.encode())
        status, found = answered(server, data)
        assert (status, b"allow: GET, HEAD\r\n" in found) == (405, True), (method, target)
        # TRACE would show what a proxy added.
        assert found.endswith(b"\r\n\r\nonly GET and HEAD are answered\n")


def test_a_tunnel_that_is_refused_is_no_hole(server: RunningServer) -> None:
    with server.tls() as connection:
        connection.sendall(
            b"CONNECT elsewhere.example:443 HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n"
        )
        read_until(connection, b"answered\n")
        assert 4 < seconds_until_closed(connection) < 7


def test_a_head_is_the_head_of_the_get_everywhere(server: RunningServer) -> None:
    for target in (*TARGETS, file_path(server)):
        got = server.get(target)
        head = server.get(target, method="HEAD")
        assert (head.status, head.body) == (got.status, b""), target
        assert {**head.headers, "date": ""} == {**got.headers, "date": ""}, target
        assert got.headers["content-length"] == str(len(got.body)), target


def test_who_waits_to_be_invited_gets_the_answer_at_once(server: RunningServer) -> None:
    """The stock server invited the body first, and then refused it."""
    for head in (
        request("/", "Expect: 100-continue", "Content-Length: 1000000").replace(b"GET", b"PUT"),
        request("/", "Expect: something else", CLOSE).replace(b"GET", b"PUT"),
    ):
        status, found = answered(server, head)
        assert (status, found.count(b"HTTP/1.1")) == (405, 1)
    status, found = answered(server, request("/healthz", "Expect: 100-continue", CLOSE))
    assert (status, found.count(b"HTTP/1.1")) == (200, 1)


def test_an_answer_outlives_the_body_that_comes_after_it(server: RunningServer) -> None:
    """The connection was closed at once; what came then was answered with a reset, which took the answer too."""
    with server.tls() as connection:
        connection.sendall(request("/", "Content-Length: 9999999").replace(b"GET", b"POST"))
        time.sleep(0.2)
        for _ in range(20):
            connection.sendall(b"x" * 65536)
            time.sleep(0.01)
        assert read_until(connection, b"answered\n").startswith(b"HTTP/1.1 405")


@pytest.mark.tools
@pytest.mark.parametrize("expect", ["100-continue", ""])
def test_curl_learns_why_its_upload_is_refused(
    server: RunningServer, tmp_path: Path, expect: str
) -> None:
    """The end of the connection must not overtake the answer."""
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(50_000_000)
    shown = run(
        *("curl", "-sSk", "-o", os.devnull, "-w", "%{http_code}", "-H", f"Expect: {expect}"),
        *("-T", large, f"{server.url}/upload"),
    ).stdout
    assert shown == "405"


def test_a_body_in_chunks_belongs_to_its_request(server: RunningServer) -> None:
    first = request("/healthz", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n"
    status, found = answered(server, first + request("/readyz", CLOSE))
    assert (status, found.count(b"HTTP/1.1 200")) == (200, 2)
    assert found.endswith(b"ready\n")


def test_a_body_that_never_comes_holds_nothing_up(server: RunningServer) -> None:
    for method in (b"GET", b"POST"):
        began = time.monotonic()
        answered(server, request("/healthz", "Content-Length: 5").replace(b"GET", method))
        assert time.monotonic() - began < 2


def test_answers_come_in_the_order_of_requests_files_too(server: RunningServer) -> None:
    target = file_path(server)
    _, found = answered(
        server, request("/healthz") + request(target) * 2 + request("/readyz", CLOSE)
    )
    heads = [part.partition(b"\r\n\r\n") for part in found.split(b"HTTP/1.1 200")[1:]]
    assert [hashlib.sha256(body).digest() for _, _, body in heads] == [
        hashlib.sha256(body).digest() for body in (b"ok\n", ROOTFS, ROOTFS, b"ready\n")
    ]


def test_more_requests_than_anyone_reads_answers_of_fill_no_memory(server: RunningServer) -> None:
    before_kib = server.resident_kib
    with server.asked(file_path(server), receive_bytes=8192) as connection:
        connection.settimeout(2)
        with contextlib.suppress(OSError):
            for _ in range(200):
                connection.sendall(request(file_path(server)) * 100)
        assert server.resident_kib - before_kib < 8192
    files = server.open_files
    eventually(lambda: server.open_files <= files, timeout_seconds=10, what="its end")


def test_who_stops_sending_is_taken_to_have_gone(server: RunningServer) -> None:
    """Half a close over TLS; nothing of the connection is left."""
    files = server.open_files
    for _ in range(5):
        connection = server.asked(file_path(server), receive_bytes=8192)
        connection.recv(10)
        with contextlib.suppress(OSError):
            connection.settimeout(5)
            connection.unwrap()
        connection.close()
    eventually(lambda: server.open_files <= files, timeout_seconds=10, what="their end")


def test_a_connection_that_is_reset_leaves_nothing(server: RunningServer) -> None:
    files = server.open_files
    for _ in range(20):
        connection = server.asked(file_path(server), receive_bytes=8192)
        connection.recv(10)
        # No time to linger: the close is a reset.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0] + [0] * 4))
        connection.close()
    eventually(lambda: server.open_files <= files, timeout_seconds=10, what="their end")


def test_a_handshake_broken_off_leaves_nothing(server: RunningServer) -> None:
    files = server.open_files
    for cut in range(0, 200, 10):
        with server.plain() as connection:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = server.context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
            with contextlib.suppress(ssl.SSLWantReadError):
                client.do_handshake()
            connection.sendall(outgoing.read()[:cut])
    eventually(lambda: server.open_files <= files, timeout_seconds=10, what="their end")
    assert server.get("/healthz").status == 200


@pytest.mark.tools
def test_curl_speaks_it_as_documented(server: RunningServer) -> None:
    """Keep-alive, resume and conditions as the best-known client does them."""
    done = subprocess.run(
        [
            *("curl", "-sSk", "--write-out", "%{http_code} %{num_connects}\n"),
            *("-o", os.devnull, f"{server.url}/healthz"),
            *("-o", os.devnull, f"{server.url}/readyz"),
            *("-o", os.devnull, f"{server.url}{file_path(server)}"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\n")[:3] == ["200 1", "200 0", "200 0"]
