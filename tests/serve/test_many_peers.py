"""No client can keep the others out: what there is only so much of is shared among addresses."""

import asyncio
import os
import socket
import ssl
import threading
import time
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest

from lxdocker_lxd.serve.entry import Document
from lxdocker_lxd.serve.site import Site, SiteContext
from tests.harness.processes import eventually
from tests.serve.running import (
    Background,
    RunningServer,
    many,
    read_until,
    request,
    running,
    seconds_until_closed,
)
from tests.serve.shelf import InProcess, Shelf, scope

FULL = os.environ.get("LXDOCKER_TEST_FULL") == "1"
BIG = os.urandom(1 << 20) * 24
OTHER = "127.0.0.2"
"""Another address for the server, as another machine's would be."""


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "images")


def published(shelf: Shelf) -> str:
    return f"/{shelf.publish('web', BIG).path}"


def downloading(server: RunningServer, target: str) -> ssl.SSLSocket:
    """A connection on which a file is coming, to a client that takes nothing more for now."""
    made = server.asked(target, receive_bytes=8192)
    assert made.recv(1)
    return made


def page_seconds(server: RunningServer, source: str) -> float:
    """How long a page takes, the fastest of three: other programs of the machine count too."""
    found = []
    for _ in range(3):
        began = time.monotonic()
        got = server.get("/", source=source)
        found.append(time.monotonic() - began)
        assert (got.status, b"<html" in got.body) == (200, True)
    return min(found)


def test_who_takes_all_downloads_leaves_room_for_another(shelf: Shelf, tmp_path: Path) -> None:
    """128 that took a few kB a second kept everybody else out, for a minute at a time."""
    target = published(shelf)
    with (
        running(shelf, tmp_path, "--downloads", "8", "--metrics", "all") as server,
        many(8, lambda: downloading(server, target)),
    ):
        assert b"downloads 8\n" in server.get("/metrics").body
        assert server.get(target).status == 503
        found = server.get(target, source=OTHER)
        assert (found.status, len(found.body)) == (200, len(BIG))
        eventually(
            lambda: " displaced " in server.log.read_text(), timeout_seconds=5, what="its end"
        )
        assert server.log.read_text().count(" displaced ") == 1


@pytest.mark.parametrize("busy_with", ["nothing", "a handshake", "downloads"])
def test_a_thousand_connections_of_one_address_and_one_of_another(
    shelf: Shelf, tmp_path: Path, busy_with: str
) -> None:
    """With all of them busy nobody else was accepted."""
    count = 1000 if FULL else 120
    target = published(shelf)

    def connect() -> socket.socket:
        if busy_with == "a handshake":
            return server.plain()
        if busy_with == "nothing":
            return server.tls()
        return downloading(server, target)

    limits = ("--connections", str(count), "--downloads", "2000", "--stall-timeout", "600")
    with (
        running(shelf, tmp_path, *limits) as server,
        many(count, connect),
    ):
        assert page_seconds(server, OTHER) < 1

        def come_again() -> None:
            with server.plain():
                time.sleep(0.01)

        others = [Background(come_again) for _ in range(2)]
        assert page_seconds(server, OTHER) < 1
        for other in others:
            other.end()


def test_one_address_has_all_connections_while_nobody_else_comes(
    shelf: Shelf, tmp_path: Path
) -> None:
    """So have all clients behind a proxy."""
    target = published(shelf)
    with (
        running(shelf, tmp_path, "--connections", "10", "--metrics", "all") as server,
        many(9, lambda: downloading(server, target)),
    ):
        for _ in range(3):
            assert b"downloads 9" in server.get("/metrics").body
        with many(5, server.plain):
            assert server.get("/healthz").status == 200
        assert " displaced " not in server.log.read_text()
        assert b"downloads 9" in server.get("/metrics").body


def test_a_client_without_a_place_waits_for_one_and_nobody_waits_behind_it(
    shelf: Shelf, tmp_path: Path
) -> None:
    """Nothing more was accepted from anybody."""
    target = published(shelf)
    with (
        running(shelf, tmp_path, "--connections", "5") as server,
        many(5, lambda: downloading(server, target)),
        server.plain() as waiting,
    ):
        # One of the five makes room for this one, whose place is then free.
        assert server.get("/healthz", source=OTHER).status == 200
        with server.client_context.wrap_socket(waiting, server_hostname="127.0.0.1") as admitted:
            admitted.sendall(request("/healthz"))
            read_until(admitted, b"ok\n")


@pytest.mark.full
def test_a_client_that_waits_too_long_for_a_place_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    target = published(shelf)
    with (
        running(shelf, tmp_path, "--connections", "3") as server,
        many(3, lambda: downloading(server, target)),
        server.plain() as waiting,
    ):
        assert 8 < seconds_until_closed(waiting) < 15
        assert server.get("/healthz", source=OTHER).status == 200


# ---- within the server


