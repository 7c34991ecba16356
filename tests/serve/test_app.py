"""Requests as clients make them, and every answer: the whole path from ASGI to the disk, no sockets."""

import asyncio
import gzip
import hashlib
import json
import os
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lxdocker_lxd.errors import ToolError
from lxdocker_lxd.serve.entry import Document
from lxdocker_lxd.serve.exchange import Exchange
from lxdocker_lxd.serve.site import Site
from tests.serve.shelf import InProcess, Shelf

ROOTFS = bytes(range(256)) * 4096


def with_house(
    shelf: Shelf, story: Callable[[InProcess], Awaitable[None]], **changes: Any
) -> InProcess:
    async def main() -> InProcess:
        async with shelf.open(**changes) as house:
            await story(house)
            return house

    return asyncio.run(main())


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    found = Shelf(tmp_path)
    found.publish("web", ROOTFS)
    return found


def test_a_file_is_served_whole_by_its_digest(shelf: Shelf) -> None:
    file = shelf.publish("web", ROOTFS)

    async def story(house: InProcess) -> None:
        found = await house.ask("GET", f"/{file.path}")
        assert (found.status, found.is_whole) == (200, True)
        assert hashlib.sha256(found.body).hexdigest() == file.sha256
        assert found.headers["etag"] == f'"sha256:{file.sha256}"'
        assert found.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert found.headers["content-type"] == "application/octet-stream"
        assert found.headers["content-length"] == str(len(ROOTFS))
        assert found.headers["x-content-type-options"] == "nosniff"
        assert "content-encoding" not in found.headers
        assert "server" not in found.headers
        assert "last-modified" in found.headers
        # The same under a view's root and under another spelling of the whole tree.
        for root in ("at/20260301", "lxe/docker.io", "at/x/lxe/docker.io"):
            other = await house.ask("GET", f"/{root}/{file.path}")
            assert (other.status, other.body) == (200, ROOTFS), root

    with_house(shelf, story)


def test_a_head_tells_everything_and_reads_nothing(shelf: Shelf) -> None:
    file = shelf.publish("web", ROOTFS)

    async def story(house: InProcess) -> None:
        found = await house.ask("HEAD", f"/{file.path}")
        assert (found.status, found.body) == (200, b"")
        assert found.headers["content-length"] == str(len(ROOTFS))
        document = await house.ask("HEAD", "/streams/v1/index.json")
        whole = await house.ask("GET", "/streams/v1/index.json")
        assert document.body == b""
        assert document.headers == whole.headers
        assert house.downloads.count == 0

    with_house(shelf, story)


@pytest.mark.parametrize(
    ("wanted", "status", "part"),
    [
        ("bytes=0-99", 206, slice(0, 100)),
        ("bytes=-500", 206, slice(-500, None)),
        ("bytes=300000-", 206, slice(300000, None)),
        ("bytes=0-1,3-4", 200, slice(None)),
        ("bytes=99999999-", 416, None),
    ],
)
def test_ranges_of_a_file(shelf: Shelf, wanted: str, status: int, part: slice | None) -> None:
    file = shelf.publish("web", ROOTFS)

    async def story(house: InProcess) -> None:
        found = await house.ask("GET", f"/{file.path}", {"Range": wanted})
        assert found.status == status
        if part is None:
            assert found.body == b"no such range\n"
            assert found.headers["content-range"] == f"bytes */{len(ROOTFS)}"
        else:
            assert found.body == ROOTFS[part]
        again = await house.ask(
            "GET", f"/{file.path}", {"Range": wanted, "If-None-Match": found.headers["etag"]}
        )
        assert (again.status, again.body) == (304, b"")

    with_house(shelf, story)


