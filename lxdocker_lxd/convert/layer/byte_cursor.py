"""A position in a stream of blocks: take bytes, or pass them without a copy."""

from collections.abc import Iterator


class ByteCursor:
    """Takes and skips bytes of a stream that comes in blocks of any size."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._block = b""
        self._at = 0
        self._passed_bytes = 0

    @property
    def position_bytes(self) -> int:
        """Bytes taken or skipped so far."""
        return self._passed_bytes + self._at

    def take(self, size: int) -> bytes:
        """Return the next ``size`` bytes; fewer only where the stream ends."""
        end = self._at + size
        data = self._block[self._at : end]
        self._at += len(data)
        if len(data) == size:
            return data
        parts = [data]
        missing = size - len(data)
        while missing and self._next_block():
            part = self._block[:missing]
            self._at = len(part)
            missing -= len(part)
            parts.append(part)
        return b"".join(parts)

    def skip(self, size: int) -> bool:
        """Pass ``size`` bytes; say whether they were there."""
        while size > len(self._block) - self._at:
            size -= len(self._block) - self._at
            if not self._next_block():
                return False
        self._at += size
        return True

    def _next_block(self) -> bool:
        self._passed_bytes += len(self._block)
        self._block = next(self._blocks, b"")
        self._at = 0
        return bool(self._block)