def with_house(shelf: Shelf, story: Any, **changes: Any) -> None:
    async def run() -> None:
        async with shelf.open(**changes) as house:
            await asyncio.wait_for(story(house), 30)

    asyncio.run(run())


async def ask(house: InProcess, done: list[str], name: str, target: str, client: str) -> None:
    assert (await house.ask("GET", target, client=client)).status == 200
    done.append(name)


def test_searches_of_one_peer_are_made_one_after_the_other(shelf: Shelf) -> None:
    """They filled both threads; another's search came after all of them."""
    published(shelf)
    done: list[str] = []

    async def story(house: InProcess) -> None:
        async with asyncio.TaskGroup() as all_of_them:
            for number in range(30):
                target = f"/?q=word{number}"
                all_of_them.create_task(ask(house, done, "one", target, "192.0.2.1"))
            await asyncio.sleep(0)
            all_of_them.create_task(ask(house, done, "other", "/?q=web", "192.0.2.2"))

    with_house(shelf, story)
    assert done.index("other") < 5


def test_what_was_searched_before_is_kept(shelf: Shelf) -> None:
    """Each was rendered and packed anew."""
    published(shelf)

    async def story(house: InProcess) -> None:
        first = await house.ask("GET", "/?q=web")
        kept = house.publication.current.searches.kept_bytes
        assert kept > 0
        assert (await house.ask("GET", "/?q=web")).body == first.body
        assert house.publication.current.searches.kept_bytes == kept
        shelf.publish("other", b"x")
        assert b"other" in (await house.ask("GET", "/?q=other")).body

    with_house(shelf, story)


def test_searches_whose_clients_have_gone_are_not_made(shelf: Shelf) -> None:
    published(shelf)

    async def story(house: InProcess) -> None:
        gone = asyncio.Event()

        async def receive() -> MutableMapping[str, Any]:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(_: MutableMapping[str, Any]) -> None:
            return

        async def left(target: str) -> None:
            await house.app(scope("GET", target), receive, send)

        async with asyncio.TaskGroup() as all_of_them:
            for number in range(60):
                all_of_them.create_task(left(f"/?q=word{number}"))
            gone.set()
        await house.ask("GET", "/?q=web")
        searches = house.publication.current.searches
        made = [
            number
            for number in range(60)
            if searches.has(Document(path=f"?q=word{number}", media_type="", render=bytes))
        ]
        assert len(made) < 5

    with_house(shelf, story)


def test_signatures_over_large_files_keep_no_page_waiting(shelf: Shelf) -> None:
    """Two of them were enough: they had both threads, and one lock for all signatures."""
    gate = threading.Event()

    def compose(_: SiteContext) -> Site:
        slow = [
            Document(
                path=f"{number}.asc",
                media_type="text/plain",
                render=lambda: b"signed" if gate.wait(20) else b"too late",
                reads_file=True,
            )
            for number in range(5)
        ]
        page = Document(path="page", media_type="text/plain", render=lambda: b"a page")
        return Site([*slow, page], roots=("",), servable={})

    async def story(house: InProcess) -> None:
        waiting = [
            asyncio.create_task(house.ask("GET", f"/{number}.asc", client=f"192.0.2.{number % 2}"))
            for number in range(5)
        ]
        await asyncio.sleep(0.05)
        assert (await house.ask("GET", "/page", client="192.0.2.1")).body == b"a page"
        assert not any(task.done() for task in waiting)
        gate.set()
        assert {(await task).body for task in waiting} == {b"signed"}

    with_house(shelf, story, compose=compose)


def test_a_site_that_is_not_ready_says_why_without_paths(shelf: Shelf, tmp_path: Path) -> None:
    """A proxy on this machine, such as LXD's proxy device, passes strangers on without a word."""
    published(shelf)
    with running(shelf, tmp_path) as server:
        (shelf.directory / "catalogue.json").write_text("nonsense")
        eventually(lambda: server.get("/readyz").status == 503, timeout_seconds=5, what="it")
        assert server.get("/readyz").body == b"not ready: the catalogue can't be read\n"
        assert str(shelf.directory) in server.log.read_text()


def test_nobody_reads_the_metrics_unless_it_was_asked_for(shelf: Shelf, tmp_path: Path) -> None:
    """This machine could, and with it everybody behind LXD's proxy device."""
    with running(shelf, tmp_path) as server:
        assert server.get("/metrics").status == 403
    with running(shelf, tmp_path, "--metrics", "local") as server:
        assert server.get("/metrics").status == 200


def test_a_download_that_is_displaced_ends_its_connection(shelf: Shelf, tmp_path: Path) -> None:
    target = published(shelf)
    with (
        running(shelf, tmp_path, "--downloads", "2", "--stall-timeout", "2") as server,
        many(2, lambda: downloading(server, target)),
    ):
        files = server.open_files
        assert server.get(target, source=OTHER).status == 200
        eventually(lambda: server.open_files < files, timeout_seconds=10, what="its end")