def test_documents_are_packed_for_those_who_take_it(shelf: Shelf) -> None:
    for number in range(20):
        shelf.publish(f"web{number}", ROOTFS)

    async def story(house: InProcess) -> None:
        target = "/streams/v1/images.json"
        plain = await house.ask("GET", target)
        packed = await house.ask("GET", target, {"Accept-Encoding": "gzip"})
        assert packed.headers["content-encoding"] == "gzip"
        assert gzip.decompress(packed.body) == plain.body
        assert json.loads(plain.body)["products"]
        assert len(packed.body) < len(plain.body)
        # Other bytes, so another tag; both say that it depends on what the client takes.
        assert packed.headers["etag"] != plain.headers["etag"]
        assert plain.headers["vary"] == packed.headers["vary"] == "Accept-Encoding"
        assert plain.headers["cache-control"] == "no-cache"
        for refusal in ("gzip;q=0", "identity", ""):
            refused = await house.ask("GET", target, {"Accept-Encoding": refusal})
            assert "content-encoding" not in refused.headers
        same = await house.ask(
            "GET", target, {"Accept-Encoding": "gzip", "If-None-Match": packed.headers["etag"]}
        )
        assert (same.status, same.body) == (304, b"")
        assert "content-encoding" not in same.headers
        part = await house.ask("GET", target, {"Accept-Encoding": "gzip", "Range": "bytes=2-9"})
        assert (part.status, part.body) == (206, plain.body[2:10])

    with_house(shelf, story)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_other_methods_are_refused(shelf: Shelf, method: str) -> None:
    async def story(house: InProcess) -> None:
        for target in ("/", "/streams/v1/index.json", "/healthz", "/nothing"):
            found = await house.ask(method, target)
            assert (found.status, found.headers["allow"]) == (405, "GET, HEAD")
            assert found.body == b"only GET and HEAD are answered\n"

    with_house(shelf, story)


@pytest.mark.parametrize(
    "target",
    [
        "/../../../etc/passwd",
        "/images/../catalogue.json",
        "/images/..%2fcatalogue.json",
        "/images/%2e%2e/catalogue.json",
        "/catalogue.json",
        "/.lock",
        "/images/",
        "/images",
        "/images/0000000000000000000000000000000000000000000000000000000000000000.squashfs",
        "/at/../etc/passwd",
        "/at//streams/v1/index.json",
        "/%00",
        "/%ff",
        "/nothing",
        "/streams/v1/index.json/",
        "/a" * 2000,
    ],
)
def test_nothing_but_what_is_published_is_found(shelf: Shelf, target: str) -> None:
    (shelf.directory / "images" / "extra").write_bytes(b"not listed")

    async def story(house: InProcess) -> None:
        found = await house.ask("GET", target)
        if target.startswith("/at//"):
            # Empty segments are nothing: this asks for the serial "streams".
            assert found.status == 404
        assert found.status in (400, 404), found
        assert found.body.count(b"\n") == 1
        assert b"root:" not in found.body
        assert found.headers["content-type"] == "text/plain; charset=utf-8"

    with_house(shelf, story)


def test_an_unlisted_file_beside_the_images_is_nowhere(shelf: Shelf) -> None:
    stray = shelf.put("rootfs", b"never published")

    async def story(house: InProcess) -> None:
        assert (await house.ask("GET", f"/{stray.path}")).status == 404

    with_house(shelf, story)


def test_what_pages_load_is_kept_for_ever_under_the_name_of_its_content(shelf: Shelf) -> None:
    async def story(house: InProcess) -> None:
        page = (await house.ask("GET", "/")).body.decode()
        parts = re.findall(r'(?:href|src)="(?:\./|/)?(static/[^"]+)"', page)
        assert len(parts) >= 2
        for part in parts:
            found = await house.ask("GET", f"/{part}")
            assert found.status == 200
            assert found.headers["cache-control"] == "public, max-age=31536000, immutable"
            assert hashlib.sha256(found.body).hexdigest()[:12] in part
        assert (await house.ask("GET", "/")).headers["cache-control"] == "no-cache"

    with_house(shelf, story)


def test_double_slashes_are_one(shelf: Shelf) -> None:
    async def story(house: InProcess) -> None:
        found = await house.ask("GET", "//streams///v1//index.json")
        assert found.status == 200

    with_house(shelf, story)


def test_a_vanished_file_is_404_and_told(shelf: Shelf) -> None:
    """The stock server answered 500 with a traceback."""
    file = shelf.publish("web", ROOTFS)
    (shelf.directory / file.path).unlink()

    async def story(house: InProcess) -> None:
        found = await house.ask("GET", f"/{file.path}")
        assert (found.status, found.body) == (404, b"the file is gone\n")
        assert any("listed in the catalogue but is gone" in line for line in house.lines)

    with_house(shelf, story)


