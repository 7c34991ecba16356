"""Places for work that is limited in number, but must not wait for work that waits for others."""

import contextlib
import threading
from collections.abc import Iterator


class Slots:
    """So many places. Work that takes long gives its place up and goes on without one.

    So whoever holds things up, a slow server say, holds up others for ``seconds`` at most.
    """

    def __init__(self, count: int, *, seconds: float) -> None:
        self._free = threading.Semaphore(count)
        self._seconds = seconds

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for a place and hold it for the block, or for as long as it may be held."""
        self._free.acquire()
        place = _Place(self._free)
        timer = threading.Timer(self._seconds, place.leave)
        timer.daemon = True
        try:
            # Where no thread can be started, the place must not be lost as well.
            timer.start()
            yield
        finally:
            timer.cancel()
            place.leave()


class _Place:
    """One place, which can be left once."""

    def __init__(self, free: threading.Semaphore) -> None:
        self._free = free
        self._lock = threading.Lock()
        self._left = False

    def leave(self) -> None:
        with self._lock:
            if not self._left:
                self._left = True
                self._free.release()
