"""The gate on scripted instances and a clock of its own."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from lxdocker_lxd.guest_health import Health
from lxdocker_lxd.update.health import (
    LONGEST_GATE_SECONDS,
    Activity,
    End,
    Observation,
    Requested,
    verdict_of_end,
    wait_for_health,
)
from lxdocker_lxd.update.health_check import Check, Kind
from lxdocker_lxd.update.means import Judgement, Verdict

HEALTHY, FAILED = Judgement.HEALTHY, Judgement.FAILED
STOPPED, UNDECIDED = Judgement.STOPPED, Judgement.UNDECIDED
RUNNING = Check(kind=Kind.RUNNING)
BY_ITSELF = End(exited=True, exit_code=3, stop_requested=False)


def well(_second: float) -> Health:
    return Health.HEALTHY


def from_then_on(second: float) -> Callable[[float], Health]:
    """Healthy from that second on."""
    return lambda now: Health.HEALTHY if now >= second else Health.UNHEALTHY


class Script:
    """An instance whose health is a function of the seconds since its start.

    ``starts``: when its command is started. ``crashes`` are seconds at which it ends and is started
    again ``down`` seconds later. ``pauses`` are times from, to. ``ends`` is its end, ``end`` of what kind;
    ``reboots`` are restarts of the instance.
    """

    def __init__(
        self,
        look: Callable[[float], Health] = well,
        *,
        starts: float = 0,
        crashes: tuple[float, ...] = (),
        down: float = 1,
        pauses: tuple[tuple[float, float], ...] = (),
        ends: float = 1e9,
        reboots: tuple[float, ...] = (),
        end: End = BY_ITSELF,
    ) -> None:
        self.now = 0.0
        self._look, self._starts, self._crashes = look, starts, crashes
        self._down = down
        self._pauses, self._ends, self._reboots = pauses, ends, reboots
        self._end = end
        self.asked: list[float] = []

    def observe(self) -> Observation:
        now = self.now
        if now >= self._ends:
            return Observation(activity=Activity.ENDED)
        if any(since <= now < until for since, until in self._pauses):
            return Observation(activity=Activity.PAUSED, detail="it was frozen for too long,")
        past = [moment for moment in self._crashes if moment <= now]
        activity = Activity.RUNNING
        if now < self._starts:
            activity = Activity.STARTING
        elif past and now < past[-1] + self._down:
            activity = Activity.RESTARTING
        process = 7 + sum(moment <= now for moment in self._reboots)
        code = 1 if past else None
        return Observation(
            activity=activity, process_id=process, restarts=len(past), exit_code=code
        )

    def look(self, _check: Check) -> Health:
        self.asked.append(self.now)
        return self._look(self.now)

    def end(self) -> End:
        return self._end

    def judge(self, check: Check) -> Verdict:
        def pause(seconds: float) -> None:
            assert seconds > 0
            assert self.now < 10_000, "it never ends"
            self.now += seconds

        return wait_for_health(check, self, clock=lambda: self.now, pause=pause)


@pytest.mark.parametrize(
    ("script", "judgement", "reason"),
    [
        (Script(), HEALTHY, "health check"),
        (Script(ends=0), FAILED, "ended by itself with code 3"),
        (Script(ends=5), FAILED, "ended by itself with code 3"),
        (Script(from_then_on(50)), HEALTHY, "health check"),
        (Script(from_then_on(100)), FAILED, "its check fails"),
        (
            Script(lambda second: Health.HEALTHY if second < 5 else Health.UNHEALTHY),
            FAILED,
            "healthy, then",
        ),
        (
            Script(lambda second: Health.HEALTHY if second % 4 < 2 else Health.UNHEALTHY),
            FAILED,
            "healthy, then",
        ),
        (
            Script(lambda second: Health.UNHEALTHY if 4 <= second < 6 else Health.HEALTHY),
            HEALTHY,
            "health check",
        ),
    ],
)
def test_what_is_shown_decides(script: Script, judgement: Judgement, reason: str) -> None:
    verdict = script.judge(Check())
    assert verdict.judgement is judgement
    assert reason in verdict.reason


@pytest.mark.parametrize("starts", [0, 1.2, 12, 50])
@pytest.mark.parametrize("ready", [8, 15, 50])
def test_a_slow_starter_behind_a_slow_network_has_its_start_period(
    starts: float, ready: float
) -> None:
    """The start period begins with the command: what came before is neither good nor bad."""

    def look(second: float) -> Health:
        if second < starts:
            return Health.STARTING
        return Health.HEALTHY if second >= starts + ready else Health.UNHEALTHY

    script = Script(look, starts=starts)
    verdict = script.judge(Check())
    assert verdict.judgement is HEALTHY
    assert script.now >= starts + ready + 10


def test_one_that_never_gets_healthy_fails_however_long_its_network_took() -> None:
    script = Script(lambda _second: Health.UNHEALTHY, starts=12)
    verdict = script.judge(Check())
    assert (verdict.judgement, verdict.reason) == (FAILED, "its check fails")
    assert 12 + 60 <= script.now < 12 + 80


def test_a_command_that_is_never_started_is_no_proof_and_no_fault() -> None:
    script = Script(starts=1e9)
    verdict = script.judge(Check())
    assert verdict.judgement is UNDECIDED
    assert "not started within 60 s" in verdict.reason
    assert script.now < 70
    assert not script.asked


def test_a_command_that_crashes_again_and_again_isnt_running() -> None:
    """Its supervisor lives all the time."""
    for check in (RUNNING, Check()):
        # It ends at once, and each time its supervisor waits for twice as long.
        script = Script(crashes=(0, 1, 3, 7, 15, 31, 63, 123), down=60)
        verdict = script.judge(check)
        assert script.now < 70
        assert (verdict.judgement, verdict.reason) == (
            FAILED,
            "its command ends with code 1 and is started again",
        )


def test_a_restart_of_the_command_begins_the_window_anew() -> None:
    script = Script(crashes=(1.0, 8.0))
    verdict = script.judge(RUNNING)
    assert verdict.judgement is HEALTHY
    assert script.now >= 8 + 10


def test_only_a_real_success_counts_as_one() -> None:
    """A look that found nothing to ask doesn't end the start period."""
    for nothing in (Health.NONE, Health.UNKNOWN, Health.STARTING):

        def look(second: float, said: Health = nothing) -> Health:
            if second < 1:
                return said
            return Health.HEALTHY if second >= 40 else Health.UNHEALTHY

        assert Script(look).judge(Check()).judgement is HEALTHY