@pytest.mark.parametrize("change", ["shorter", "longer", "link", "directory", "pipe"])
def test_a_file_that_is_not_what_is_listed_is_never_sent(shelf: Shelf, change: str) -> None:
    file = shelf.publish("web", ROOTFS)
    path = shelf.directory / file.path
    if change == "shorter":
        os.truncate(path, 10)
    elif change == "longer":
        path.write_bytes(ROOTFS + b"more")
    else:
        path.unlink()
        if change == "link":
            path.symlink_to("/etc/passwd")
        elif change == "directory":
            path.mkdir()
        else:
            os.mkfifo(path)

    async def story(house: InProcess) -> None:
        found = await house.ask("GET", f"/{file.path}")
        assert (found.status, found.body) == (500, b"the file can't be read\n")
        assert any(line.startswith("<3>serve: ") for line in house.lines)

    with_house(shelf, story)


def test_a_file_of_an_older_listing_stays_for_a_day(shelf: Shelf) -> None:
    long_ago = datetime.now(UTC).replace(microsecond=0) - timedelta(days=3)
    first = shelf.publish("db", b"first", at=long_ago, keep=1)
    shelf.publish("db", b"second", at=long_ago + timedelta(days=1), keep=1)
    shelf.publish("db", b"third", keep=1)

    async def story(house: InProcess) -> None:
        listed = (await house.ask("GET", "/streams/v1/images.json")).body.decode()
        assert first.sha256 not in listed
        found = await house.ask("GET", f"/{first.path}")
        assert (found.status, found.body) == (200, b"first")

    with_house(shelf, story)


def test_downloads_have_a_limit_and_heads_do_not(shelf: Shelf) -> None:
    file = shelf.publish("web", ROOTFS)

    async def story(house: InProcess) -> None:
        # Another address has one, so nobody must make room.
        under_way = Exchange(client="192.0.2.8", files_only=False, downloads=house.downloads)
        assert under_way.begins_download()
        found = await house.ask("GET", f"/{file.path}")
        assert (found.status, found.headers["retry-after"]) == (503, "30")
        assert found.body == b"too many downloads at once\n"
        assert (await house.ask("HEAD", f"/{file.path}")).status == 200
        assert (await house.ask("GET", "/streams/v1/index.json")).status == 200
        under_way.end()
        assert (await house.ask("GET", f"/{file.path}")).status == 200
        assert house.downloads.count == 0

    with_house(shelf, story, downloads=1)


def test_health_is_the_process_and_readiness_everything(shelf: Shelf) -> None:
    async def story(house: InProcess) -> None:
        assert (await house.ask("GET", "/healthz")).body == b"ok\n"
        assert (await house.ask("GET", "/readyz")).body == b"ready\n"
        house.problem = "the certificate is old"
        found = await house.ask("GET", "/readyz")
        assert (found.status, found.body) == (503, b"not ready: the certificate is old\n")
        assert (await house.ask("GET", "/healthz")).status == 200

    with_house(shelf, story)


@pytest.mark.parametrize(
    ("audience", "client", "headers", "status"),
    [
        ("local", "127.0.0.1", {}, 200),
        ("local", "127.5.5.5", {}, 200),
        ("local", "::1", {}, 200),
        ("local", "::ffff:127.0.0.1", {}, 200),
        ("local", None, {}, 200),
        ("local", "192.0.2.7", {}, 403),
        ("local", "::ffff:192.0.2.7", {}, 403),
        ("local", "fe80::1%eth0", {}, 403),
        # A proxy on this machine speaks for others.
        ("local", "127.0.0.1", {"X-Forwarded-For": "192.0.2.7"}, 403),
        ("local", "127.0.0.1", {"Forwarded": "for=192.0.2.7"}, 403),
        ("all", "192.0.2.7", {}, 200),
        ("none", "127.0.0.1", {}, 403),
    ],
)
def test_who_may_read_the_metrics(
    shelf: Shelf, audience: str, client: str | None, headers: dict[str, str], status: int
) -> None:
    async def story(house: InProcess) -> None:
        found = await house.ask("GET", "/metrics", headers, client=client)
        assert found.status == status

    with_house(shelf, story, audience=audience)


def test_the_authority_can_be_fetched_where_there_is_one(shelf: Shelf) -> None:
    async def with_one(house: InProcess) -> None:
        found = await house.ask("GET", "/ca.crt")
        assert (found.body, found.headers["content-type"]) == (b"PEM", "application/x-pem-file")

    async def without(house: InProcess) -> None:
        assert (await house.ask("GET", "/ca.crt")).status == 404

    with_house(shelf, with_one, authority=b"PEM")
    with_house(shelf, without)


