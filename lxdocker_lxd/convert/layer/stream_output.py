"""Collect small writes into large ones on the way to a packer."""

from collections.abc import Callable

Sink = Callable[[bytes | bytearray | memoryview], object]

_FLUSH_BYTES = 1 << 20
_DIRECT_BYTES = 1 << 17
_ZEROS = memoryview(bytes(_FLUSH_BYTES))


class StreamOutput:
    """Passes bytes to a sink in pieces of about 1 MiB, in order.

    The sink must have taken all of a piece when it returns: pieces are reused.
    """

    def __init__(self, sink: Sink, on_bytes: Callable[[int], None] | None) -> None:
        self._sink = sink
        self._on_bytes = on_bytes
        self._buffer = bytearray()
        self.written_bytes = 0

    def small(self, data: bytes) -> None:
        """Write a few bytes."""
        self._buffer += data
        if len(self._buffer) >= _FLUSH_BYTES:
            self.flush()

    def data(self, data: memoryview) -> None:
        """Write any number of bytes; large pieces pass without a copy."""
        if len(data) < _DIRECT_BYTES:
            self._buffer += data
            if len(self._buffer) >= _FLUSH_BYTES:
                self.flush()
        else:
            self.flush()
            self._pass(data)

    def zeros(self, count: int) -> None:
        """Write ``count`` zero bytes."""
        if count < _DIRECT_BYTES:
            self._buffer += _ZEROS[:count]
            return
        self.flush()
        while count:
            piece = _ZEROS[:count]
            self._pass(piece)
            count -= len(piece)

    def flush(self) -> None:
        """Pass on what has been collected."""
        if self._buffer:
            # A new buffer each time: the sink may keep a view of the old one.
            piece, self._buffer = self._buffer, bytearray()
            self._pass(piece)

    def _pass(self, piece: bytearray | memoryview) -> None:
        self._sink(piece)
        self.written_bytes += len(piece)
        if self._on_bytes is not None:
            self._on_bytes(len(piece))
