"""A bounded pipe between two threads: who writes waits for who reads, and either may give up."""

import threading
from collections import deque
from collections.abc import Iterator


class PipeBrokenError(Exception):
    """The other side gave up. Never told to a user: what made it give up is."""


class BlockPipe:
    """Blocks of bytes in order, for one writer and one reader.

    It holds at most ``most_bytes``, or one block where that is larger.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._blocks: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._ended = False
        self._broken = False
        self._changed = threading.Condition()

    def put(self, block: bytes) -> None:
        """Add a block when there is room; raise PipeBrokenError when nobody will read it."""
        with self._changed:
            while self._blocks and self._waiting_bytes + len(block) > self._most_bytes:
                if self._broken:
                    break
                self._changed.wait()
            if self._broken:
                raise PipeBrokenError
            self._blocks.append(block)
            self._waiting_bytes += len(block)
            self._changed.notify_all()

    def end(self) -> None:
        """Say that no block follows; those that wait are still read."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def give_up(self) -> None:
        """End both sides: what waits is dropped, and the other side gets PipeBrokenError."""
        with self._changed:
            self._broken = True
            self._blocks.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[bytes]:
        """Yield the blocks; raise PipeBrokenError unless the writer ended properly."""
        while True:
            with self._changed:
                while not (self._blocks or self._ended or self._broken):
                    self._changed.wait()
                if self._broken:
                    raise PipeBrokenError
                if not self._blocks:
                    return
                block = self._blocks.popleft()
                self._waiting_bytes -= len(block)
                self._changed.notify_all()
            yield block
