"""The health gate: what a new version must show before the old one is let go. Pure.

A check is a command inside the instance, a TCP port or an HTTP path; without one the image's own
HEALTHCHECK counts, and else that its command keeps running. Failures during the start period don't
count, which begins when the command was started. After the first success the instance has to stay
healthy, its command running, for the stability window. What can't be asked is no verdict.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from lxdocker_lxd.guest_health import Health
from lxdocker_lxd.update.health_check import Check, Kind
from lxdocker_lxd.update.means import Judgement, Verdict

LONGEST_GATE_SECONDS = 3600.0
# Whatever the interval: an end, a restart of the command and a freeze are looked for this often.
_LOOK_SECONDS = 2.0
# Something else may have hold of the instance just now: an end is believed at the second look.
_CONFIRM_SECONDS = 3.0
# How long nothing can be asked before that is an answer, where the start period is shorter.
_LEAST_PATIENCE_SECONDS = 60.0
# How many times its retries a check may fail between successes before that is called ill.
_FLAPPING = 2
# Each begins the watch anew; nobody restarts an instance that often without being in the way.
_MOST_RESTARTS_BY_OTHERS = 3


class Activity(StrEnum):
    """What the instance's command does.

    ``STARTING``: it was not started yet. ``RESTARTING``: it ended, and its supervisor will start it
    again. ``PAUSED``: frozen, or nobody can tell, as LXD is away. ``ENDED``: the instance is stopped.
    """

    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    PAUSED = "paused"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One look at an instance.

    ``process_id`` is its PID 1 on its host: another number after a restart of the instance.
    ``restarts`` counts those of the command inside it. ``detail`` says why it is paused.
    """

    activity: Activity
    process_id: int = 0
    restarts: int = 0
    exit_code: int | None = None
    detail: str = ""


