"""Unhealthy instances at run time: restarted within a budget, told of, and never left stopped."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lxdocker_lxd.lxd.calls import Command, CommandResult
from lxdocker_lxd.lxd.failures import NotRunningError
from lxdocker_lxd.update.liveness import BUDGET, HEAL_KEY
from lxdocker_lxd.update.liveness_monitor import read_liveness
from lxdocker_lxd.update.plan import Choice
from lxdocker_lxd.update.rounds import Report
from tests.harness.simulated_lxd import Behaviour, Call, Fault, KilledError
from tests.update.test_rounds import AUTO, House

CHECK = {"user.lxdocker.update.health": "exec /bin/check"}
HEALS = AUTO | CHECK | {HEAL_KEY: "restart"}


class Clinic(House):
    """A house whose instance ``web`` answers its check as the test says."""

    def __init__(self, config: dict[str, str], directory: Path | None = None) -> None:
        super().__init__()
        self.code: int | None = 0
        self.heals_by_restart = True
        self.lxd.add_image("one", alias="app", behaviour=Behaviour(answer=self._answer))
        self.local("web", config)
        self.directory = directory
        self.begin_service()

    def _answer(self, command: Command, _seconds: float) -> CommandResult | None:
        if command.words != ("/bin/check",):
            return None
        if self.code is None:
            raise NotRunningError("LXD is away")
        return CommandResult(exit_code=self.code, stdout=b"", stderr=b"")

    def lives(self, seconds: float) -> list[Report]:
        """Let the service work for so long; return the rounds that did something."""
        reports = []
        end = self.lxd.clock.monotonic() + seconds
        while self.lxd.clock.monotonic() < end:
            self.lxd.clock.advance(5)
            if self.monitor.look(wait=True):
                report = self.run()
                if report.healed or report.problems:
                    reports.append(report)
        return reports


def test_an_unhealthy_instance_is_restarted_and_gets_well() -> None:
    clinic = Clinic(HEALS)
    assert clinic.lives(300) == []
    started = clinic.lxd.user.instances.get("web").last_used_at
    clinic.code = 1
    clinic.lxd.log.after = lambda call: setattr(
        clinic, "code", 0 if call.name == "power.start" else clinic.code
    )
    (report,) = clinic.lives(300)
    assert (report.healed, report.problems) == (("web",), ())
    web = clinic.lxd.user.instances.get("web")
    assert web.running
    assert web.last_used_at != started
    assert clinic.monitor.unhealthy() == ()


def test_restarts_that_dont_help_end_and_it_is_told_of_once() -> None:
    clinic = Clinic(HEALS)
    clinic.lives(100)
    clinic.code = 1
    reports = clinic.lives(3000)
    assert [report.healed for report in reports] == [("web",)] * BUDGET + [()]
    assert "restarts within an hour didn't help" in reports[-1].problems[0].text
    assert clinic.lxd.user.instances.get("web").running
    assert clinic.monitor.unhealthy() == (("default", "web"),)


def test_by_default_it_is_told_of_and_left() -> None:
    clinic = Clinic(AUTO | CHECK)
    clinic.lives(100)
    clinic.code = 1
    (report,) = clinic.lives(3000)
    assert report.healed == ()
    assert "user.lxdocker.heal=restart" in report.problems[0].text


@pytest.mark.parametrize("config", [AUTO | CHECK | {HEAL_KEY: "off"}, AUTO | {HEAL_KEY: "restart"}])
def test_what_has_no_check_or_isnt_to_be_watched_isnt(config: dict[str, str]) -> None:
    clinic = Clinic(config)
    clinic.code = 1
    assert clinic.lives(600) == []


def test_lxd_that_is_away_makes_nobody_ill() -> None:
    clinic = Clinic(HEALS)
    clinic.lives(100)
    clinic.code = None
    assert clinic.lives(3000) == []


def test_what_a_user_stopped_stays_stopped() -> None:
    clinic = Clinic(HEALS)
    clinic.lives(100)
    clinic.code = 1
    clinic.lxd.clock.advance(3600)

    def stop(call: Call) -> None:
        if call.name == "instances.get":
            clinic.lxd.log.before = lambda _call: None
            clinic.lxd.user.power.stop("web")

    for _ in range(40):
        clinic.lxd.clock.advance(5)
        if clinic.monitor.look(wait=True):
            clinic.lxd.log.before = stop
            assert clinic.run().healed == ()
            break
    assert clinic.lxd.user.instances.get("web").status == "Stopped"
    assert clinic.lives(600) == []


def test_nothing_is_restarted_while_lxd_is_at_work_on_it() -> None:
    clinic = Clinic(HEALS)
    clinic.lives(100)
    clinic.code = 1
    clinic.lxd.add_operation("Backing up", "/1.0/instances/web")
    assert [report.healed for report in clinic.lives(600)] == []
    clinic.lxd.end_operations()
    assert clinic.lives(60)[0].healed == ("web",)


def test_the_budget_outlives_the_service(tmp_path: Path) -> None:
    clinic = Clinic(HEALS, tmp_path)
    clinic.lives(100)
    clinic.code = 1
    healed = 0
    for _ in range(60):
        healed += sum(len(report.healed) for report in clinic.lives(55))
        clinic.begin_service()
    assert healed == BUDGET
    assert len(read_liveness(tmp_path)["default", "web"].restarts) == BUDGET


def test_a_key_that_cant_be_understood_is_told_by_the_plan() -> None:
    clinic = Clinic(AUTO | {HEAL_KEY: "reboot"})
    (decision,) = clinic.rounds().plan()
    assert (decision.choice, HEAL_KEY in decision.reason) == (Choice.REFUSE, True)


def ill(make: Callable[[], Clinic]) -> Clinic:
    """A clinic whose next round restarts the instance."""
    clinic = make()
    clinic.lives(100)
    clinic.code = 1
    while not clinic.monitor.look(wait=True):
        clinic.lxd.clock.advance(5)
    clinic.lxd.log.restart_count()
    return clinic


def test_a_restart_killed_at_any_call_leaves_nothing_stopped() -> None:
    injections = 0
    for fault in (Fault.KILLED_BEFORE, Fault.KILLED_AFTER, Fault.KILLED_LATE):
        number = 1
        while True:
            clinic = ill(lambda: Clinic(HEALS))
            clinic.lxd.log.faults = {number: fault}
            try:
                clinic.run()
                break
            except KilledError:
                injections += 1
            clinic.lxd.log.faults = {}
            clinic.code = 0
            clinic.lxd.clock.advance(1)
            clinic.begin_service()
            clinic.run()
            assert clinic.lxd.user.instances.get("web").running, (number, fault)
            number += 1
    assert injections > 20


def test_a_version_that_is_being_gated_isnt_restarted_by_its_side() -> None:
    clinic = Clinic(HEALS)
    clinic.lives(100)
    clinic.lxd.add_image("two", alias="app", behaviour=Behaviour(answer=clinic._answer))
    asked = []

    def look(call: Call) -> None:
        if call.name == "guests.execute":
            asked.append(clinic.monitor.sick())

    clinic.code = 1
    clinic.lxd.log.before = look
    clinic.run()
    assert asked
    assert all(sick == () for sick in asked)


def test_a_spoilt_memory_is_no_memory(tmp_path: Path) -> None:
    (tmp_path / "liveness.json").write_text("[" * 100_000)
    assert read_liveness(tmp_path) == {}
    clinic = Clinic(HEALS, tmp_path)
    clinic.lives(60)
    assert replace(read_liveness(tmp_path)["default", "web"], since=None, checked_at=None)
