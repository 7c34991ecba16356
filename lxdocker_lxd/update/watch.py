"""The service: rounds at the start, after each reconnection, on a timer, soon after a hint, and soon
after a round that failed, or that left something open which may end well by itself.

LXD's events say only that something may have changed: its own updates of images send no event of
their own, aliases move a moment later, and what happens while nobody is connected is never told.
"""

from collections.abc import Callable
from dataclasses import dataclass

from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.lxd.ports import EventStream
from lxdocker_lxd.lxd.server_records import LifecycleEvent
from lxdocker_lxd.update.plan import Key
from lxdocker_lxd.update.problem import internal_error

_HINTS = frozenset({"image", "image-alias"})
_LONGEST_BACKOFF_SECONDS = 60.0
_LONGEST_REST_SECONDS = 3600.0
_MOST_DOUBLINGS = 10
# What comes and goes isn't new each time it comes.
_FORGOTTEN_SECONDS = 3600.0
_WHOLE_ROUND: Key = ("", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """How often is looked: without hints, and how long after the last one of a burst of hints.

    ``wait_seconds`` is the longest wait for an event: what was noticed elsewhere may wait as long.
    ``passing_seconds`` is how soon is looked again for something that passes by itself; each time that
    the same instance is met so, the wait for it doubles, up to the interval.
    """

    interval_seconds: float = 300.0
    debounce_seconds: float = 0.5
    longest_debounce_seconds: float = 5.0
    wait_seconds: float = 1.0
    passing_seconds: float = 2.0


class Watch:
    """Runs rounds until it is told to stop; no failure of one ends it, not even a bug.

    ``subscribe`` connects, to LXD if need be, and is tried again when it fails. ``work`` does a round
    and returns the instances that are worth another look soon. ``clock`` counts seconds; ``has_news``
    tells, once, of what was noticed elsewhere; ``pause`` waits up to so many seconds and tells whether to
    stop. Both are asked after each wait for an event.
    """

    def __init__(
        self,
        subscribe: Callable[[], EventStream],
        work: Callable[[], frozenset[Key]],
        *,
        clock: Callable[[], float],
        pause: Callable[[float], bool],
        tell: Callable[[LxdockerError], None],
        rhythm: Rhythm,
        has_news: Callable[[], bool] = lambda: False,
    ) -> None:
        self._subscribe = subscribe
        self._work = work
        self._clock = clock
        self._pause = pause
        self._tell = tell
        self._rhythm = rhythm
        self._has_news = has_news
        self._bugs = 0
        # How often each instance was met that is worth another look, and when last.
        self._met: dict[Key, tuple[int, float]] = {}
        self._soon = frozenset[Key]()

    def run(self) -> None:
        """Watch until ``pause`` says stop."""
        backoff = 1.0
        while not self._pause(0):
            began = self._clock()
            try:
                with self._subscribe() as stream:
                    self._follow(stream)
                    return
            except LxdockerError as error:
                self._tell(error)
            except Exception as error:  # noqa: BLE001 - a service outlives its bugs
                self._tell(internal_error(error))
            # A connection that held for a while was a good one.
            lived = self._clock() - began > _LONGEST_BACKOFF_SECONDS
            backoff = 1.0 if lived else min(backoff * 2, _LONGEST_BACKOFF_SECONDS)
            if self._pause(backoff):
                return

    def _follow(self, stream: EventStream) -> None:
        due = first_hint = self._clock()
        hinted, rests = False, 0.0
        while not self._pause(0):
            now = self._clock()
            if now >= due or (self._has_news() and now >= rests):
                self._round()
                due, hinted = self._clock() + self._rest_seconds(), False
                rests = due if self._bugs else 0.0
                continue
            event = stream.take(min(due - now, self._rhythm.wait_seconds))
            if event is not None and is_hint(event):
                now = self._clock()
                first_hint = first_hint if hinted else now
                hinted = True
                latest = first_hint + self._rhythm.longest_debounce_seconds
                soon = max(now, min(now + self._rhythm.debounce_seconds, latest), rests)
                due = min(due, soon)

    def _round(self) -> None:
        self._soon = frozenset({_WHOLE_ROUND})
        try:
            self._soon = self._work()
        except LxdockerError as error:
            self._tell(error)
        except Exception as error:  # noqa: BLE001 - the next round may not meet it
            self._bugs += 1
            self._tell(internal_error(error))
            return
        self._bugs = 0
        now = self._clock()
        recent = {
            key: (times, met)
            for key, (times, met) in self._met.items()
            if key in self._soon or now - met < _FORGOTTEN_SECONDS
        }
        again = {key: (recent.get(key, (0, now))[0] + 1, now) for key in self._soon}
        self._met = recent | again

    def _rest_seconds(self) -> float:
        """How long until the next round: ever longer after bugs, as they may be met again."""
        interval = self._rhythm.interval_seconds
        if self._soon and not self._bugs:
            fewest = min(self._met[key][0] for key in self._soon)
            doublings = min(fewest - 1, _MOST_DOUBLINGS)
            return min(self._rhythm.passing_seconds * (1 << doublings), interval)
        doublings = min(max(self._bugs - 1, 0), _MOST_DOUBLINGS)
        return min(interval * (1 << doublings), max(interval, _LONGEST_REST_SECONDS))


def is_hint(event: LifecycleEvent) -> bool:
    """Whether an event may mean that there is a newer image."""
    return event.kind in _HINTS
