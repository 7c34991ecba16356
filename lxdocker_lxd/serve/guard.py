"""Stands between the HTTP protocol and the app: gives up stalled clients, counts, logs at the end.

A pure ASGI wrapper, so it holds for any server and any app. A client that takes nothing for
``stall_seconds`` is given up; bodies of requests, which nobody here wants, are thrown away as they
come; a broken connection ends the app's work quietly.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from lxdocker_lxd.serve.exchange import SCOPE_KEY, Exchange
from lxdocker_lxd.serve.metrics import Metrics
from lxdocker_lxd.serve.peer import Places
from lxdocker_lxd.serve.server_log import Access, ServerLog

# ASGI's own types: every server and framework has its own spelling of them.
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_EMPTY_REQUEST = {"type": "http.request", "body": b"", "more_body": False}
_DISCONNECTED = {"type": "http.disconnect"}


class _EndedError(Exception):
    """The exchange is over before the app is done."""


class Guard:
    """Wraps ``app``; with ``files_only`` the app is told to serve nothing but image files."""

    def __init__(
        self,
        app: App,
        *,
        downloads: Places[Exchange],
        stall_seconds: float,
        metrics: Metrics,
        log: ServerLog,
        files_only: bool = False,
    ) -> None:
        self._app = app
        self._downloads = downloads
        self._stall_seconds = stall_seconds
        self._metrics = metrics
        self._log = log
        self._files_only = files_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection; anything but HTTP is refused."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close"})
            return
        client = scope.get("client")
        exchange = Exchange(
            client=client[0] if client else None,
            files_only=self._files_only,
            downloads=self._downloads,
        )
        scope[SCOPE_KEY] = exchange
        line = _Line(receive, send, exchange, self._stall_seconds)
        try:
            await line.carry(self._app, scope)
        finally:
            seconds = exchange.end()
            self._metrics.ended(exchange, seconds)
            if exchange.client is not None or exchange.status >= 400:  # noqa: PLR2004 - an error
                self._log.access(_access(scope, exchange, seconds))


class _Line:
    """What goes to and comes from one client during one exchange."""

    def __init__(
        self, receive: Receive, send: Send, exchange: Exchange, stall_seconds: float
    ) -> None:
        self._receive = receive
        self._send = send
        self._exchange = exchange
        self._stall_seconds = stall_seconds
        self._gone = asyncio.Event()
        self._request_given = False
        exchange.cut = self._gone.set

    async def carry(self, app: App, scope: Scope) -> None:
        """Run ``app`` until it is done or the client is gone."""
        listener = asyncio.create_task(self._listen())
        try:
            await app(scope, self._next, self._pass)
        except _EndedError:
            pass
        except Exception:
            self._exchange.outcome = "failed"
            raise
        finally:
            listener.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listener

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone.set()

    async def _next(self) -> Message:
        if not self._request_given:
            self._request_given = True
            return dict(_EMPTY_REQUEST)
        await self._gone.wait()
        return dict(_DISCONNECTED)

    async def _pass(self, message: Message) -> None:
        if self._gone.is_set():
            raise _EndedError
        exchange = self._exchange
        if message["type"] == "http.response.start":
            exchange.status = message["status"]
        try:
            async with asyncio.timeout(self._stall_seconds):
                await self._send(message)
        except TimeoutError as error:
            exchange.outcome = "stalled"
            raise _EndedError from error
        except OSError as error:
            raise _EndedError from error
        if message["type"] == "http.response.body":
            exchange.sent_bytes += len(message.get("body", b""))
            if not message.get("more_body", False):
                exchange.outcome = "complete"


def _access(scope: Scope, exchange: Exchange, seconds: float) -> Access:
    query = b"?" + scope["query_string"] if scope.get("query_string") else b""
    agents = [value for name, value in scope["headers"] if name.lower() == b"user-agent"]
    return Access(
        client=exchange.client or "-",
        method=scope["method"],
        target=(scope.get("raw_path", b"") + query).decode("latin-1"),
        status=exchange.status,
        sent_bytes=exchange.sent_bytes,
        seconds=seconds,
        outcome=exchange.outcome,
        agent=(agents[0] if agents else b"").decode("latin-1"),
    )
