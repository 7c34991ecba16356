"""How the cost of reading something grows with its size: processor time and memory, not the clock.

Twice the input may cost twice as much, and a little for chance. What is quadratic costs four times
as much, however quick the machine is, so that a real fault fails each attempt.
"""

import gc
import time
import tracemalloc
from collections.abc import Callable
from typing import TypeVar

MOST_GROWTH = 2.5
_ROUNDS = 3
_ATTEMPTS = 4
# Below that the interpreter's own work counts more than the input.
_LEAST_SECONDS = 0.002
_LEAST_BYTES = 64 << 10

T = TypeVar("T")


def expect_proportional(make: Callable[[int], T], work: Callable[[T], object], size: int) -> None:
    """Fail unless ``work`` on ``make(2 * size)`` costs at most 2.5 times that on ``make(size)``."""
    small, large = make(size), make(2 * size)
    work(small)
    growths = []
    for _ in range(_ATTEMPTS):
        growths.append(_growth(lambda: work(small), lambda: work(large)))
        if growths[-1] <= MOST_GROWTH:
            break
    assert min(growths) <= MOST_GROWTH, f"twice the input takes {growths} times the time"
    memory = max(peak_bytes(lambda: work(large)), _LEAST_BYTES) / max(
        peak_bytes(lambda: work(small)), _LEAST_BYTES
    )
    assert memory <= MOST_GROWTH, f"twice the input takes {memory} times the memory"


def peak_bytes(work: Callable[[], object]) -> int:
    """Return how much more memory Python's allocator held at once during ``work`` than before."""
    gc.collect()
    tracemalloc.start()
    try:
        result = work()
        peak: int = tracemalloc.get_traced_memory()[1]
        del result
    finally:
        tracemalloc.stop()
    return peak


def _growth(small: Callable[[], object], large: Callable[[], object]) -> float:
    """Compare the best of several rounds; both take turns, so that a busy moment hits both."""
    best = [float("inf"), float("inf")]
    for _ in range(_ROUNDS):
        for place, work in enumerate((small, large)):
            gc.collect()
            started = time.process_time()
            work()
            best[place] = min(best[place], time.process_time() - started)
    return max(best[1], _LEAST_SECONDS) / max(best[0], _LEAST_SECONDS)
