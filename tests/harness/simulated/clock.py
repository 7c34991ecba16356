"""The simulated time: it moves when somebody waits, and what was due happens on the way."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class SimulatedClock:
    """UTC that stands still until ``advance``; ``on_advance`` is called at each new time.

    ``due`` gives the next moment at which something happens by itself, or None.
    """

    def __init__(self, now: datetime = datetime(2026, 11, 21, 12, tzinfo=UTC)) -> None:
        self._now = now
        self._passed_seconds = now.timestamp()
        self.due: Callable[[], datetime | None] = lambda: None
        self.on_advance: Callable[[], None] = lambda: None

    def __call__(self) -> datetime:
        return self._now

    def advance(self, seconds: float, *, until: Callable[[], bool] = lambda: False) -> None:
        """Let time pass, stopping at each thing that happens by itself, and early when ``until``."""
        end = self._now + timedelta(seconds=max(seconds, 0))
        while not until():
            next_due = self.due()
            if next_due is None or next_due > end:
                self._pass_until(end)
                self.on_advance()
                return
            self._pass_until(max(self._now, next_due))
            self.on_advance()

    def set_ahead(self, by: timedelta) -> None:
        """Set the wall clock ahead, or back by a negative time; no time passes."""
        self._now += by

    def monotonic(self) -> float:
        """Seconds that passed, whatever the wall clock was set to."""
        return self._passed_seconds

    def _pass_until(self, end: datetime) -> None:
        self._passed_seconds += (end - self._now).total_seconds()
        self._now = end
