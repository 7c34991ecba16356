"""Root filesystems as tar files: plain, or compressed in threads with the same bytes every time.

The bytes depend on the input, the algorithm, its level and the compressing library, never on the
number of processors: the stream is cut into blocks of a fixed size which are compressed apart.

* gzip: one member; each block is a piece of one deflate stream that starts with the last 32 KiB
  before it as its dictionary (the way of pigz), header without name and time (RFC 1952).
* xz: each block is a stream of its own; readers take several (xz(1), file format 2.0).
* zstd: one frame, the library's own threads; any number from one on gives the same frame.
"""

import os
import platform
import struct
import sys
import zlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from lzma import FORMAT_XZ
from lzma import compress as lzma_compress
from typing import Protocol

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_GZIP_BLOCK_BYTES = 512 << 10
_XZ_BLOCK_BYTES = 8 << 20
_PLAIN_BLOCK_BYTES = 1 << 20
_DICTIONARY_BYTES = 32 << 10
_GZIP_HEADER = bytes((0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255))
_RAW_DEFLATE = -15

Output = Callable[[bytes], None]


class TarSink(Protocol):
    """Takes the bytes of a tar file in order; ``close`` ends it and writes what is left."""

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Take all of ``data`` (it may be reused afterwards) and return its length."""
        ...

    def close(self) -> None:
        """End the stream; what was compressed is then all written."""
        ...


def compressor_version(algorithm: str) -> str:
    """Return what makes the bytes of an algorithm: another version may make others.

    Python doesn't tell liblzma's version, so its own stands for that.
    """
    if algorithm == "zstd":
        return "zstd " + ".".join(map(str, zstd.zstd_version_info))
    if algorithm == "xz":
        return f"liblzma of Python {platform.python_version()}"
    return f"zlib {zlib.ZLIB_RUNTIME_VERSION}"


def open_sink(algorithm: str, level: int, output: Output, stack: ExitStack) -> TarSink:
    """Return a sink that compresses to ``output``; its threads end with ``stack``."""
    if algorithm == "zstd":
        return _ZstdSink(level, output)
    if algorithm == "none":
        return _PlainSink(output)
    workers = os.cpu_count() or 1
    threads = stack.enter_context(ThreadPoolExecutor(workers, thread_name_prefix=algorithm))
    if algorithm == "gzip":
        return _GzipSink(level, output, threads, workers)
    return _XzSink(level, output, threads, workers)


class _Blocks:
    """Cuts what is written into blocks of one size."""

    def __init__(self, block_bytes: int) -> None:
        self._block_bytes = block_bytes
        self._pending = bytearray()

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        view = memoryview(data).cast("B")
        taken_bytes = 0
        while taken_bytes < len(view):
            room = self._block_bytes - len(self._pending)
            piece = view[taken_bytes : taken_bytes + room]
            self._pending += piece
            taken_bytes += len(piece)
            if len(self._pending) == self._block_bytes:
                self._flush()
        return len(view)

    def _flush(self) -> None:
        block = bytes(self._pending)
        self._pending.clear()
        self._block(block)

    def _block(self, block: bytes) -> None:
        raise NotImplementedError


class _PlainSink(_Blocks):
    """No compression; small writes are still gathered, sums and disk like large ones."""

    def __init__(self, output: Output) -> None:
        super().__init__(_PLAIN_BLOCK_BYTES)
        self._output = output

    def _block(self, block: bytes) -> None:
        self._output(block)

    def close(self) -> None:
        self._flush()


class _Parallel(_Blocks):
    """Compresses blocks in threads and writes the results in order; memory stays bounded."""

    def __init__(
        self, block_bytes: int, output: Output, threads: ThreadPoolExecutor, workers: int
    ) -> None:
        super().__init__(block_bytes)
        self._output = output
        self._threads = threads
        self._limit = workers + 2
        self._running: deque[Future[bytes]] = deque()

    def _submit(self, job: Callable[[], bytes]) -> None:
        self._running.append(self._threads.submit(job))
        while len(self._running) > self._limit:
            self._output(self._running.popleft().result())

    def _drain(self) -> None:
        while self._running:
            self._output(self._running.popleft().result())


class _GzipSink(_Parallel):
    def __init__(
        self, level: int, output: Output, threads: ThreadPoolExecutor, workers: int
    ) -> None:
        super().__init__(_GZIP_BLOCK_BYTES, output, threads, workers)
        self._level = level
        self._dictionary = b""
        self._checksum = 0
        self._size_bytes = 0
        output(_GZIP_HEADER)

    def _block(self, block: bytes) -> None:
        self._checksum = zlib.crc32(block, self._checksum)
        self._size_bytes += len(block)
        self._submit(partial(_deflate, block, self._dictionary, self._level))
        self._dictionary = block[-_DICTIONARY_BYTES:]

    def close(self) -> None:
        self._flush()
        self._drain()
        # An empty final block ends the deflate stream, whatever came before.
        ending = zlib.compressobj(self._level, zlib.DEFLATED, _RAW_DEFLATE)
        trailer = struct.pack("<II", self._checksum, self._size_bytes & 0xFFFFFFFF)
        self._output(ending.flush(zlib.Z_FINISH) + trailer)


def _deflate(block: bytes, dictionary: bytes, level: int) -> bytes:
    compressor = zlib.compressobj(
        level, zlib.DEFLATED, _RAW_DEFLATE, zlib.DEF_MEM_LEVEL, zlib.Z_DEFAULT_STRATEGY, dictionary
    )
    return compressor.compress(block) + compressor.flush(zlib.Z_SYNC_FLUSH)


class _XzSink(_Parallel):
    def __init__(
        self, level: int, output: Output, threads: ThreadPoolExecutor, workers: int
    ) -> None:
        super().__init__(_XZ_BLOCK_BYTES, output, threads, workers)
        self._level = level
        self._empty = True

    def _block(self, block: bytes) -> None:
        if block or self._empty:
            self._empty = False
            self._submit(partial(lzma_compress, block, FORMAT_XZ, -1, self._level))

    def close(self) -> None:
        self._flush()
        self._drain()


class _ZstdSink(_Blocks):
    def __init__(self, level: int, output: Output) -> None:
        super().__init__(_PLAIN_BLOCK_BYTES)
        self._output = output
        parameter = zstd.CompressionParameter
        self._compressor = zstd.ZstdCompressor(
            options={
                parameter.compression_level: level,
                parameter.checksum_flag: 1,
                parameter.nb_workers: os.cpu_count() or 1,
            }
        )

    def _block(self, block: bytes) -> None:
        if compressed := self._compressor.compress(block):
            self._output(compressed)

    def close(self) -> None:
        self._flush()
        self._output(self._compressor.flush())