def test_a_check_that_cannot_be_asked_is_no_verdict() -> None:
    script = Script(lambda _second: Health.UNKNOWN)
    verdict = script.judge(Check())
    assert (verdict.judgement, verdict.healthy) == (UNDECIDED, False)
    assert "could not be asked" in verdict.reason
    assert script.now < 70
    # A hole in the answers is neither a failure nor a part of the proof.
    holes = Script(lambda second: Health.UNKNOWN if 2 < second < 20 else Health.HEALTHY)
    assert holes.judge(Check()).judgement is HEALTHY
    assert holes.now >= 20


def test_what_was_shown_without_a_check_is_that_it_runs() -> None:
    assert Script(lambda _second: Health.NONE).judge(Check()).check == "running 10 s"
    assert Script().judge(RUNNING).check == "running 10 s"
    assert Script().judge(Check(kind=Kind.TCP, port=80)).check == "tcp 80"


@pytest.mark.parametrize("pauses", [((3, 30),), ((0, 200),), ((1, 2), (5, 400))])
def test_a_frozen_instance_is_waited_for(pauses: tuple[tuple[float, float], ...]) -> None:
    """A snapshot freezes it, an upgrade takes LXD away: time stands still for the version."""
    script = Script(from_then_on(40), pauses=pauses)
    assert script.judge(Check()).judgement is HEALTHY
    longer = Script(lambda _second: Health.UNHEALTHY, pauses=pauses)
    assert longer.judge(Check()).judgement is FAILED
    assert longer.now >= 60


