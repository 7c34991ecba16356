"""Webhooks against real HTTP servers: what is sent, to whom, and what becomes of it."""

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import trustme

from lxdocker_lxd.update.delivery import Delivery, Result
from lxdocker_lxd.update.message_template import template_of
from lxdocker_lxd.update.notification import Severity, document_of
from lxdocker_lxd.update.webhook import Address, Ping, Webhook
from tests.harness.http_server import LoopbackServer, drip, endless_redirect, serving
from tests.update.messages import message


@dataclass
class Receiver:
    """What a server under test answers, and what it was sent."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    body: bytes = b"ok"
    before: Callable[[], object] = lambda: None
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    def handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.requests.append((self.command, self.path, headers, content))
                receiver.before()
                target = receiver.redirects.get(self.path)
                self.send_response(receiver.status if target or not receiver.redirects else 200)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                if target:
                    self.send_header("Location", target)
                self.send_header("Content-Length", str(len(receiver.body)))
                self.end_headers()
                self.wfile.write(receiver.body)

            def do_GET(self) -> None:
                self.do_POST()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        return Handler


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def server(receiver: Receiver) -> Iterator[LoopbackServer]:
    with serving(receiver.handler()) as server:
        yield server


def webhook(url: str, **address: object) -> Webhook:
    given = Address(url=url, **({"timeout_seconds": 5.0} | address))  # type: ignore[arg-type]  # as each test names
    return Webhook(name="ops", address=given)


def test_a_message_arrives_whole(receiver: Receiver, server: LoopbackServer) -> None:
    sent = message(title='"quotes" and ünïcode')
    assert webhook(f"http://{server.host}/hook?x=1").deliver(sent).result is Result.DELIVERED
    ((method, path, headers, body),) = receiver.requests
    assert (method, path) == ("POST", "/hook?x=1")
    assert json.loads(body) == document_of(sent)
    assert headers["content-type"] == "application/json"
    assert headers["idempotency-key"] == "m1"
    assert headers["user-agent"].startswith("lxdocker-lxd/")
    assert "authorization" not in headers


def test_secrets_come_from_files_and_may_change(
    receiver: Receiver, server: LoopbackServer, tmp_path: Path
) -> None:
    url, token = tmp_path / "url", tmp_path / "token"
    url.write_text(f"http://{server.host}/T0/s3cr3t\n")
    hook = webhook("", url_file=url, header_files={"X-Gotify-Key": token}, headers={"X-A": "b"})
    missing = hook.deliver(message())
    assert (missing.result, "s3cr3t" in missing.reason) == (Result.LATER, False)
    for word in ("one", "two"):
        token.write_text(f"{word}\n")
        assert hook.deliver(message()).result is Result.DELIVERED
    assert [headers["x-gotify-key"] for _, _, headers, _ in receiver.requests] == ["one", "two"]
    token.write_text("a\nX-Evil: b")
    assert hook.deliver(message()).result is Result.LATER
    assert "s3cr3t" not in repr(hook) + repr(webhook(url.read_text(), headers={"A": "s3cr3t"}))


def test_the_body_is_what_the_receiver_wants(receiver: Receiver, server: LoopbackServer) -> None:
    hook = Webhook(
        name="ntfy",
        address=Address(url=f"http://{server.host}/"),
        body=template_of("$title", "text/plain"),
        minimum=Severity.WARNING,
    )
    assert hook.deliver(message(title="über")).result is Result.DELIVERED
    assert receiver.requests[0][3] == "über".encode()
    assert receiver.requests[0][2]["content-type"] == "text/plain"
    assert not hook.wants(message())
    assert hook.wants(message(severity=Severity.ERROR))


@pytest.mark.parametrize(
    ("status", "result"),
    [(204, "delivered"), (400, "refused"), (401, "later"), (500, "failed"), (503, "later")],
)
def test_the_status_decides(
    receiver: Receiver, server: LoopbackServer, status: int, result: str
) -> None:
    receiver.status, receiver.body = status, b""
    receiver.headers = {"Retry-After": "17"}
    found = webhook(f"http://{server.host}/").deliver(message())
    assert found.result == result
    assert (found.wait.total_seconds() if found.wait else None) == (17 if status >= 500 else None)


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_on_the_same_host_keeps_the_body(
    receiver: Receiver, server: LoopbackServer, status: int
) -> None:
    receiver.status, receiver.redirects = status, {"/a": "/b", "/b": f"http://{server.host}/c"}
    hook = webhook(f"http://{server.host}/a", headers={"Authorization": "Bearer s3cr3t"})
    assert hook.deliver(message()).result is Result.DELIVERED
    assert [path for _, path, _, _ in receiver.requests] == ["/a", "/b", "/c"]
    assert len({body for _, _, _, body in receiver.requests}) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_token_never_reaches_another_host(
    receiver: Receiver, server: LoopbackServer, status: int
) -> None:
    other = Receiver()
    with serving(other.handler()) as elsewhere:
        for target in (
            f"http://{elsewhere.host}/",
            f"http://localhost:{elsewhere.host.partition(':')[2]}/",
            f"http://{server.host}@{elsewhere.host}/",
            f"//{elsewhere.host}/",
            f"https://{server.host}/",
            "file:///etc/passwd",
            "http://[::1/",
            "http://127.0.0.1:99999/",
        ):
            receiver.status, receiver.redirects = status, {"/a": target}
            hook = webhook(f"http://{server.host}/a", headers={"Authorization": "Bearer s3cr3t"})
            assert hook.deliver(message()).result is Result.LATER
    assert other.requests == []


def test_redirects_in_a_circle_end(receiver: Receiver, server: LoopbackServer) -> None:
    receiver.status, receiver.redirects = 307, {"/a": "/a"}
    assert webhook(f"http://{server.host}/a").deliver(message()).result is Result.LATER
    assert len(receiver.requests) == 4


def test_certificates_are_verified(receiver: Receiver, tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusted = tmp_path / "ca.crt"
    authority.cert_pem.write_to_path(str(trusted))
    with serving(receiver.handler(), tls=context) as server:
        url = f"https://{server.host}/"
        refused = webhook(url).deliver(message())
        assert (refused.result, refused.reason) == (
            Result.LATER,
            "the server's certificate isn't trusted",
        )
        assert receiver.requests == []
        assert webhook(url, ca_file=trusted).deliver(message()).result is Result.DELIVERED
        other_name = webhook(url.replace("127.0.0.1", "localhost"), ca_file=trusted)
        assert other_name.deliver(message()).reason == "the server's certificate isn't trusted"
    assert webhook(url, ca_file=tmp_path / "none").deliver(message()).result is Result.LATER


def test_plain_http_stays_on_this_machine() -> None:
    found = webhook("http://198.51.100.1/").deliver(message())
    assert (found.result, "insecure: true" in found.reason) == (Result.LATER, True)


def test_the_environment_adds_no_credentials(
    receiver: Receiver,
    server: LoopbackServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login ann password s3cr3t\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    receiver.headers = {"Set-Cookie": "a=b"}
    hook = webhook(f"http://{server.host}/")
    assert [hook.deliver(message()).result for _ in range(2)] == [Result.DELIVERED] * 2
    for _, _, headers, _ in receiver.requests:
        assert not {"authorization", "cookie"} & set(headers)


def test_a_server_that_says_nothing_is_given_up(receiver: Receiver, server: LoopbackServer) -> None:
    silent = threading.Event()
    receiver.before = lambda: silent.wait(10)
    began = time.monotonic()
    found = webhook(f"http://{server.host}/", timeout_seconds=0.5).deliver(message())
    silent.set()
    assert (found.result, found.reason) == (Result.LATER, "the server doesn't answer in time")
    assert time.monotonic() - began < 5


def test_an_endless_answer_is_cut(receiver: Receiver, server: LoopbackServer) -> None:
    receiver.body = b"x" * (32 << 20)
    began = time.monotonic()
    assert webhook(f"http://{server.host}/").deliver(message()).result is Result.DELIVERED
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("status", [302, 307])
def test_a_redirects_endless_body_is_never_read(status: int) -> None:
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if self.path == "/a":
                endless_redirect(self, "/b", status)
            else:
                self.send_response(204)
                self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with serving(Handler) as server:
        found = Ping(address=Address(url=f"http://{server.host}/a")).good_round()
    followed = status == 307
    assert found.result is (Result.DELIVERED if followed else Result.LATER)
    assert asked == ["/a", "/b"][: 1 + followed]


@pytest.mark.parametrize(
    "beginning",
    [b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nX-Long: ", b"HTTP/1.1 100 Continue\r\nX: "],
)
def test_a_server_that_drips_its_head_is_given_up_in_the_whole_time(beginning: bytes) -> None:
    found = delivered_to_one_that_drips(beginning)
    assert (found.result, found.reason) == (Result.LATER, "the server doesn't answer in time")


def test_an_answer_that_drips_after_its_status_has_said_enough() -> None:
    found = delivered_to_one_that_drips(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n")
    assert found.result is Result.DELIVERED


def delivered_to_one_that_drips(beginning: bytes) -> Delivery:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            drip(self, beginning)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with serving(Handler) as server:
        return webhook(f"http://{server.host}/", timeout_seconds=0.3).deliver(message())


def test_nobody_there_is_no_disaster() -> None:
    with serving(Receiver().handler()) as server:
        url = f"http://{server.host}/s3cr3t"
    found = webhook(url).deliver(message())
    assert (found.result, found.reason) == (Result.LATER, "the server can't be reached")
    for odd in ("http://127.0.0.1:1/ä", "nonsense", "https://", "http://[", "https://a:b@h/"):
        assert webhook(odd).deliver(message()).result is Result.LATER


def test_a_ping_is_one_get(receiver: Receiver, server: LoopbackServer) -> None:
    ping = Ping(address=Address(url=f"http://{server.host}/ping/uuid"))
    assert ping.good_round().result is Result.DELIVERED
    ((method, path, _, body),) = receiver.requests
    assert (method, path, body) == ("GET", "/ping/uuid", b"")
