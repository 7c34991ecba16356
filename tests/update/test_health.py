"""The gate on scripted instances and a clock of its own."""

from collections.abc import Callable

import pytest

from lxdocker_lxd.update.health import (
    Answer,
    Check,
    HealthError,
    Kind,
    check_of,
    wait_for_health,
)
from lxdocker_lxd.update.means import Verdict


class Script:
    """An instance whose health is a function of the seconds since its start."""

    def __init__(
        self,
        look: Callable[[float], bool] = lambda _second: True,
        *,
        ends: float = 1e9,
        restarts: float = 1e9,
    ) -> None:
        self.now = 0.0
        self._look = look
        self._ends, self._restarts = ends, restarts

    def running(self) -> bool:
        return self.now < self._ends

    def process_id(self) -> int:
        return 7 if self.now < self._restarts else 8

    def look(self, _check: Check) -> Answer:
        return Answer.HEALTHY if self._look(self.now) else Answer.UNHEALTHY

    def judge(self, check: Check) -> Verdict:
        def pause(seconds: float) -> None:
            assert self.now < 10_000, "it never ends"
            self.now += seconds

        return wait_for_health(check, self, clock=lambda: self.now, pause=pause)


@pytest.mark.parametrize(
    ("script", "healthy", "reason"),
    [
        (Script(), True, "healthy"),
        (Script(ends=0), False, "ended"),
        (Script(ends=5), False, "ended"),
        (Script(restarts=5), False, "restarted"),
        (Script(lambda second: second > 50), True, "healthy"),
        (Script(lambda second: second > 100), False, "fails"),
        (Script(lambda second: second < 5), False, "healthy, then"),
        (Script(lambda second: second % 4 < 2), False, "healthy, then"),
        (Script(lambda second: not 4 <= second < 6), True, "healthy"),
    ],
)
def test_what_is_shown_decides(script: Script, healthy: bool, reason: str) -> None:
    verdict = script.judge(Check())
    assert verdict.healthy is healthy
    assert reason in verdict.reason


def test_keys_name_the_check_and_its_times() -> None:
    prefix = "user.lxdocker.update."
    assert check_of({}) == Check()
    check = check_of({f"{prefix}health": "exec sh -c 'test -e /x'", f"{prefix}stable": "3"})
    assert (check.kind, check.command, check.stable_seconds) == (
        Kind.EXEC,
        ("sh", "-c", "test -e /x"),
        3.0,
    )
    assert check_of({f"{prefix}health": "http 8080 /ready"}).path == "/ready"
    assert check_of({f"{prefix}health": "tcp 53"}).port == 53
    assert check_of({f"{prefix}health": "running"}).kind is Kind.RUNNING


@pytest.mark.parametrize("text", ["exec", "tcp", "tcp 0", "tcp 70000", "http x", "ping", "exec '"])
def test_a_check_that_isnt_understood_is_said(text: str) -> None:
    with pytest.raises(HealthError):
        check_of({"user.lxdocker.update.health": text})


@pytest.mark.parametrize(("key", "value"), [("stable", "-1"), ("interval", "x"), ("retries", "0")])
def test_times_that_make_no_sense_are_said(key: str, value: str) -> None:
    with pytest.raises(HealthError):
        check_of({f"user.lxdocker.update.{key}": value})
