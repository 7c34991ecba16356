"""HTTP/1.1 on one connection. The only user of hypercorn.

Hypercorn's protocol is driven here directly, without its server, for what that lacks: HTTP/2 can't
be had, neither by prior knowledge nor by upgrade; idle connections end at once when the server stops,
the others after their answer; a client that is given up leaves nothing behind.
"""

import asyncio
import contextlib
import logging
import re
import time
from typing import NoReturn, cast

import h11
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.typing import ASGIFramework, ConnectionState

from lxdocker_lxd.serve.channel import Channel
from lxdocker_lxd.serve.guard import App
from lxdocker_lxd.serve.peer import pace

HEAD_SECONDS = 5.0
"""For the head of a request to arrive whole, from the handshake or the last answer on."""
_SILENCE_SECONDS = 0.5
"""After so long a peer has seen that nobody wants the rest of its body."""
_MOST_LINGERED = 10
_MOST_HEAD_BYTES = 16 * 1024


# What may stand in Host (RFC 9110 7.2): a name or an address, and a port.
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._~%!$&'()*+,;=-]*)(:[0-9]*)?")


class _RefusedError(Exception):
    """A request that was refused before the app heard of it."""


class _Http1(H11Protocol):
    """Hypercorn's protocol without its ways to HTTP/2: an upgrade is ignored, as RFC 9110 7.8 allows."""

    async def _check_protocol(self, event: h11.Request) -> None:
        if event.http_version not in (b"1.0", b"1.1"):
            await self._refuse(505)
        if not _is_clear(event):
            await self._refuse(400)

    @property
    def is_sent_to(self) -> bool:
        """Whether the peer may still be sending a body that was answered already."""
        return self.connection.their_state in {h11.SEND_BODY, h11.ERROR}

    async def _refuse(self, status: int) -> NoReturn:
        await self._send_error_response(status)
        await self.send(Closed())
        raise _RefusedError

    async def _send_h11_event(self, event: h11.Event) -> None:
        """Send all but the invitation to a body: a client that waits for it gets the answer instead."""
        if not isinstance(event, h11.InformationalResponse):
            await super()._send_h11_event(event)  # type: ignore[arg-type]  # it says which ones


def _is_clear(request: h11.Request) -> bool:
    """Whether everybody reads the request's host and its end in the same way (RFC 9112 3.2, 6.3)."""
    values = dict(request.headers)
    if b"content-length" in values and b"transfer-encoding" in values:
        return False
    return _HOST.fullmatch(values.get(b"host", b"")) is not None


class Speaker:
    """What all connections to one app share."""

    def __init__(
        self, app: App, *, stall_seconds: float, head_seconds: float, log: logging.Logger
    ) -> None:
        self.app = ASGIWrapper(cast("ASGIFramework", app))
        self.stall_seconds = stall_seconds
        self.head_seconds = head_seconds
        self.context = WorkerContext(None)
        self.config = Config()
        self.config.errorlog = log
        self.config.include_server_header = False
        self.config.h11_max_incomplete_size = _MOST_HEAD_BYTES
        # Without a bound: the guard takes everything out at once, and a full queue would block ends.
        self.config.max_app_queue_size = 0

    async def stop(self) -> None:
        """Have every connection end after its present answer."""
        await self.context.terminated.set()


class Connection:
    """Requests and answers on one channel. ``is_busy`` while a request is being answered."""

    def __init__(self, speaker: Speaker, channel: Channel, *, secure: bool) -> None:
        loop = asyncio.get_running_loop()
        self._speaker = speaker
        self._channel = channel
        self._tasks = TaskGroup(loop)
        self._protocol = _Http1(
            speaker.app,
            speaker.config,
            speaker.context,
            self._tasks,
            ConnectionState({}),
            secure,
            channel.peer,
            None,
            self._send,
        )
        self._timer: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None
        self._reads = 0
        self._since = time.monotonic()
        self._taken_bytes = 0
        self.is_busy = False
        self.was_busy = False
        """Whether it ever brought a request."""

    async def run(self) -> None:
        """Serve until the connection ends; then nothing of it is left."""
        try:
            async with self._tasks:
                self._await_head()
                while data := await self._channel.read():
                    self._reads += 1
                    if self._closing is None:
                        with contextlib.suppress(_RefusedError):
                            await self._protocol.handle(RawData(data))
                await self._protocol.handle(Closed())
        finally:
            self.abort()
            if self._closing is not None:
                self._closing.cancel()

    def pace(self, now: float, /) -> float:
        """Return the bytes a second of its present answer; without one, how long it is idle, negated."""
        if not self.is_busy:
            return self._since - now
        return pace(self._taken_bytes, self._since, now)

    def abort(self) -> None:
        """Cut the connection; the app's work on it ends."""
        if self._timer is not None:
            self._timer.cancel()
        self._channel.abort()

    async def _send(self, event: Event) -> None:
        """Do what the protocol wants: bytes out, the end, or waiting for the next request."""
        if isinstance(event, RawData):
            try:
                await self._channel.write(event.data)
                self._taken_bytes += len(event.data)
            except (OSError, RuntimeError):
                self._channel.abort()
                await self._protocol.handle(Closed())
        elif isinstance(event, Closed):
            self._close()
        elif isinstance(event, Updated):
            self.is_busy = not event.idle
            self.was_busy = True
            self._since, self._taken_bytes = time.monotonic(), 0
            if event.idle:
                self._await_head()
            elif self._timer is not None:
                self._timer.cancel()

    def _await_head(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._speaker.head_seconds, self._close)

    def _close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._leave())

    async def _leave(self) -> None:
        """Close, and not while the peer still sends: that would be a reset, which overtakes answers."""
        for _ in range(_MOST_LINGERED if self._protocol.is_sent_to else 0):
            reads = self._reads
            await asyncio.sleep(_SILENCE_SECONDS)
            if reads == self._reads:
                break
        await self._channel.close(self._speaker.stall_seconds)
