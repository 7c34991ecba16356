"""One accepted socket as a stream of bytes, with TLS or without. For one event loop.

asyncio's own server leaves gaps that this closes: a handshake can be counted and ended from outside;
what was written is delivered before the close, however slowly the peer takes it; and no peer can
hold a close open.
"""

import asyncio
import contextlib
import socket
import ssl
import time
from asyncio import sslproto
from dataclasses import dataclass
from typing import cast

HANDSHAKE_SECONDS = 10.0
_TLS_CLOSE_SECONDS = 1.0
_READ_BYTES = 64 * 1024
_PIECE_BYTES = 64 * 1024
"""Encrypted and handed to the kernel at once: what a connection takes in memory is a few of them."""
_LOOK_SECONDS = 0.05


# For each TLS connection asyncio fills a buffer of 256 KiB for what comes in. Requests are small, and a
# thousand connections would take 250 MiB.
sslproto.SSLProtocol.max_size = 32 * 1024


class _Wire(asyncio.StreamReaderProtocol):
    """Reads nothing until TLS has taken over, so that no byte of a handshake is lost."""

    def __init__(self, reader: asyncio.StreamReader, *, awaits_tls: bool) -> None:
        super().__init__(reader, loop=asyncio.get_running_loop())
        self._awaits_tls = awaits_tls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._awaits_tls:
            cast("asyncio.Transport", transport).pause_reading()
        super().connection_made(transport)

    def eof_received(self) -> bool:
        super().eof_received()
        return False


@dataclass(frozen=True, slots=True, eq=False)
class Channel:
    """An open connection. ``carrier`` is the TCP side, the same as the writer's without TLS."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    carrier: asyncio.Transport

    @property
    def peer(self) -> tuple[str, int] | None:
        """Address and port of the other side; None for a socket pair."""
        found = self.writer.get_extra_info("peername")
        return (found[0], found[1]) if isinstance(found, tuple) else None

    async def read(self) -> bytes:
        """Return what came next; nothing at the end or when the connection broke."""
        try:
            return await self.reader.read(_READ_BYTES)
        except OSError:
            return b""

    async def write(self, data: bytes) -> None:
        """Write ``data`` when what was written before is on its way; raise OSError when it broke."""
        if self.writer.is_closing():
            raise ConnectionResetError("the connection is closing")
        whole = memoryview(data)
        for start in range(0, len(whole), _PIECE_BYTES):
            self.writer.write(whole[start : start + _PIECE_BYTES])
            await self.writer.drain()

    async def close(self, stall_seconds: float) -> None:
        """Deliver what was written, then close; a peer that takes nothing for a time loses the rest.

        After return the connection is gone.
        """
        try:
            if await self._delivered(stall_seconds):
                self.writer.close()
                async with asyncio.timeout(2 * _TLS_CLOSE_SECONDS):
                    await self.writer.wait_closed()
        except (OSError, RuntimeError):
            pass
        finally:
            self.abort()

    async def _delivered(self, stall_seconds: float) -> bool:
        left = self.carrier.get_write_buffer_size()
        moved_at = time.monotonic()
        while left and not self.carrier.is_closing():
            await asyncio.sleep(_LOOK_SECONDS)
            before, left = left, self.carrier.get_write_buffer_size()
            if left < before:
                moved_at = time.monotonic()
            elif time.monotonic() - moved_at > stall_seconds:
                return False
        return True

    def abort(self) -> None:
        """Cut the connection; what was not delivered is lost, and readers see the end."""
        self.carrier.abort()
        # A connection that broke in its handshake never tells its reader.
        self.reader.feed_eof()


async def opened(
    accepted: socket.socket,
    tls: ssl.SSLContext | None,
    *,
    handshake_seconds: float = HANDSHAKE_SECONDS,
) -> Channel:
    """Return the channel over ``accepted``, after the handshake.

    The socket is owned from now on, and closed when this fails or is cancelled. Raises OSError, of which
    ssl.SSLError is one.
    """
    loop = asyncio.get_running_loop()
    if accepted.family != socket.AF_UNIX:
        # asyncio does so only for sockets made with the protocol's number. Without it the end of an
        # answer waits 40 ms for the client to acknowledge its beginning.
        with contextlib.suppress(OSError):
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    reader = asyncio.StreamReader(limit=_READ_BYTES, loop=loop)
    wire = _Wire(reader, awaits_tls=tls is not None)
    try:
        made, _ = await loop.connect_accepted_socket(lambda: wire, accepted)
    except BaseException:
        accepted.close()
        raise
    carrier = made
    transport: asyncio.Transport | None = carrier
    if tls is not None:
        try:
            transport = await loop.start_tls(
                carrier,
                wire,
                tls,
                server_side=True,
                ssl_handshake_timeout=handshake_seconds,
                ssl_shutdown_timeout=_TLS_CLOSE_SECONDS,
            )
        except BaseException:
            carrier.abort()
            raise
    if transport is None or carrier.is_closing():
        raise ConnectionResetError("the connection broke in its handshake")
    # Nothing is kept back: a block is written when the one before it is gone.
    # (0 for the upper limit would never let go: asyncio's TLS pauses from the limit on.)
    transport.set_write_buffer_limits(high=1, low=0)
    return Channel(reader, asyncio.StreamWriter(transport, wire, reader, loop), carrier)
