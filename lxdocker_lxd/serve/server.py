"""Accepts connections, keeps them within bounds, and ends them when the server stops.

Every accepted socket counts, the ones in a TLS handshake too. When all places are taken, the peer that
has the most makes room: its longest idle connection goes, without an idle one the slowest. A peer that
would have the most itself waits for a while when none of its own is idle. A stop ends idle connections at once, and
lets answers under way finish until a deadline.
"""

import asyncio
import errno
import logging
import socket
import ssl
import time
from dataclasses import dataclass

from lxdocker_lxd.serve.channel import HANDSHAKE_SECONDS, opened
from lxdocker_lxd.serve.connection import HEAD_SECONDS, Connection, Speaker
from lxdocker_lxd.serve.guard import App
from lxdocker_lxd.serve.metrics import Metrics
from lxdocker_lxd.serve.peer import Peer, Places
from lxdocker_lxd.serve.server_log import ServerLog

_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PAUSE_SECONDS = 0.2
_MOST_WAITING = 64
_WAIT_SECONDS = 10.0
"""Then a client gives up anyway; this is how long Go's waits for a handshake."""
_FIRST_REQUEST_SECONDS = 1.0
"""Connections that were just made may still bring their first request when the server stops."""
_CHECK_SECONDS = 10.0
_CHECK = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """How many connections there may be, and how long they may wait for their peers."""

    connections: int
    stall_seconds: float
    head_seconds: float = HEAD_SECONDS
    handshake_seconds: float = HANDSHAKE_SECONDS


@dataclass(frozen=True, slots=True, eq=False)
class Listener:
    """A listening socket, with the TLS of its connections (None: plain) and what they speak to."""

    socket: socket.socket
    tls: ssl.SSLContext | None
    speaker: Speaker