class Requested(StrEnum):
    """Whether the end of an instance was asked for, by LXD's events; they may be missed."""

    BY_USER = "by a user"
    BY_NOBODY = "by nobody"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How an instance ended: what LXD tells, and what its guest wrote down.

    ``exited``: the guest says that its command ended. ``stop_requested``: that its PID 1 was asked to
    stop; None where it doesn't tell.
    """

    requested: Requested = Requested.UNKNOWN
    exited: bool = False
    exit_code: int | None = None
    stop_requested: bool | None = None


class Probe(Protocol):
    """Looks at an instance."""

    def observe(self) -> Observation:
        """What its command does now."""
        ...

    def look(self, check: Check) -> Health:
        """Run the check once, within its timeout."""
        ...

    def end(self) -> End:
        """How the last run of the instance ended."""
        ...


def verdict_of_end(end: End) -> Verdict:
    """Return what an end in mid-watch says of the version.

    A user's stop says nothing, and neither does one that LXD asked for, as a shutdown of its host
    does. An end by itself is the version's fault: the guest wrote down that nobody asked, or, where
    no guest of ours is, LXD told of it and named nobody. Without either, nobody knows.
    """
    if end.requested is Requested.BY_USER:
        return Verdict(judgement=Judgement.STOPPED, reason="somebody stopped it")
    if end.stop_requested:
        return Verdict(
            judgement=Judgement.UNDECIDED,
            reason="it was asked to stop, by no user: LXD or its host shuts down",
        )
    if end.exited and end.stop_requested is False:
        return Verdict(judgement=Judgement.FAILED, reason=_by_itself(end))
    if end.requested is Requested.BY_NOBODY:
        return Verdict(judgement=Judgement.FAILED, reason=_by_itself(end))
    return Verdict(judgement=Judgement.UNDECIDED, reason="it ended, and nobody knows why")


def _by_itself(end: End) -> str:
    code = "" if not end.exited or end.exit_code is None else f" with code {end.exit_code}"
    return f"it ended by itself{code}"


def wait_for_health(
    check: Check, probe: Probe, *, clock: Callable[[], float], pause: Callable[[float], None]
) -> Verdict:
    """Watch until the instance is known to be healthy, or not; ``clock`` counts seconds.

    It takes at most ``LONGEST_GATE_SECONDS`` and what one more look takes.
    """
    watch = _Watch(check, clock())
    while True:
        verdict = _looked(watch, check, probe, clock, pause)
        if verdict is None:
            verdict = watch.too_long(clock())
        if verdict is not None:
            return verdict
        pause(watch.pause_seconds())


def _looked(
    watch: "_Watch",
    check: Check,
    probe: Probe,
    clock: Callable[[], float],
    pause: Callable[[float], None],
) -> Verdict | None:
    """Look once."""
    seen = probe.observe()
    if seen.activity is Activity.ENDED:
        pause(_CONFIRM_SECONDS)
        seen = probe.observe()
    if seen.activity is Activity.ENDED:
        return verdict_of_end(probe.end())
    if watch.is_another_run(seen):
        requested = probe.end().requested
        if requested is Requested.BY_NOBODY:
            return watch.failed("it was restarted by itself while it was watched")
        return watch.begin_anew(seen, clock())
    verdict = watch.saw(seen, clock())
    if verdict is not None or not watch.asks():
        return verdict
    answer = Health.NONE if check.kind is Kind.RUNNING else probe.look(check)
    return watch.heard(answer, clock())


class _Watch:
    """What is known while an instance is watched; its seconds stand still while it is paused."""

    def __init__(self, check: Check, now: float) -> None:
        self._check = check
        self._began = self._last = now
        self._seconds = 0.0
        self._process_id = 0
        self._others = 0
        self._detail = ""
        self._ever_ill = False
        self._forget()

    def _forget(self) -> None:
        """Begin with a new run of the instance."""
        self._run_began = self._seconds
        self._paused = self._running = False
        self._command_since: float | None = None
        self._restarts = -1
        self._ask_at = 0.0
        self._silent_since: float | None = None
        self._healthy_since: float | None = None
        self._was_healthy = False
        self._in_a_row = self._setbacks = 0
        self._trouble = "its check fails"

    # ---- what is seen

    def is_another_run(self, seen: Observation) -> bool:
        """Whether the instance was restarted since the last look."""
        known, self._process_id = self._process_id, seen.process_id or self._process_id
        return known not in {0, self._process_id}

    def begin_anew(self, seen: Observation, now: float) -> Verdict | None:
        """Watch the new run from its beginning; others who restart it again and again are in the way."""
        self._others += 1
        if self._others > _MOST_RESTARTS_BY_OTHERS:
            return self._undecided("it was restarted again and again while it was watched")
        self._forget()
        return self.saw(seen, now)

    def saw(self, seen: Observation, now: float) -> Verdict | None:
        """Take in what the command does."""
        self._paused = seen.activity is Activity.PAUSED
        self._running = seen.activity is Activity.RUNNING
        if not self._paused:
            self._seconds += max(now - self._last, 0.0)
        self._last, self._detail = now, seen.detail
        if self._paused:
            return None
        if seen.activity is Activity.STARTING:
            self._healthy_since = None
            patience = self._patience
            if self._seconds - self._run_began <= patience:
                return None
            return self._undecided(f"its command was not started within {patience:g} s")
        if self._command_since is None:
            self._command_since, self._restarts = self._seconds, seen.restarts
        restarted = seen.restarts > self._restarts
        self._restarts = max(seen.restarts, self._restarts)
        if restarted or seen.activity is Activity.RESTARTING:
            code = "" if seen.exit_code is None else f" with code {seen.exit_code}"
            return self._ill(f"its command ends{code} and is started again")
        return None

    def asks(self) -> bool:
        """Whether the check is to be asked now."""
        return self._running and self._seconds >= self._ask_at

    # ---- what is heard

    def heard(self, answer: Health, now: float) -> Verdict | None:
        """Take in what the check said."""
        self._seconds += max(now - self._last, 0.0)
        self._last = now
        verdict = self._heard(answer)
        starting = not self._was_healthy and self._in_start_period
        check = self._check
        rest = check.start_interval_seconds if starting else check.interval_seconds
        if self._healthy_since is not None:
            # The window may end before the next check is due.
            rest = min(rest, self._healthy_since + check.stable_seconds - self._seconds)
        self._ask_at = self._seconds + max(rest, 0.0)
        return verdict

    def _heard(self, answer: Health) -> Verdict | None:
        if answer in {Health.UNKNOWN, Health.STARTING}:
            return self._unheard(answer)
        self._silent_since = None
        if answer is Health.UNHEALTHY:
            said = (
                "it was healthy, then its check failed" if self._was_healthy else "its check fails"
            )
            return self._ill(said)
        self._in_a_row = 0
        self._was_healthy = self._was_healthy or answer is Health.HEALTHY
        if self._healthy_since is None:
            self._healthy_since = self._seconds
        if self._seconds - self._healthy_since < self._check.stable_seconds:
            return None
        label = self._check.label if self._was_healthy else self._check.without_check
        return Verdict(judgement=Judgement.HEALTHY, reason=f"healthy: {label}", check=label)

    def _unheard(self, answer: Health) -> Verdict | None:
        if answer is Health.STARTING:
            self._healthy_since = None
        if self._silent_since is None:
            self._silent_since = self._seconds
        if self._seconds - self._silent_since <= self._patience:
            return None
        return self._undecided(f"its check could not be asked for {self._patience:g} s")

    def _ill(self, trouble: str) -> Verdict | None:
        """Count what is no success, unless the start period still excuses it."""
        self._healthy_since = None
        self._ever_ill, self._trouble = True, trouble
        if not self._was_healthy and self._in_start_period:
            return None
        self._in_a_row += 1
        self._setbacks += self._was_healthy
        retries = self._check.retries
        if self._in_a_row >= retries or self._setbacks > _FLAPPING * retries:
            return self.failed(trouble)
        return None

    # ---- how long

    @property
    def _in_start_period(self) -> bool:
        began = self._command_since
        return began is None or self._seconds - began < self._check.start_period_seconds

    @property
    def _patience(self) -> float:
        return max(self._check.start_period_seconds, _LEAST_PATIENCE_SECONDS)

    def pause_seconds(self) -> float:
        """How long to wait before the next look."""
        check = self._check
        due = max(self._ask_at - self._seconds, 0.1) if self._running else math.inf
        return min(_LOOK_SECONDS, check.interval_seconds, due)

    def too_long(self, now: float) -> Verdict | None:
        """End a watch that leads to nothing."""
        if now - self._began < LONGEST_GATE_SECONDS:
            return None
        within = f"within {LONGEST_GATE_SECONDS:g} s, the longest that a version is watched"
        if self._ever_ill and not self._was_healthy and not self._paused:
            return self.failed(f"{self._trouble}, and not once it was healthy {within}")
        return self._undecided(f"{self._detail or 'it was not decided'} {within}".strip())

    def failed(self, reason: str) -> Verdict:
        """Return the verdict on a version that has shown that it doesn't work."""
        return Verdict(judgement=Judgement.FAILED, reason=reason, check=self._check.label)

    def _undecided(self, reason: str) -> Verdict:
        return Verdict(judgement=Judgement.UNDECIDED, reason=reason, check=self._check.label)
