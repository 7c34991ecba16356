"""The check of trees behind a URL."""

import contextlib
import gzip
import shutil
import ssl
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import trustme

from lxdocker_lxd.clients.tree import UnreachedError
from lxdocker_lxd.clients.tree_http import CertificateRefusedError, HttpTree, RedirectedError
from lxdocker_lxd.errors import NetworkError, NotFoundError, UsageError
from lxdocker_lxd.http_deadline import LeastSpeed
from lxdocker_lxd.serve import verify as verifying
from lxdocker_lxd.serve.verify import VerifyReport
from tests.harness.growth import peak_bytes
from tests.harness.http_server import drip, endless_redirect
from tests.serve.checked import (
    IMAGES,
    INDEX,
    change_byte,
    check,
    exported,
    problems,
)
from tests.serve.foreign_tree import Foreign
from tests.serve.tree_web import breaks_off, fails, leads_to, never_ends, redirects, web


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return exported(tmp_path)


@pytest.fixture
def foreign(tmp_path: Path) -> Foreign:
    return Foreign(tmp_path / "foreign")


@contextlib.contextmanager
def remote(url: str, ca: Path | None = None) -> Iterator[HttpTree]:
    with contextlib.closing(HttpTree(url, ca)) as tree:
        yield tree


def check_url(url: str) -> VerifyReport:
    with remote(url) as tree:
        return check(tree)


def test_a_served_tree_is_clean(tree: Path, foreign: Foreign) -> None:
    with web(tree) as server:
        assert check_url(server.url + "/").findings == ()
        assert check_url(server.url + "/lxe/ghcr.io").findings == ()
    with web(foreign.directory) as server:
        assert problems(check_url(server.url)) == []


def test_a_wrong_file_on_a_server_is_found(tree: Path) -> None:
    file = next(tree.glob("images/*.squashfs"))
    change_byte(file)
    with web(tree) as server:
        assert any(file.name in one for one in problems(check_url(server.url)))


def test_a_stale_gzip_twin_on_a_server_is_found(tree: Path) -> None:
    with gzip.open(tree / f"{IMAGES}.gz", "wb") as twin:
        twin.write(b"{}")
    with web(tree) as server:
        assert problems(check_url(server.url)) == [f"{IMAGES}: its gzip form says something else"]


def test_a_server_with_a_private_authority(tree: Path, tmp_path: Path) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca"))
    stranger.cert_pem.write_to_path(str(tmp_path / "other"))
    with web(tree, context) as server:
        with remote(server.url, tmp_path / "ca") as known:
            assert check(known).findings == ()
        for ca in (None, tmp_path / "other"):
            with (
                remote(server.url, ca) as unknown,
                pytest.raises(CertificateRefusedError) as caught,
            ):
                check(unknown)
            assert "--ca" in caught.value.hint
    with pytest.raises(NotFoundError):
        HttpTree("https://x", tmp_path / "none")
    (tmp_path / "text").write_text("none")
    with pytest.raises(UsageError):
        HttpTree("https://x", tmp_path / "text")
    with pytest.raises(UsageError):
        HttpTree("ftp://x")


def authority_and_context(directory: Path) -> tuple[Path, ssl.SSLContext]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(directory / "ca"))
    return directory / "ca", context


def taken(tree: HttpTree, path: str) -> bytes:
    with tree.open(path) as body:
        return body.read(100)


def test_a_server_whose_certificate_was_given_sends_nobody_elsewhere(tmp_path: Path) -> None:
    """Its authority vouched for that server; what another one says, over plain HTTP even, isn't its."""
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages/x").write_text("of somebody else")
    (tmp_path / "pages/y").write_text("its own")
    ca, context = authority_and_context(tmp_path)
    with (
        web(tmp_path / "pages") as plain,
        web(tmp_path / "pages", context) as other,
        web(tmp_path / "pages", context) as server,
        remote(server.url, ca) as tree,
    ):
        for stranger in (plain, other):
            server.faults["x"] = leads_to(f"{stranger.url}/x")
            with pytest.raises(RedirectedError, match="sends us to another one"):
                taken(tree, "x")
            assert stranger.asked == []
        server.faults["x"] = leads_to("/y")
        assert taken(tree, "x") == b"its own"


