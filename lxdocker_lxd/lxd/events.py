"""Lifecycle events: one connection at a time, read by a thread that only fills a queue.

Facts this is built on, all seen with LXD 5.0.2: nothing is replayed after a reconnect; LXD drops a
listener that doesn't answer pings, so a slow consumer must not hold up the reader; subscribing to
log messages too breaks connections; the end of LXD closes the connection without a word.
"""

import queue
import threading
import time
from types import TracebackType
from typing import Final, Self

from lxdocker_lxd.lxd.api import Api
from lxdocker_lxd.lxd.event_document import lifecycle_event
from lxdocker_lxd.lxd.failures import EventsLostError
from lxdocker_lxd.lxd.server_records import LifecycleEvent

# A burst of some thousand events fits; more than that is cheaper to look at than to count.
MOST_WAITING: Final = 10_000
_JOIN_SECONDS = 5.0


class LxdEventStream:
    """Implements the port :class:`EventStream`."""

    def __init__(self, api: Api) -> None:
        self._queue: queue.Queue[LifecycleEvent | None] = queue.Queue(MOST_WAITING)
        self._lost = ""
        self._websocket = api.event_socket(self._receive)
        self._websocket.connect()
        self._reader = threading.Thread(target=self._read, name="lxd-events", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        self._websocket.read_to_end()
        self._lose(self._websocket.trouble or "LXD closed the connection")

    def _receive(self, data: bytes, _is_text: bool) -> None:
        event = lifecycle_event(data)
        if event is None:
            return
        try:
            self._queue.put_nowait(event)
        except queue.Full:
            self._lose(f"more than {MOST_WAITING} events waited")
            self._websocket.end()

    def _lose(self, reason: str) -> None:
        self._lost = self._lost or reason
        # Wakes a waiting take; with a full queue nobody waits.
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            return

    def take(self, timeout_seconds: float) -> LifecycleEvent | None:
        """The next event, or None."""
        end = time.monotonic() + timeout_seconds
        while True:
            try:
                event = self._queue.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                event = None
                if not self._lost:
                    return None
            if event is not None:
                return event
            if self._lost and self._queue.empty():
                raise EventsLostError(
                    f"the connection to LXD's events ended: {self._lost}",
                    hint="connect again and look what changed meanwhile",
                )

    def close(self) -> None:
        """End the connection."""
        self._lose("it was closed here")
        self._websocket.end()
        if threading.current_thread() is not self._reader:
            self._reader.join(_JOIN_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class LxdEvents:
    """Implements the port :class:`Events`."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def subscribe(self) -> LxdEventStream:
        """Connect."""
        return LxdEventStream(self._api)
