"""The served site follows the catalogue: at once, whole, and never to something broken."""

import asyncio
import os
import shutil
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lxdocker_lxd.serve.entry import Document
from lxdocker_lxd.serve.publication import FRESH_SECONDS
from lxdocker_lxd.serve.site import Site, SiteContext
from tests.serve.shelf import InProcess, Shelf


def names(house: InProcess) -> list[str]:
    return [one.name for one in house.publication.current.context.catalogue.products]


def test_a_new_catalogue_is_served_at_the_next_look(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)

    async def story() -> None:
        async with shelf.open() as house:
            # An empty directory is a server with nothing to serve yet.
            assert names(house) == []
            assert house.publication.problem is None
            assert (await house.ask("GET", "/streams/v1/index.json")).status == 200
            shelf.publish("web", b"1")
            assert await house.publication.refresh()
            assert names(house) == ["web"]
            assert not await house.publication.refresh()
            first = house.publication.current
            shelf.publish("db", b"2")
            assert await house.publication.refresh()
            assert names(house) == ["db", "web"]
            assert house.publication.current is not first

    asyncio.run(story())


def test_who_asks_right_after_a_change_gets_the_new_listing(tmp_path: Path) -> None:
    """LXD would keep a listing from before a version for an hour."""
    shelf = Shelf(tmp_path)

    async def story() -> None:
        async with shelf.open() as house:
            for number in range(5):
                shelf.publish(f"web{number}", b"1")
                asked = [house.ask("GET", "/streams/v1/images.json") for _ in range(4)]
                for reply in await asyncio.gather(*asked):
                    assert f"lxdocker:web{number}:amd64".encode() in reply.body

    asyncio.run(story())


