"""How long one HTTP answer may take: a deadline for documents, a least average speed for files.

A limit for each read is none: a server that sends a byte at a time keeps below it for ever. So a
second thread looks at the clock, and cuts the connection when its time is over.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self


class TooLateError(TimeoutError):
    """An answer didn't come in the time it had, and its connection was cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """When a request and its redirects must have been answered: a moment of the monotonic clock.

    ``seconds`` is how long that was in the beginning.
    """

    at: float
    seconds: float

    @classmethod
    def after(cls, seconds: float) -> Self:
        """Return the moment in so many seconds."""
        return cls(at=time.monotonic() + seconds, seconds=seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeastSpeed:
    """What a server must send on average in each window of waiting for it.

    Less than the slowest lines have.
    """

    window_seconds: float = 60.0
    least_bytes_per_second: int = 4096


class Pace:
    """Watches one request and its answer. The reader's thread calls it, and a timer's."""

    def __init__(self, speed: LeastSpeed, cut: Callable[[], None]) -> None:
        """``cut`` breaks the connection; whoever reads from it gets an error or an end.

        ``speed`` counts after ``sustain``.
        """
        self._speed = speed
        self._cut = cut
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._ended = False
        self._since: float | None = None
        self._waited_seconds = 0.0
        self._received_bytes = 0
        self.too_slow = ""
        """Why the connection was cut, in a few words; empty while it wasn't."""

    def begin(self, deadline: Deadline) -> None:
        """Allow until then for the whole answer."""
        reason = f"no whole answer within {deadline.seconds:g} s"
        self._start(deadline.at - time.monotonic(), lambda: self._over(reason))

    def sustain(self) -> None:
        """From now on any time is allowed in which bytes come fast enough on average."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
        self._start(self._speed.window_seconds, self._look)

    def check(self) -> None:
        """Raise TooLateError if the connection was cut: what seemed the body's end was none."""
        if self.too_slow:
            raise TooLateError(self.too_slow)

    def end(self) -> None:
        """Stop watching: from now on the connection isn't cut any more."""
        with self._lock:
            self._ended = True
            if self._timer is not None:
                self._timer.cancel()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the block's time as the server's; what we do between reads isn't its fault."""
        self._since = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._waited_seconds += time.monotonic() - self._since
                self._since = None

    def received(self, count_bytes: int) -> None:
        """Count bytes that came."""
        with self._lock:
            self._received_bytes += count_bytes

    def _start(self, seconds: float, action: Callable[[], None]) -> None:
        timer = threading.Timer(max(seconds, 0.0), action)
        timer.daemon = True
        with self._lock:
            if self._ended:
                return
            self._timer = timer
            timer.start()

    def _over(self, reason: str) -> None:
        with self._lock:
            # Under the lock, so that a connection that serves the next request already isn't cut.
            if not self._ended:
                self.too_slow = reason
                self._cut()

    def _look(self) -> None:
        """At the end of a window: was the server fast enough while we waited for it?"""
        speed = self._speed
        with self._lock:
            now = time.monotonic()
            waited = self._waited_seconds + (now - self._since if self._since is not None else 0)
            got = self._received_bytes
            decided = waited >= speed.window_seconds / 2
            slow = got < waited * speed.least_bytes_per_second
            if decided:
                self._waited_seconds, self._received_bytes = 0.0, 0
                self._since = None if self._since is None else now
        if decided and slow:
            self._over(f"slower than {speed.least_bytes_per_second} bytes/s for {waited:.0f} s")
        else:
            self._start(speed.window_seconds, self._look)