def test_the_plain_listener_serves_image_files_only(shelf: Shelf) -> None:
    file = shelf.publish("web", ROOTFS)

    async def story(house: InProcess) -> None:
        found = await house.ask("GET", f"/{file.path}")
        assert (found.status, found.body) == (200, ROOTFS)
        assert (await house.ask("HEAD", f"/lxe/docker.io/{file.path}")).status == 200
        for target in (
            "/",
            "/?q=web",
            "/streams/v1/index.json",
            "/healthz",
            "/readyz",
            "/metrics",
            "/ca.crt",
            "/meta/1.0/index-system",
        ):
            found = await house.ask("GET", target, client="127.0.0.1")
            assert (found.status, found.body) == (404, b"only image files are served here\n")

    with_house(shelf, story, files_only=True, authority=b"PEM", audience="all")


def test_a_directory_without_its_slash_is_redirected(shelf: Shelf) -> None:
    page = Document(
        path="a:b/index.html", media_type="text/html; charset=utf-8", render=lambda: b"<p>" * 900
    )
    site = Site([page], roots=("",), servable={})

    async def story(house: InProcess) -> None:
        found = await house.ask("GET", "/a:b")
        # Relative, and never an address of another scheme or host.
        assert (found.status, found.headers["location"]) == (308, "./a%3Ab/")
        found = await house.ask("GET", "/at/1/a:b")
        assert (found.status, found.headers["location"]) == (308, "./a%3Ab/")
        found = await house.ask("GET", "/a:b/", {"Accept-Encoding": "gzip"})
        assert found.status == 200
        assert found.headers["content-security-policy"].startswith("default-src 'none';")
        assert found.headers["referrer-policy"] == "same-origin"
        assert found.headers["x-content-type-options"] == "nosniff"

    with_house(shelf, story, compose=lambda _: site)


def test_a_document_that_can_not_be_made_is_busy_and_told(shelf: Shelf) -> None:
    tries = []

    def fails() -> bytes:
        tries.append(1)
        if len(tries) < 3:
            raise ToolError("sign x: gpg failed")
        return b"signed"

    site = Site(
        [Document(path="x.gpg", media_type="text/plain", render=fails)], roots=(), servable={}
    )

    async def story(house: InProcess) -> None:
        for _ in range(2):
            found = await house.ask("GET", "/x.gpg")
            assert (found.status, found.headers["retry-after"]) == (503, "30")
        assert any("gpg failed" in line for line in house.lines)
        assert (await house.ask("GET", "/x.gpg")).body == b"signed"

    with_house(shelf, story, compose=lambda _: site)


def test_a_bug_is_a_line_for_the_client_and_a_traceback_for_the_log(shelf: Shelf) -> None:
    def bug() -> bytes:
        raise KeyError("secret detail")

    site = Site([Document(path="x", media_type="text/plain", render=bug)], roots=(), servable={})

    async def story(house: InProcess) -> None:
        found = await house.ask("GET", "/x")
        assert found.status == 500
        assert b"secret" not in found.body
        assert found.body.count(b"\n") == 1
        assert any("KeyError: 'secret detail'" in line for line in house.lines)

    with_house(shelf, story, compose=lambda _: site)


def test_the_access_log_has_a_line_for_each_request(shelf: Shelf) -> None:
    file = shelf.publish("web", ROOTFS)

    async def story(house: InProcess) -> None:
        await house.ask("GET", f"/{file.path}?x=1", {"User-Agent": 'evil "\x1b[31m agent'})
        (line,) = [line for line in house.lines if "squashfs" in line]
        assert line.startswith(f'<6>192.0.2.7 "GET" "/{file.path}?x=1" 200 {len(ROOTFS)} bytes ')
        assert line.endswith(' complete "evil \\"\\x1b[31m agent"')
        # systemd's sockets are for both protocols.
        await house.ask("GET", "/healthz?mapped", client="::ffff:192.0.2.7")
        assert any(line.startswith('<6>192.0.2.7 "GET" "/healthz?mapped"') for line in house.lines)
        # The server's own checks are no news.
        await house.ask("GET", "/readyz", client=None)
        assert not any("readyz" in line for line in house.lines)

    with_house(shelf, story)
