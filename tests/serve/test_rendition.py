"""Documents are rendered once, in a thread, for all who wait; memory has a bound."""

import asyncio
import gzip
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from lxdocker_lxd.serve.entry import Document
from lxdocker_lxd.serve.rendition import Renditions, rendition


def document(path: str, render: Callable[[], bytes]) -> Document:
    return Document(path=path, media_type="application/json", render=render)


def test_the_same_bytes_give_the_same_rendition() -> None:
    content = b'{"a": 1}' * 500
    first, second = rendition(content, "application/json"), rendition(content, "application/json")
    assert first == second
    assert first.packed is not None
    assert gzip.decompress(first.packed) == content
    assert first.etag.startswith("sha256:")
    assert first.packed_etag != first.etag


def test_what_gains_nothing_is_not_packed() -> None:
    assert rendition(b"{}", "application/json").packed is None
    assert rendition(b"x" * 5000, "image/png").packed is None


def test_many_who_wait_share_one_rendering() -> None:
    made: list[int] = []
    gate = threading.Event()

    def render() -> bytes:
        made.append(1)
        gate.wait(5)
        return b"once"

    async def story() -> None:
        with ThreadPoolExecutor(2) as executor:
            renditions = Renditions(executor)
            waiting = [asyncio.create_task(renditions.of(document("x", render))) for _ in range(9)]
            await asyncio.sleep(0.01)
            # One goes away; the rendering goes on for the others.
            waiting[0].cancel()
            await asyncio.sleep(0.01)
            gate.set()
            found = await asyncio.gather(*waiting[1:])
            assert {one.content for one in found} == {b"once"}
            assert (await renditions.of(document("x", render))).content == b"once"

    asyncio.run(story())
    assert made == [1]


def test_a_failure_reaches_everyone_and_is_forgotten() -> None:
    answers = iter([KeyError("no"), None])

    def render() -> bytes:
        if (error := next(answers)) is not None:
            raise error
        return b"yes"

    async def story() -> None:
        with ThreadPoolExecutor(1) as executor:
            renditions = Renditions(executor)
            with pytest.raises(KeyError):
                await renditions.of(document("x", render))
            assert (await renditions.of(document("x", render))).content == b"yes"

    asyncio.run(story())


def test_the_least_used_leave_when_memory_is_full() -> None:
    made: list[str] = []

    def page(name: str) -> Document:
        def render() -> bytes:
            made.append(name)
            return name.encode() * 100

        return Document(path=name, media_type="image/png", render=render)

    async def story() -> None:
        with ThreadPoolExecutor(1) as executor:
            renditions = Renditions(executor, most_bytes=250)
            for name in ("a", "b", "a", "c", "a", "b"):
                await renditions.of(page(name))
                assert renditions.kept_bytes <= 250
            assert renditions.popular(2) == ("a", "b")

    asyncio.run(story())
    assert made == ["a", "b", "c", "b"]


def test_one_document_larger_than_the_bound_is_kept_alone() -> None:
    async def story() -> None:
        with ThreadPoolExecutor(1) as executor:
            renditions = Renditions(executor, most_bytes=10)
            await renditions.of(document("x", lambda: b"0123456789abcdef"))
            assert renditions.kept_bytes == 16
            await renditions.of(document("y", lambda: b"small"))
            assert renditions.kept_bytes == 5

    asyncio.run(story())
