"""Places for limited work."""

import resource
import threading

import pytest

from lxdocker_lxd.convert.slots import Slots


def test_a_place_isnt_lost_where_no_thread_can_be_started() -> None:
    """A stack larger than the memory we may have stands for a process with too many threads."""
    slots = Slots(1, seconds=60)
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    stack_bytes = threading.stack_size(4 << 30)
    resource.setrlimit(resource.RLIMIT_DATA, (2 << 30, limits[1]))
    try:
        with pytest.raises(RuntimeError, match="thread"), slots.taken():
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, limits)
        threading.stack_size(stack_bytes)
    taken = threading.Event()

    def take() -> None:
        with slots.taken():
            taken.set()

    threading.Thread(target=take, daemon=True).start()
    assert taken.wait(10)
