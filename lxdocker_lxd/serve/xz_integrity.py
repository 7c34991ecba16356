"""Whether an xz file is whole: its own checks, without keeping what is in it."""

import lzma

_MEMORY_BYTES = 256 << 20
_OUTPUT_BYTES = 1 << 20


class XzIntegrity:
    """Takes a file block by block; ``problem`` says what is wrong with it."""

    def __init__(self) -> None:
        self._stream = self._next()
        self._broken = ""

    def take(self, block: bytes) -> None:
        """Look at the next block."""
        if self._broken:
            return
        try:
            self._decode(block)
        except lzma.LZMAError as error:
            self._broken = f"broken xz: {error}"

    def _decode(self, block: bytes) -> None:
        while block:
            if self._stream.eof:
                # Several streams may follow each other, with zeros between.
                block = block.lstrip(b"\0")
                if not block:
                    return
                self._stream = self._next()
            self._stream.decompress(block, _OUTPUT_BYTES)
            while not self._stream.eof and not self._stream.needs_input:
                self._stream.decompress(b"", _OUTPUT_BYTES)
            block = self._stream.unused_data

    def _next(self) -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY_BYTES)

    @property
    def problem(self) -> str:
        """What is wrong, after the last block; empty when nothing is."""
        return self._broken or ("" if self._stream.eof else "it ends within an xz stream")
