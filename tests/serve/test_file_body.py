"""Bytes of published files: open through a prune, in blocks that fit the client, never too few."""

import asyncio
import errno
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lxdocker_lxd.errors import NotFoundError
from lxdocker_lxd.serve import file_body
from lxdocker_lxd.serve.file_body import BLOCK_BYTES, ChangedFileError, Disk, OpenFile, opened
from tests.serve.shelf import Shelf

CONTENT = os.urandom(4 * BLOCK_BYTES + 17)


async def taken(file: OpenFile, start: int, stop: int) -> list[bytes]:
    with ThreadPoolExecutor(1) as executor:
        return [block async for block in file.blocks(start, stop, Disk(executor))]


@pytest.mark.parametrize(
    "part", [(0, len(CONTENT)), (5, 6), (BLOCK_BYTES, BLOCK_BYTES + 9), (3, 3)]
)
def test_exactly_the_bytes_asked_for(tmp_path: Path, part: tuple[int, int]) -> None:
    shelf = Shelf(tmp_path)
    file = opened(tmp_path, shelf.put("rootfs", CONTENT))
    blocks = asyncio.run(taken(file, *part))
    assert b"".join(blocks) == CONTENT[slice(*part)]
    assert all(len(block) <= BLOCK_BYTES for block in blocks)
    file.close()
    file.close()


def test_a_file_removed_under_way_is_still_delivered(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    published = shelf.put("rootfs", CONTENT)
    file = opened(tmp_path, published)
    (tmp_path / published.path).unlink()
    assert b"".join(asyncio.run(taken(file, 0, len(CONTENT)))) == CONTENT
    file.close()
    with pytest.raises(NotFoundError):
        opened(tmp_path, published)


def test_a_file_that_shrinks_under_way_is_an_error_not_a_short_answer(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    published = shelf.put("rootfs", CONTENT)
    file = opened(tmp_path, published)
    os.truncate(tmp_path / published.path, 1000)
    with pytest.raises(ChangedFileError, match="it ends after 1000"):
        asyncio.run(taken(file, 0, len(CONTENT)))
    file.close()


def test_slow_clients_get_small_blocks_and_fast_ones_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_body, "_SLOW_SECONDS", 0.02)
    monkeypatch.setattr(file_body, "_FAST_SECONDS", 0.01)
    shelf = Shelf(tmp_path)
    file = opened(tmp_path, shelf.put("rootfs", CONTENT))

    async def sizes() -> list[int]:
        found = []
        with ThreadPoolExecutor(1) as executor:
            async for block in file.blocks(0, len(CONTENT), Disk(executor)):
                found.append(len(block))
                if len(found) > 2:
                    time.sleep(0.03)  # noqa: ASYNC251 - a client that doesn't take it
        return found

    found = asyncio.run(sizes())
    assert found[:3] == [64 * 1024, 128 * 1024, BLOCK_BYTES]
    assert found[3:5] == [BLOCK_BYTES // 2, BLOCK_BYTES // 4]
    file.close()


def test_two_who_take_as_fast_as_they_are_given_take_turns(tmp_path: Path) -> None:
    """What is in memory is read without waiting, so nothing else would let the second one begin."""
    shelf = Shelf(tmp_path)
    published = shelf.put("rootfs", CONTENT)
    order: list[str] = []

    async def take(name: str, disk: Disk) -> bytes:
        file = opened(tmp_path, published)
        found = b""
        async for block in file.blocks(0, len(CONTENT), disk):
            order.append(name)
            found += block
        file.close()
        return found

    async def both() -> tuple[bytes, bytes]:
        with ThreadPoolExecutor(1) as executor:
            disk = Disk(executor)
            return await asyncio.gather(take("a", disk), take("b", disk))

    assert tuple(asyncio.run(both())) == (CONTENT, CONTENT)
    assert order[:4] == ["a", "b", "a", "b"]


@pytest.mark.parametrize("present_bytes", [-1, 0, 4096])
def test_what_is_not_in_memory_comes_from_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, present_bytes: int
) -> None:
    """As where a file system can't tell, where nothing is there, and where a part is."""
    preadv = os.preadv

    def in_part(descriptor: int, buffers: list[memoryview], start: int, flags: int) -> int:
        assert flags == os.RWF_NOWAIT
        if present_bytes < 0:
            raise OSError(errno.EOPNOTSUPP, "not supported")
        if present_bytes == 0 or start % (128 * 1024) > 0:
            raise BlockingIOError
        return preadv(descriptor, [buffers[0][:present_bytes]], start, 0)

    monkeypatch.setattr(os, "preadv", in_part)
    shelf = Shelf(tmp_path)
    file = opened(tmp_path, shelf.put("rootfs", CONTENT))
    blocks = asyncio.run(taken(file, 0, len(CONTENT)))
    assert b"".join(blocks) == CONTENT
    assert len(blocks) < 10
    file.close()
