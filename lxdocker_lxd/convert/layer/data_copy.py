"""Copy pieces of an inflated layer to the output, reading it once from start to end."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from lxdocker_lxd import atomic
from lxdocker_lxd.convert.layer.compression import inflate
from lxdocker_lxd.convert.layer.errors import CorruptStreamError, LayerError
from lxdocker_lxd.convert.layer.read_ahead import BackgroundHash, read_ahead
from lxdocker_lxd.convert.layer.stream_output import StreamOutput
from lxdocker_lxd.digest import Digest, DigestMismatchError


@contextlib.contextmanager
def opened(layer: Path, diff_id: Digest | None) -> Iterator[Iterator[bytes]]:
    """Yield the inflated blocks of a stored layer, inflated in a thread; errors name the file.

    With ``diff_id`` the blocks are hashed as they pass, and the end of the iteration is the check.
    Raises CorruptStreamError, DigestMismatchError and StorageError.
    """
    try:
        file = layer.open("rb", buffering=0)
    except OSError as error:
        raise atomic.storage_error("read layer", layer, error) from error
    with file:
        try:
            with read_ahead(inflate(file)) as blocks:
                if diff_id is None:
                    yield blocks
                else:
                    with BackgroundHash(diff_id.algorithm) as background:
                        yield _verified(blocks, background, diff_id, layer)
        except LayerError as error:
            raise error.at(layer=str(layer), entry=None) from error


def _verified(
    blocks: Iterator[bytes],
    background: BackgroundHash,
    diff_id: Digest,
    layer: Path,
) -> Iterator[bytes]:
    for block in blocks:
        background.update(block)
        yield block
    got = background.digest()
    if got != diff_id:
        raise DigestMismatchError(f"layer {layer}: expected diff_id {diff_id}, got {got}")


class LayerCopy:
    """Copies the data of surviving files out of one inflated layer, from start to end."""

    def __init__(self, blocks: Iterator[bytes], output: StreamOutput) -> None:
        self._blocks = blocks
        self._output = output
        self._view = memoryview(b"")
        self._start_bytes = 0

    def seek(self, offset_bytes: int) -> None:
        """Pass what lies before ``offset_bytes``."""
        while offset_bytes >= self._start_bytes + len(self._view):
            self._next_block()

    def copy(self, offset_bytes: int, size_bytes: int) -> None:
        """Write ``size_bytes`` of the layer from ``offset_bytes`` on."""
        if not size_bytes:
            return
        self.seek(offset_bytes)
        at = offset_bytes - self._start_bytes
        while True:
            piece = self._view[at : at + size_bytes]
            self._output.data(piece)
            size_bytes -= len(piece)
            if not size_bytes:
                return
            self._next_block()
            at = 0

    def finish(self) -> None:
        """Read to the end: that is where the compressed stream's own checksum is compared."""
        for _ in self._blocks:
            pass

    def _next_block(self) -> None:
        self._start_bytes += len(self._view)
        block = next(self._blocks, b"")
        if not block:
            raise CorruptStreamError("the stored layer is shorter than when it was scanned")
        self._view = memoryview(block)
