"""The updater's door to image servers, with servers of all kinds behind it."""

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler

import pytest
import trustme

from lxdocker_lxd import http_session
from lxdocker_lxd.update.image_server_http import AskingError, NoSuchDocumentError, ask
from tests.harness.http_server import drip, endless_redirect, serving

AUTHORITY = trustme.CA()
PEM = AUTHORITY.cert_pem.bytes().decode()


@pytest.fixture
def site() -> Iterator[tuple[str, dict[str, Callable[[BaseHTTPRequestHandler], None]]]]:
    """A server of HTTPS, and what it does for each path."""
    paths: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("127.0.0.1").configure_cert(tls)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths[self.path](self)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler, tls=tls) as http:
        yield f"https://{http.host}", paths


def sends(
    content: bytes, status: int = 200, **headers: str
) -> Callable[[BaseHTTPRequestHandler], None]:
    def act(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return act


Site = tuple[str, dict[str, Callable[[BaseHTTPRequestHandler], None]]]


def test_a_document_comes_with_its_tag_and_only_once(site: Site) -> None:
    url, paths = site
    asked = []

    def tagged(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.headers.get("If-None-Match"))
        sends(b"", 304)(handler) if asked[-1] == '"7"' else sends(b"{}", ETag='"7"')(handler)

    paths["/x"] = tagged
    first = ask(f"{url}/x", certificate=PEM)
    assert (first.content, first.tag) == (b"{}", '"7"')
    assert ask(f"{url}/x", certificate=PEM, tag=first.tag).content is None
    assert asked == [None, '"7"']


def test_nothing_is_believed_of_a_server_that_isnt_trusted(site: Site) -> None:
    url, paths = site
    paths["/x"] = sends(b"{}")
    stranger = trustme.CA().cert_pem.bytes().decode()
    for certificate in ("", stranger):
        with pytest.raises(AskingError, match="isn't trusted"):
            ask(f"{url}/x", certificate=certificate)
    with pytest.raises(AskingError, match="isn't trusted"):
        ask(f"{url.replace('127.0.0.1', 'localhost')}/x", certificate=PEM)
    with pytest.raises(AskingError, match="https"):
        ask("http://127.0.0.1:1/x", certificate=PEM)
    with pytest.raises(AskingError, match="can't be reached"):
        ask(f"{url}/x", certificate="no certificate")


@pytest.mark.parametrize(
    "url", ["https://[", "https://a:x/", "https://", "https:///p", "https://\u2100/", "", "\0"]
)
def test_an_address_that_somebody_mistyped_is_a_problem_and_no_end(url: str) -> None:
    with pytest.raises(AskingError):
        ask(f"{url}/x", certificate=PEM)


def test_a_pinned_authority_excludes_the_systems(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    """A certificate that the system would trust doesn't help a server for which LXD has another."""
    url, paths = site
    paths["/x"] = sends(b"{}")
    bundle = f"{tmp_path}/system.crt"
    AUTHORITY.cert_pem.write_to_path(bundle)
    monkeypatch.setattr(http_session, "SYSTEM_AUTHORITIES", bundle)
    assert ask(f"{url}/x").content == b"{}"
    with pytest.raises(AskingError, match="isn't trusted"):
        ask(f"{url}/x", certificate=trustme.CA().cert_pem.bytes().decode())


def test_redirects_stay_on_the_server(site: Site) -> None:
    url, paths = site
    paths["/a"] = sends(b"", 302, Location="/b")
    paths["/b"] = sends(b"{}")
    assert ask(f"{url}/a", certificate=PEM).content == b"{}"
    paths["/b"] = sends(b"", 302, Location="https://elsewhere.example/")
    with pytest.raises(AskingError, match="another server"):
        ask(f"{url}/a", certificate=PEM)
    paths["/b"] = sends(b"", 302, Location="/a")
    with pytest.raises(AskingError, match="more than"):
        ask(f"{url}/a", certificate=PEM)


def test_a_redirects_endless_body_is_never_read(site: Site) -> None:
    url, paths = site
    paths["/a"] = lambda handler: endless_redirect(handler, "/b")
    paths["/b"] = sends(b"{}")
    assert ask(f"{url}/a", certificate=PEM, whole_seconds=5.0).content == b"{}"


@pytest.mark.parametrize(
    "beginning",
    [
        b"HTTP/1.1 2",
        b"HTTP/1.1 200 OK\r\nX-Long: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{",
        b"HTTP/1.1 302 Found\r\nLocation: /a\r\nX-Long: ",
        b"HTTP/1.1 100 Continue\r\nX: ",
    ],
)
def test_a_server_that_drips_its_answer_is_given_up_in_the_whole_time(
    site: Site, beginning: bytes
) -> None:
    url, paths = site
    paths["/a"] = lambda handler: drip(handler, beginning)
    with pytest.raises(AskingError, match="doesn't answer in time"):
        ask(f"{url}/a", certificate=PEM, whole_seconds=0.3)


def test_a_greeting_that_never_ends_is_given_up_in_the_whole_time() -> None:
    """A server that takes connections, and says nothing of TLS."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"https://127.0.0.1:{listening.getsockname()[1]}/a"
        with pytest.raises(AskingError, match="doesn't answer in time"):
            ask(url, certificate=PEM, whole_seconds=0.3)


def test_errors_and_huge_and_slow_documents_end_soon(site: Site) -> None:
    url, paths = site
    paths["/gone"] = sends(b"", 404)
    with pytest.raises(NoSuchDocumentError):
        ask(f"{url}/gone", certificate=PEM)
    paths["/ill"] = sends(b"", 503)
    with pytest.raises(AskingError, match="503"):
        ask(f"{url}/ill", certificate=PEM)
    paths["/huge"] = sends(b"x" * 300_000)
    with pytest.raises(AskingError, match="larger"):
        ask(f"{url}/huge", certificate=PEM, most_bytes=200_000)

    def slowly(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(40):
            handler.wfile.write(b"x" * 70_000)
            time.sleep(0.1)

    paths["/slow"] = slowly
    began = time.monotonic()
    with pytest.raises(AskingError, match="in time"):
        ask(f"{url}/slow", certificate=PEM, whole_seconds=0.5)
    assert time.monotonic() - began < 3
