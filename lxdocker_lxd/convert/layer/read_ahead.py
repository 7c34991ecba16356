"""Threads beside the one that works: one inflates the next blocks, one hashes those that passed.

Decompression and hashing release the interpreter's lock, so on two cores the walk over headers and
the copying of data cost almost nothing beside them. Queues are short: memory stays at a few blocks.
"""

import contextlib
import hashlib
import queue
import threading
from collections.abc import Iterator
from typing import Self

from lxdocker_lxd.digest import ByteStream, Digest

BLOCK_BYTES = 1 << 20
_BLOCKS_AHEAD = 6
_POLL_SECONDS = 0.2


class _Producer(threading.Thread):
    """Reads a stream block by block into a bounded queue; its errors travel the same way."""

    def __init__(self, stream: ByteStream) -> None:
        super().__init__(name="read-ahead", daemon=True)
        self.blocks: queue.Queue[bytes | BaseException] = queue.Queue(_BLOCKS_AHEAD)
        self.abandoned = threading.Event()
        self._stream = stream

    def run(self) -> None:
        item: bytes | BaseException = b""
        while True:
            try:
                item = self._stream.read(BLOCK_BYTES)
            except BaseException as error:  # noqa: BLE001 - raised again in the reading thread
                item = error
            if not self._handed_over(item) or not isinstance(item, bytes) or not item:
                return

    def _handed_over(self, item: bytes | BaseException) -> bool:
        while not self.abandoned.is_set():
            with contextlib.suppress(queue.Full):
                self.blocks.put(item, timeout=_POLL_SECONDS)
                return True
        return False


@contextlib.contextmanager
def read_ahead(stream: ByteStream) -> Iterator[Iterator[bytes]]:
    """Yield an iterator over the blocks of ``stream``, read by a thread of its own.

    Whatever ``stream.read`` raises is raised by the iterator. When the block of ``with`` ends, the
    thread has ended too, read to the end or not.
    """
    producer = _Producer(stream)
    producer.start()
    try:
        yield _blocks(producer)
    finally:
        producer.abandoned.set()
        with contextlib.suppress(queue.Empty):
            while True:
                producer.blocks.get_nowait()
        producer.join()


def _blocks(producer: _Producer) -> Iterator[bytes]:
    while True:
        item = producer.blocks.get()
        if not isinstance(item, bytes):
            raise item
        if not item:
            return
        yield item


class BackgroundHash:
    """Hashes blocks in a thread; a context manager, so that the thread ends with its block."""

    def __init__(self, algorithm: str) -> None:
        self._algorithm = algorithm
        self._hash = hashlib.new(algorithm)
        self._blocks: queue.Queue[bytes | None] = queue.Queue(_BLOCKS_AHEAD)
        self._thread = threading.Thread(target=self._run, name="hash", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self._blocks.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (block := self._blocks.get()) is not None:
            self._hash.update(block)

    def update(self, block: bytes) -> None:
        """Hash ``block`` after those given before; waits while too many are pending."""
        self._blocks.put(block)

    def digest(self) -> Digest:
        """Return the digest of everything given; no ``update`` may follow."""
        self._blocks.put(None)
        self._thread.join()
        return Digest(self._algorithm, self._hash.hexdigest())