def test_one_that_stays_frozen_blames_nobody() -> None:
    script = Script(pauses=((4, 1e9),))
    verdict = script.judge(Check())
    assert verdict.judgement is UNDECIDED
    assert "frozen" in verdict.reason
    assert script.now <= LONGEST_GATE_SECONDS + 10


def test_the_gate_ends_whatever_its_keys_say() -> None:
    endless = replace(Check(), start_period_seconds=86_400, stable_seconds=1800)
    for look in (lambda _second: Health.UNHEALTHY, lambda _second: Health.STARTING):
        script = Script(look)
        assert not script.judge(endless).healthy
        assert script.now <= LONGEST_GATE_SECONDS + 60
    flapping = Script(lambda second: Health.UNHEALTHY if second % 1000 < 3 else Health.HEALTHY)
    assert flapping.judge(endless).judgement is UNDECIDED
    assert flapping.now <= LONGEST_GATE_SECONDS + 60


def test_a_long_interval_neither_delays_the_end_nor_the_window() -> None:
    slow = replace(Check(), interval_seconds=300, start_interval_seconds=5)
    script = Script()
    assert script.judge(slow).healthy
    assert script.now <= 11
    ended = Script(ends=7)
    assert ended.judge(replace(slow, stable_seconds=60)).judgement is FAILED
    assert ended.now < 15


def test_one_look_at_an_end_is_not_enough() -> None:
    script = Script()
    seen = iter([Observation(activity=Activity.ENDED)])
    observe = script.observe
    script.observe = lambda: next(seen, None) or observe()  # type: ignore[method-assign]
    assert script.judge(Check()).healthy


@pytest.mark.parametrize(
    ("end", "judgement"),
    [
        (End(requested=Requested.BY_USER), STOPPED),
        (replace(BY_ITSELF, stop_requested=True, requested=Requested.BY_USER), STOPPED),
        # LXD or its host shuts down: PID 1 was asked, by no user.
        (replace(BY_ITSELF, stop_requested=True, requested=Requested.BY_NOBODY), UNDECIDED),
        (replace(BY_ITSELF, stop_requested=True), UNDECIDED),
        # The guest's word needs no event.
        (BY_ITSELF, FAILED),
        (replace(BY_ITSELF, exit_code=0), FAILED),
        # A foreign image: LXD told of the end, and named nobody.
        (End(requested=Requested.BY_NOBODY), FAILED),
        (End(), UNDECIDED),
        # An older guest doesn't tell whether it was asked.
        (replace(BY_ITSELF, stop_requested=None, requested=Requested.BY_NOBODY), FAILED),
        (replace(BY_ITSELF, stop_requested=None), UNDECIDED),
    ],
)
def test_an_end_is_judged_by_its_evidence(end: End, judgement: Judgement) -> None:
    assert verdict_of_end(end).judgement is judgement
    assert Script(ends=5, end=end).judge(Check()).judgement is judgement


def test_a_restart_by_a_user_begins_the_watch_anew_and_one_by_itself_ends_it() -> None:
    by_user = Script(reboots=(5,), end=End(requested=Requested.BY_USER))
    assert by_user.judge(Check()).judgement is HEALTHY
    assert by_user.now >= 15
    nobody_knows = Script(reboots=(5,), end=End())
    assert nobody_knows.judge(Check()).judgement is HEALTHY
    by_itself = Script(reboots=(5,), end=End(requested=Requested.BY_NOBODY))
    verdict = by_itself.judge(Check())
    assert (verdict.judgement, "restarted by itself" in verdict.reason) == (FAILED, True)
    again = Script(reboots=tuple(range(3, 300, 3)), end=End(requested=Requested.BY_USER))
    assert again.judge(Check()).judgement is UNDECIDED