def test_no_server_leads_from_https_to_http(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a given certificate another server is asked, as LXD does, but never over plain HTTP."""
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages/x").write_text("text")
    ca, context = authority_and_context(tmp_path)
    monkeypatch.setattr("lxdocker_lxd.http_session.SYSTEM_AUTHORITIES", str(ca))
    with (
        web(tmp_path / "pages") as plain,
        web(tmp_path / "pages", context) as other,
        web(tmp_path / "pages", context) as server,
        remote(server.url) as tree,
    ):
        server.faults["x"] = leads_to(f"{other.url}/x")
        assert taken(tree, "x") == b"text"
        server.faults["x"] = leads_to(f"{plain.url}/x")
        with pytest.raises(RedirectedError, match="which isn't https"):
            taken(tree, "x")
        assert plain.asked == []


def test_a_redirects_endless_body_is_never_read(tmp_path: Path) -> None:
    (tmp_path / "y").write_text("text")
    with web(tmp_path) as server, remote(server.url) as tree:
        server.faults["x"] = lambda handler, _content: endless_redirect(handler, "/y")
        assert taken(tree, "x") == b"text"


@pytest.mark.parametrize(
    "beginning",
    [
        b"HTTP/1.1 2",
        b"HTTP/1.1 200 OK\r\nX-Long: ",
        b"HTTP/1.1 302 Found\r\nLocation: /x\r\nX-Long: ",
        b"HTTP/1.1 100 Continue\r\nX: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n",
    ],
)
def test_a_server_that_drips_its_answer_is_given_up(tmp_path: Path, beginning: bytes) -> None:
    speed = LeastSpeed(window_seconds=0.3)
    with web(tmp_path) as server:
        server.faults["x"] = lambda handler, _content: drip(handler, beginning)
        slow = HttpTree(server.url, head_seconds=0.3, speed=speed)
        with contextlib.closing(slow) as tree, pytest.raises(UnreachedError, match="too slow"):
            taken(tree, "x")


def test_a_reader_may_take_its_time_over_a_body(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(100_000))
    with web(tmp_path) as server:
        patient = HttpTree(server.url, head_seconds=5.0, speed=LeastSpeed(window_seconds=0.1))
        with contextlib.closing(patient) as tree, tree.open("x") as body:
            assert body.read(1) == b"\0"
            time.sleep(0.5)
            assert sum(iter(lambda: len(body.read(1 << 16)), 0)) == 99_999


def test_a_password_goes_on_to_the_same_server_only(tmp_path: Path) -> None:
    seen: dict[str, str | None] = {}

    def look(handler: BaseHTTPRequestHandler, _content: bytes) -> None:
        seen[handler.headers["Host"]] = handler.headers["Authorization"]
        handler.send_response(204)
        handler.end_headers()

    with web(tmp_path) as server, web(tmp_path) as other:
        server.faults = {"y": look}
        other.faults = {"y": look}
        with remote(server.url.replace("//", "//me:secret@")) as tree:
            for target in (server.url, other.url.replace("//", "//a:b@")):
                server.faults["x"] = leads_to(f"{target}/y")
                with pytest.raises(UnreachedError, match="204"):
                    taken(tree, "x")
        places = [one.url.removeprefix("http://") for one in (server, other)]
    assert [seen[place] for place in places] == ["Basic bWU6c2VjcmV0", None]


@pytest.mark.parametrize("url", ["https://[", "https://a]/", "ftp://x", "https://"])
def test_what_is_no_url_is_told(url: str) -> None:
    with pytest.raises(UsageError, match="expected https://host"):
        HttpTree(url)


def test_a_small_answer_that_inflates_to_much_is_read_a_block_at_a_time(tmp_path: Path) -> None:
    """Sixty kilobytes of gzip are sixty megabytes; whoever stops reading has had a block of them."""
    (tmp_path / "x").write_bytes(b"")
    (tmp_path / "x.gz").write_bytes(gzip.compress(bytes(64 << 20)))

    def first_block(url: str) -> None:
        with remote(url) as tree, tree.open("x", compressed=True) as body:
            assert body.read(1 << 18) == bytes(1 << 18)

    with web(tmp_path) as server:
        assert peak_bytes(lambda: first_block(server.url)) < 8 << 20


def test_nobody_answers(tree: Path) -> None:
    with web(tree) as server:
        url = server.url
    with pytest.raises(NetworkError, match="can't be reached") as caught:
        check_url(url)
    # Our server closes the connection when somebody speaks plain HTTP on its TLS port.
    assert "try https://" in caught.value.hint


def test_a_password_in_the_url_is_not_shown() -> None:
    with remote("http://me:secret@127.0.0.1:9/x") as tree:
        assert tree.name == "http://127.0.0.1:9/x"
        with pytest.raises(NetworkError) as caught:
            check(tree)
        assert "secret" not in str(caught.value)


def test_a_server_with_faults(tree: Path) -> None:
    file = next(tree.glob("images/*.squashfs"))
    path = str(file.relative_to(tree))
    with web(tree) as server:
        for fault in (fails, breaks_off):
            server.faults = {path: fault}
            server.asked.clear()
            report = check_url(server.url)
            assert problems(report) == []
            assert any(path in one for one in problems(report, "unreached"))
            assert server.asked.count(path) == 3
        server.faults = {path: never_ends}
        assert any("there are more" in one for one in problems(check_url(server.url)))
        shutil.copy(file, tree / "elsewhere")
        server.faults = {path: redirects}
        assert check_url(server.url).findings == ()
        server.faults = {path: redirects, "elsewhere": redirects}
        assert any("redirects" in one for one in problems(check_url(server.url)))
        server.faults = {INDEX: fails}
        with pytest.raises(NetworkError):
            check_url(server.url)
        server.faults = {IMAGES: fails}
        assert any(IMAGES in one for one in problems(check_url(server.url), "unreached"))


def test_a_document_that_never_ends(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "_MOST_DOCUMENT_BYTES", 1_000_000)
    with web(tree) as server:
        server.faults = {IMAGES: never_ends}
        assert any("longer than" in one for one in problems(check_url(server.url)))


def test_a_server_that_answers_everything_with_a_page(tree: Path) -> None:
    def page(handler: BaseHTTPRequestHandler, content: bytes) -> None:
        body = b"<!doctype html><p>Hello"
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    with web(tree) as server:
        server.faults = dict.fromkeys(
            ["1.0/index.json", *(f"meta/1.0/index-{n}{e}" for n in ("system", "user")
                                 for e in ("", ".5", ".7"))], page)  # fmt: skip
        assert check_url(server.url).findings == ()