class _Guest:
    """One accepted socket: in its handshake at first, then a connection."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.task: asyncio.Task[None] | None = None
        self.connection: Connection | None = None
        self.admitted = asyncio.Event()
        self._since = time.monotonic()

    @property
    def is_idle(self) -> bool:
        return self.connection is None or not self.connection.is_busy

    @property
    def is_new(self) -> bool:
        return self.connection is None or not self.connection.was_busy

    def pace(self, now: float, /) -> float:
        return self.connection.pace(now) if self.connection is not None else self._since - now

    def displace(self) -> None:
        if self.connection is not None:
            self.connection.abort()
        elif self.task is not None:
            self.task.cancel()


class Server:
    """All connections of the process. For one event loop."""

    def __init__(self, limits: ServerLimits, *, metrics: Metrics, log: ServerLog) -> None:
        self._limits = limits
        self._metrics = metrics
        self._log = log
        self._listeners: list[Listener] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._guests: Places[_Guest] = Places(limits.connections)
        self._waiting: Places[_Guest] = Places(_MOST_WAITING)
        self._was_full = False

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return self._guests.count

    def speaker(self, app: App, protocol_log: logging.Logger) -> Speaker:
        """Return what connections to ``app`` share."""
        return Speaker(
            app,
            stall_seconds=self._limits.stall_seconds,
            head_seconds=self._limits.head_seconds,
            log=protocol_log,
        )

    def listen(self, listener: Listener) -> None:
        """Begin to accept connections."""
        self._listeners.append(listener)
        self._accepting.append(asyncio.create_task(self._accept(listener)))

    async def stop(self, within_seconds: float, hurry: asyncio.Event) -> int:
        """End: accept nothing more, finish answers within a time or until ``hurry``, cut the rest.

        Returns how many answers were cut.
        """
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        for listener in self._listeners:
            listener.socket.close()
            await listener.speaker.stop()
        self._abort(list(self._waiting))
        self._abort([guest for guest in self._guests if guest.is_idle and not guest.is_new])
        first = min(within_seconds, _FIRST_REQUEST_SECONDS)
        await self._emptied(first, hurry)
        self._abort([guest for guest in self._guests if guest.is_idle])
        await self._emptied(within_seconds - first, hurry)
        left = [guest for guest in self._guests if not guest.is_idle]
        self._abort(list(self._guests))
        await self._emptied(_FIRST_REQUEST_SECONDS, asyncio.Event())
        return len(left)

    async def answers(self, speaker: Speaker) -> bool:
        """Whether a request of our own, through the whole protocol and app, gets its answer in time."""
        ours, theirs = socket.socketpair()
        guest = _Guest(Peer.of(None))
        self._guests.give(guest)
        self._welcome(guest, theirs, Listener(theirs, None, speaker))
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                reader, writer = await asyncio.open_connection(sock=ours)
                writer.write(_CHECK)
                line = await reader.readline()
        except OSError:
            return False
        writer.close()
        return line.startswith(b"HTTP/1.1 200")

    async def _accept(self, listener: Listener) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(listener.socket)
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self._metrics.happened("refused")
                    self._evict(None)
                    await asyncio.sleep(_PAUSE_SECONDS)
                continue
            self._admit(
                accepted, Peer.of(address[0] if isinstance(address, tuple) else None), listener
            )
            # Many may be waiting; those who are here already get their turn too.
            await asyncio.sleep(0)

    def _admit(self, accepted: socket.socket, peer: Peer, listener: Listener) -> None:
        """Give a new connection a place, if need be another's; without one, let it wait or close it."""
        guest = _Guest(peer)
        if self._guests.count >= self._guests.most:
            if not self._was_full:
                self._was_full = True
                self._log.caution(f"all {self._guests.most} connections are in use")
            if not self._evict(peer):
                if self._waiting.take(guest):
                    guest.task = asyncio.create_task(self._wait(guest, accepted, listener))
                else:
                    self._metrics.happened("refused")
                    accepted.close()
                return
        self._guests.give(guest)
        self._welcome(guest, accepted, listener)

    async def _wait(self, guest: _Guest, accepted: socket.socket, listener: Listener) -> None:
        """Welcome ``guest`` when it gets a place; close it when that takes too long."""
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await guest.admitted.wait()
        except (TimeoutError, asyncio.CancelledError):
            self._metrics.happened("refused")
            accepted.close()
            self._guests.give_back(guest)
        else:
            self._welcome(guest, accepted, listener)
        finally:
            self._waiting.give_back(guest)

    def _evict(self, newcomer: Peer | None) -> bool:
        if not self._guests.make_room(newcomer):
            return False
        self._metrics.happened("evicted")
        return True

    def _welcome(self, guest: _Guest, accepted: socket.socket, listener: Listener) -> None:
        accepted.settimeout(0)
        self._metrics.happened("accepted")
        guest.task = asyncio.create_task(self._serve(guest, accepted, listener))
        guest.task.add_done_callback(lambda task: self._ended(guest, task))

    async def _serve(self, guest: _Guest, accepted: socket.socket, listener: Listener) -> None:
        try:
            channel = await opened(
                accepted, listener.tls, handshake_seconds=self._limits.handshake_seconds
            )
        except OSError:
            # Plain HTTP on the TLS port, an old TLS version, a scan, or a peer that went away.
            self._metrics.happened("no_handshake")
            return
        guest.connection = Connection(listener.speaker, channel, secure=listener.tls is not None)
        await guest.connection.run()

    def _ended(self, guest: _Guest, task: asyncio.Task[None]) -> None:
        self._guests.give_back(guest)
        for waiting in self._waiting:
            if self._guests.count >= self._guests.most:
                break
            self._waiting.give_back(waiting)
            self._guests.give(waiting)
            waiting.admitted.set()
        if self._guests.count < self._guests.most // 2:
            self._was_full = False
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.bug("a connection", error)

    def _abort(self, guests: list[_Guest]) -> None:
        for guest in guests:
            guest.displace()

    async def _emptied(self, within_seconds: float, hurry: asyncio.Event) -> None:
        """Wait until no connection is left, for a time, or until ``hurry``."""
        tasks = [guest.task for guest in self._guests if guest.task is not None]
        if not tasks or within_seconds <= 0:
            return
        pressed = asyncio.create_task(hurry.wait())
        ends = asyncio.get_running_loop().time() + within_seconds
        while tasks and not pressed.done():
            left = ends - asyncio.get_running_loop().time()
            if left <= 0:
                break
            await asyncio.wait({pressed, *tasks}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            tasks = [task for task in tasks if not task.done()]
        pressed.cancel()
