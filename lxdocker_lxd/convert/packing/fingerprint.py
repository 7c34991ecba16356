"""The two sums of a split image, computed in threads of their own while the file passes by.

LXD names an image by sha256 of the metadata file followed by the rootfs file; listings also need
the rootfs file's own sha256. hashlib lets other threads run meanwhile, so on two processors both
cost no more time than one.
"""

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

_WAITING_BLOCKS = 4


class RootfsSums:
    """Feed it the rootfs file's bytes in order; blocks are best 64 KiB or larger.

    Use it as a context manager: leaving it ends its threads, also after an error.
    """

    def __init__(self, metadata: bytes) -> None:
        self._own = hashlib.sha256()
        self._combined = hashlib.sha256(metadata)
        self._threads = (
            ThreadPoolExecutor(1, thread_name_prefix="sha256-rootfs"),
            ThreadPoolExecutor(1, thread_name_prefix="sha256-image"),
        )
        self._waiting: deque[tuple[Future[None], Future[None]]] = deque()
        self.size_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for threads in self._threads:
            threads.shutdown(wait=True, cancel_futures=True)

    def update(self, block: bytes) -> None:
        """Add ``block``, which mustn't change afterwards; waits when the sums are far behind."""
        self.size_bytes += len(block)
        self._waiting.append(
            (
                self._threads[0].submit(self._own.update, block),
                self._threads[1].submit(self._combined.update, block),
            )
        )
        while len(self._waiting) > _WAITING_BLOCKS:
            self._settle()

    def finish(self) -> tuple[str, str]:
        """Return the rootfs file's sha256 and the image's fingerprint, both hexadecimal."""
        while self._waiting:
            self._settle()
        return self._own.hexdigest(), self._combined.hexdigest()

    def _settle(self) -> None:
        for future in self._waiting.popleft():
            future.result()
