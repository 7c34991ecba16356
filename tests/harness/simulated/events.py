"""Events of the simulated LXD: no replay, and connections that break or die silently at will."""

from collections import deque
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from lxdocker_lxd.lxd.failures import EventsLostError
from lxdocker_lxd.lxd.server_records import LifecycleEvent
from tests.harness.simulated.call_log import CallLog
from tests.harness.simulated.store import Store

SILENCE = timedelta(seconds=35)


class SimulatedEventStream:
    """Implements the port ``EventStream``. Waiting for an event lets the simulated time pass."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: deque[LifecycleEvent] = deque()
        self.lost = ""
        self.dead_since: datetime | None = None

    def receive(self, event: LifecycleEvent) -> None:
        """Take over one event, unless the connection is dead."""
        if not self.lost and self.dead_since is None:
            self._waiting.append(event)

    def take(self, timeout_seconds: float) -> LifecycleEvent | None:
        with self._store.lock:
            left = timeout_seconds
            if self.dead_since is not None and not self.lost:
                silent = (self.dead_since + SILENCE - self._store.clock()).total_seconds()
                left = min(left, max(silent, 0))
            if not self._waiting and not self.lost:
                self._store.clock.advance(left, until=lambda: bool(self._waiting or self.lost))
            if self._waiting:
                return self._waiting.popleft()
            if self.dead_since is not None and self._store.clock() >= self.dead_since + SILENCE:
                self.lost = self.lost or "nothing was heard for 35 s"
            if self.lost:
                raise EventsLostError(f"the connection ended: {self.lost}", hint="connect again")
            return None

    def close(self) -> None:
        self.lost = self.lost or "it was closed here"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class SimulatedEvents:
    """Implements the port ``Events``; ``lose`` and ``go_silent`` are for tests."""

    def __init__(self, store: Store, log: CallLog) -> None:
        self._store = store
        self._log = log
        self.streams: list[SimulatedEventStream] = []
        self.dropped = 0
        # Events to drop from now on, as a slow network would: how many.
        self.drop_next = 0

    def subscribe(self) -> SimulatedEventStream:
        def act() -> SimulatedEventStream:
            stream = SimulatedEventStream(self._store)
            self.streams = [one for one in self.streams if not one.lost]
            self.streams.append(stream)
            return stream

        return self._log.made("events.subscribe", "", act)

    def tell(self, event: LifecycleEvent) -> None:
        """Pass an event to all listeners."""
        if self.drop_next:
            self.drop_next -= 1
            self.dropped += 1
            return
        for stream in self.streams:
            stream.receive(event)

    def lose(self, reason: str = "LXD closed the connection") -> None:
        """Break all connections."""
        for stream in self.streams:
            stream.lost = stream.lost or reason
        self.streams = []

    def go_silent(self) -> None:
        """Let all connections die without a word: noticed when pings stay out."""
        for stream in self.streams:
            stream.dead_since = stream.dead_since or self._store.clock()
