"""The pipe between packer and upload: order, bounds, and either side giving up."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.importing.block_pipe import BlockPipe, PipeBrokenError


@given(st.lists(st.binary(min_size=1, max_size=9), max_size=30), st.integers(1, 12))
def test_what_goes_in_comes_out_in_order(blocks: list[bytes], most_bytes: int) -> None:
    pipe = BlockPipe(most_bytes)

    def write() -> None:
        for block in blocks:
            pipe.put(block)
        pipe.end()

    writer = threading.Thread(target=write)
    writer.start()
    assert list(pipe) == blocks
    writer.join(5)
    assert not writer.is_alive()


def test_a_writer_waits_for_a_slow_reader() -> None:
    pipe = BlockPipe(10)
    written: list[int] = []

    def write() -> None:
        for number in range(5):
            pipe.put(b"12345")
            written.append(number)
        pipe.end()

    writer = threading.Thread(target=write)
    writer.start()
    writer.join(0.2)
    assert written == [0, 1]
    reader = iter(pipe)
    next(reader)
    next(reader)
    writer.join(0.2)
    assert written == [0, 1, 2, 3]
    assert len(list(reader)) == 3
    writer.join(5)


def test_a_block_larger_than_the_pipe_passes_alone() -> None:
    pipe = BlockPipe(3)
    pipe.put(b"1234567")
    assert next(iter(pipe)) == b"1234567"


def test_who_waits_for_room_hears_that_nobody_reads_any_more() -> None:
    pipe = BlockPipe(1)
    pipe.put(b"1")
    threading.Timer(0.05, pipe.give_up).start()
    with pytest.raises(PipeBrokenError):
        pipe.put(b"2")
    with pytest.raises(PipeBrokenError):
        pipe.put(b"3")


def test_who_waits_for_blocks_hears_that_no_end_will_come() -> None:
    pipe = BlockPipe(1)
    threading.Timer(0.05, pipe.give_up).start()
    with pytest.raises(PipeBrokenError):
        list(pipe)


def test_an_end_that_was_never_said_is_no_end() -> None:
    pipe = BlockPipe(9)
    pipe.put(b"1")
    reader = iter(pipe)
    assert next(reader) == b"1"
    pipe.give_up()
    with pytest.raises(PipeBrokenError):
        next(reader)