def test_a_broken_catalogue_makes_nobody_wait_twice(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.publish("web", b"1")

    async def story() -> None:
        async with shelf.open() as house:
            (tmp_path / "catalogue.json").write_bytes(b"{")
            for _ in range(3):
                began = asyncio.get_running_loop().time()
                reply = await house.ask("GET", "/streams/v1/images.json")
                assert b"lxdocker:web:amd64" in reply.body
                assert asyncio.get_running_loop().time() - began < FRESH_SECONDS

    asyncio.run(story())


def test_two_catalogues_that_look_the_same_from_outside_are_told_apart(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.publish("web", b"1")
    other = Shelf(tmp_path / "other")
    other.publish("abc", b"1")

    async def story() -> None:
        async with shelf.open() as house:
            document = tmp_path / "catalogue.json"
            status = document.stat()
            # Written in place: same inode, same size, and the time set back.
            content = document.read_bytes().replace(b'"web"', b'"www"')
            document.write_bytes(content)
            os.utime(document, ns=(status.st_atime_ns, status.st_mtime_ns))
            await house.publication.refresh()
            assert names(house) == ["www"]

    asyncio.run(story())


def test_the_watch_finds_it_by_itself(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)

    async def story() -> None:
        async with shelf.open() as house:
            watching = asyncio.create_task(house.publication.watch())
            shelf.publish("web", b"1")
            async with asyncio.timeout(5):
                while names(house) != ["web"]:  # noqa: ASYNC110 - nobody tells of it
                    await asyncio.sleep(0.01)
            watching.cancel()

    asyncio.run(story())


@pytest.mark.parametrize("broken", [b"{", b"", b'{"format": 99}', b"\xff\xfe", b"[]"])
def test_a_broken_catalogue_leaves_the_last_good_site(tmp_path: Path, broken: bytes) -> None:
    shelf = Shelf(tmp_path)
    shelf.publish("web", b"1")
    good = (tmp_path / "catalogue.json").read_bytes()

    async def story() -> None:
        async with shelf.open() as house:
            (tmp_path / "catalogue.json").write_bytes(broken)
            for _ in range(30):
                assert not await house.publication.refresh()
            assert names(house) == ["web"]
            assert (await house.ask("GET", "/readyz")).status == 503
            assert (await house.ask("GET", "/streams/v1/images.json")).status == 200
            # Told once, however often it is looked at.
            assert len([line for line in house.lines if line.startswith("<3>")]) == 1
            (tmp_path / "catalogue.json").write_bytes(good)
            await house.publication.refresh()
            assert (await house.ask("GET", "/readyz")).status == 200

    asyncio.run(story())


def test_a_broken_catalogue_at_the_start_lists_nothing_not_even_emptiness(tmp_path: Path) -> None:
    """LXD would keep an empty listing for an hour; at an error it stays with the one it has."""
    shelf = Shelf(tmp_path)
    (tmp_path / "catalogue.json").write_bytes(b"{")

    async def story() -> None:
        async with shelf.open() as house:
            assert (await house.ask("GET", "/readyz")).status == 503
            assert (await house.ask("GET", "/healthz")).status == 200
            for target in ("/", "/streams/v1/index.json", "/streams/v1/images.json", "/nothing"):
                found = await house.ask("GET", target)
                assert (found.status, found.headers["retry-after"]) == (503, "30")
                assert found.body == b"the images can't be listed yet\n"
            (tmp_path / "catalogue.json").unlink()
            shelf.publish("web", b"1")
            await house.publication.refresh()
            assert names(house) == ["web"]
            assert house.publication.problem is None

    asyncio.run(story())


def test_a_catalogue_that_vanishes_takes_nothing_with_it(tmp_path: Path) -> None:
    """An unmounted disk looks like an empty directory."""
    shelf = Shelf(tmp_path / "images")
    shelf.publish("web", b"1")

    async def story() -> None:
        async with shelf.open() as house:
            (tmp_path / "images").rename(tmp_path / "away")
            await house.publication.refresh()
            assert names(house) == ["web"]
            assert house.publication.problem is not None
            assert "does not exist" in house.publication.problem
            (tmp_path / "images").mkdir()
            await house.publication.refresh()
            assert "is gone; serving what it held last" in house.publication.problem
            shutil.rmtree(tmp_path / "images")
            (tmp_path / "away").rename(tmp_path / "images")
            await house.publication.refresh()
            assert house.publication.problem is None

    asyncio.run(story())


def test_a_directory_that_does_not_exist_yet_is_told_and_awaited(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "images")
    shutil.rmtree(tmp_path / "images")

    async def story() -> None:
        async with shelf.open() as house:
            assert "does not exist" in (house.publication.problem or "")
            assert (await house.ask("GET", "/streams/v1/index.json")).status == 503
            Shelf(tmp_path / "images").publish("web", b"1")
            await house.publication.refresh()
            assert (names(house), house.publication.problem) == (["web"], None)

    asyncio.run(story())


def test_what_clients_asked_for_is_rendered_before_the_swap(tmp_path: Path) -> None:
    """A new site comes with its popular documents made, and nobody sees half of one."""
    shelf = Shelf(tmp_path)
    shelf.publish("web", b"1")
    gate = threading.Event()
    gate.set()
    rendered: list[str] = []

    def compose(context: SiteContext) -> Site:
        serial = str(len(context.catalogue.products))

        def entry(path: str) -> Document:
            def render() -> bytes:
                gate.wait(5)
                rendered.append(f"{path} {serial}")
                return serial.encode()

            return Document(path=path, media_type="text/plain", render=render)

        return Site(
            [entry("streams/v1/index.json"), entry("asked"), entry("never")],
            roots=("",),
            servable={},
        )

    async def story() -> None:
        async with shelf.open(compose=compose) as house:
            assert rendered == ["streams/v1/index.json 1"]
            assert (await house.ask("GET", "/asked")).body == b"1"
            rendered.clear()
            gate.clear()
            shelf.publish("db", b"2")
            refreshing = asyncio.create_task(house.publication.refresh())
            await asyncio.sleep(0.05)
            old = house.publication.current
            waiting = asyncio.create_task(house.ask("GET", "/asked"))
            await asyncio.sleep(0.05)
            assert house.publication.current is old
            gate.set()
            await refreshing
            assert (await waiting).body == b"2"
            # Rendered before the swap, once; what nobody asked for not at all.
            assert sorted(rendered) == ["asked 2", "streams/v1/index.json 2"]

    asyncio.run(story())


def failing(path: str) -> Document:
    def fails() -> bytes:
        raise KeyError("no")

    return Document(path=path, media_type="a/b", render=fails)


def test_a_signature_that_fails_keeps_no_site_back(tmp_path: Path) -> None:
    """It would otherwise leave an old list in service for ever."""
    shelf = Shelf(tmp_path)

    def compose(_: SiteContext) -> Site:
        return Site([failing("streams/v1/index.json.gpg")], roots=("",), servable={})

    async def story() -> None:
        async with shelf.open(compose=compose) as house:
            assert (await house.ask("GET", "/streams/v1/index.json.gpg")).status == 500
            shelf.publish("web", b"1")
            await house.publication.refresh()
            assert (names(house), house.publication.problem) == (["web"], None)

    asyncio.run(story())


def test_a_list_that_can_not_be_made_leaves_the_last_good_one(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.publish("web", b"1")

    def compose(context: SiteContext) -> Site:
        many = len(context.catalogue.products) > 1
        return Site([failing("streams/v1/index.json")] if many else [], roots=(), servable={})

    async def story() -> None:
        async with shelf.open(compose=compose) as house:
            shelf.publish("db", b"1")
            await house.publication.refresh()
            assert names(house) == ["web"]
            assert house.publication.problem is not None

    asyncio.run(story())


def test_a_site_changes_with_the_time_too(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.publish("web", b"1")
    clock = [datetime(2026, 3, 1, tzinfo=UTC)]

    def compose(context: SiteContext) -> Site:
        text = str(context.at).encode()
        page = Document(path="x", media_type="text/plain", render=lambda: text)
        due = datetime(2026, 3, 2, tzinfo=UTC)
        return Site([page], roots=(), servable={}, next_change=due if context.at < due else None)

    async def story() -> None:
        async with shelf.open(compose=compose, now=lambda: clock[0]) as house:
            for hours, shown in ((23, b"2026-03-01"), (24, b"2026-03-02"), (48, b"2026-03-02")):
                clock[0] = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(hours=hours)
                for _ in range(12):
                    await house.publication.refresh()
                assert (await house.ask("GET", "/x")).body.startswith(shown)

    asyncio.run(story())


def test_a_bug_in_a_part_ends_neither_the_watch_nor_the_service(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.publish("web", b"1")

    def compose(context: SiteContext) -> Site:
        if any(product.name == "bad" for product in context.catalogue.products):
            raise ZeroDivisionError("bug")
        return Site([], roots=(), servable={})

    async def story() -> None:
        async with shelf.open(compose=compose) as house:
            shelf.publish("bad", b"2")
            for _ in range(15):
                await house.publication.refresh()
            assert names(house) == ["web"]
            assert len([line for line in house.lines if "ZeroDivisionError" in line]) == 1
            assert house.publication.problem is not None

    asyncio.run(story())
