"""What is wrong with one instance is told of that one, and stops no other."""

from collections.abc import Callable
from itertools import pairwise
from typing import Self

import pytest

from lxdocker_lxd.errors import LxdError, LxdockerError, StorageError
from lxdocker_lxd.lxd.failures import (
    BusyError,
    NotRunningError,
    RefusedError,
    StartFailedError,
    WrongStateError,
)
from lxdocker_lxd.update.journal_record import Entry
from lxdocker_lxd.update.plan import Choice, Key
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.rounds import Report
from lxdocker_lxd.update.watch import Rhythm, Watch
from tests.harness.simulated_lxd import EXITS_AT_ONCE, Call
from tests.update.test_rounds import AUTO, House


@pytest.fixture
def house() -> House:
    """Two enrolled instances of unrelated images: ``aaa`` comes first in everything."""
    house = House()
    for name in ("aaa", "zeta"):
        house.lxd.add_image(f"{name} one", alias=name)
        house.local(name, alias=name)
    return house


def new_versions(house: House) -> None:
    for name in ("aaa", "zeta"):
        house.lxd.add_image(f"{name} two", alias=name)


def spoil(house: House, error: Callable[[], Exception], *names: str, subject: str = "aaa") -> None:
    """Let calls of these names about an instance, or what waits beside it, fail."""

    def before(call: Call) -> None:
        if call.name in names and call.subject.startswith(subject):
            raise error()

    house.lxd.log.before = before


def fails_at(call: Call, name: str, subject: str, error: Exception) -> None:
    if (call.name, call.subject) == (name, subject):
        raise error


def ends(report: Report) -> dict[str, Act]:
    return {one.transaction.name: one.act for one in report.outcomes}


def told(report: Report) -> list[tuple[str, str]]:
    return [(one.name, one.text) for one in report.problems]


def hours(house: House, count: float) -> None:
    house.lxd.clock.advance(count * 3600)


def test_an_instance_lxd_stays_busy_with_keeps_nobody_else_waiting(house: House) -> None:
    new_versions(house)
    spoil(house, lambda: BusyError("Instance is busy running a stop operation"), "power.stop")
    first = house.run()
    # The next rounds begin with it.
    second = house.run()
    for report in (first, second):
        assert [(name, "busy" in text) for name, text in told(report)] == [("aaa", True)]
        assert report.bad
    assert ends(first) == {"zeta": Act.COMMITTED}
    assert house.image("zeta") == house.lxd.user.aliases.get("zeta").fingerprint
    house.lxd.log.before = lambda _call: None
    assert house.run().problems == ()


def test_a_pool_that_doesnt_answer_is_the_trouble_of_those_on_it(house: House) -> None:
    house.lxd.store.pools["sick"] = house.lxd.store.pools["default"]
    house.lxd.store.pool_bytes["sick"] = 1 << 40
    box = house.lxd.box("aaa")
    root = {"root": {"type": "disk", "path": "/", "pool": "sick"}}
    house.lxd.user.instances.patch("aaa", devices=root)
    assert box.settings.devices["root"]["pool"] == "sick"
    new_versions(house)
    spoil(
        house, lambda: RefusedError("the pool sick is unavailable"), "pools.space", subject="sick"
    )
    report = house.run()
    assert ends(report) == {"zeta": Act.COMMITTED}
    assert [name for name, _ in told(report)] == ["aaa"]


def test_a_copy_that_cant_be_removed_ends_no_round_and_keeps_no_other(house: House) -> None:
    new_versions(house)
    house.run()
    hours(house, 73)
    spoil(house, lambda: WrongStateError("dataset is busy"), "instances.delete")
    report = house.run()
    ((name, text),) = told(report)
    assert (name.startswith("aaa-old"), "dataset is busy" in text) == (True, True)
    assert [name.startswith("zeta-old") for name in report.removed] == [True]


def test_a_held_update_rests_with_its_instance_and_hinders_no_other(house: House) -> None:
    new_versions(house)
    failed = StartFailedError("could not start: a device is gone")
    house.lxd.log.before = lambda call: fails_at(call, "power.start", "aaa", failed)
    report = house.run()
    assert ends(report) == {"aaa": Act.HOLD, "zeta": Act.COMMITTED}


def test_a_name_with_something_open_gets_no_second_stage(house: House) -> None:
    house.lxd.add_image("aaa two", alias="aaa", behaviour=EXITS_AT_ONCE)
    # A stage that can't be removed: its update was given up for lack of a lease.
    deleting = ("instances.delete", WrongStateError("the stage is protected"))

    def before(call: Call) -> None:
        if call.name == deleting[0] and call.subject.startswith("aaa-new"):
            raise deleting[1]
        if call.name == "instances.replace" and call.subject == "aaa":
            raise RefusedError("nobody may write it")

    house.lxd.log.before = before
    for _ in range(24):
        house.run()
        hours(house, 1)
    names = [one.name for one in house.lxd.user.instances.list()]
    assert len([name for name in names if name.startswith("aaa-new")]) == 1
    (decision,) = (one for one in house.rounds().plan() if one.name == "aaa")
    assert (decision.choice, decision.reason) == (
        Choice.WAIT,
        "an earlier update isn't finished",
    )
    house.lxd.log.before = lambda _call: None
    house.run()
    names = [one.name for one in house.lxd.user.instances.list()]
    assert not [name for name in names if name.startswith("aaa-new")]


def test_a_bug_met_with_one_instance_is_told_of_it_and_survived(house: House) -> None:
    new_versions(house)
    spoil(house, lambda: ZeroDivisionError("division by zero"), "instances.create")
    report = house.run()
    assert ends(report) == {"zeta": Act.COMMITTED}
    ((name, text),) = told(report)
    assert name == "aaa"
    assert "internal error: ZeroDivisionError" in text
    assert "Traceback" not in text


def test_a_bug_in_recovery_and_one_in_reading_keys_are_survived(house: House) -> None:
    new_versions(house)
    spoil(house, lambda: ZeroDivisionError("division by zero"), "power.stop")
    house.run()
    house.lxd.add_image("zeta three", alias="zeta")
    report = house.run()
    assert ends(report) == {"zeta": Act.COMMITTED}
    assert [name for name, _ in told(report)] == ["aaa"]


def test_what_ends_a_round_is_lxd_away_and_a_journal_without_room_is_told_once(
    house: House,
) -> None:
    new_versions(house)
    spoil(house, lambda: NotRunningError("nobody listens"), "instances.create")
    with pytest.raises(NotRunningError):
        house.run()
    house.lxd.log.before = lambda _call: None

    class FullError(StorageError):
        """No room for the journal."""

    def full(_entry: Entry) -> None:
        raise FullError("no space left on device")

    house.journal.append = full  # type: ignore[method-assign,assignment] # a full disk
    report = house.run()
    assert {text for _, text in told(report)} == {"no space left on device"}


def test_a_bad_version_ends_the_wave_of_its_own_image_alone(house: House) -> None:
    house.local("aab", alias="aaa")
    house.lxd.add_image("aaa two", alias="aaa", behaviour=EXITS_AT_ONCE)
    house.lxd.add_image("zeta two", alias="zeta")
    report = house.run()
    assert ends(report) == {"aaa": Act.ROLLED_BACK, "zeta": Act.COMMITTED}
    assert house.image("aab") != house.lxd.user.aliases.get("aaa").fingerprint


def test_what_depends_on_one_that_failed_waits_for_a_later_round(house: House) -> None:
    house.lxd.add_image("front one", alias="front")
    house.local("front", AUTO | {"user.lxdocker.depends": "aaa"}, alias="front")
    house.lxd.add_image("aaa two", alias="aaa", behaviour=EXITS_AT_ONCE)
    house.lxd.add_image("front two", alias="front")
    assert ends(house.run()) == {"aaa": Act.ROLLED_BACK}
    assert ends(house.run()) == {"front": Act.COMMITTED}


def test_what_depends_on_one_that_is_stuck_waits_as_well(house: House) -> None:
    house.lxd.add_image("front one", alias="front")
    house.local("front", AUTO | {"user.lxdocker.depends": "aaa"}, alias="front")
    new_versions(house)
    house.lxd.add_image("front two", alias="front")
    spoil(house, lambda: BusyError("Instance is busy running a stop operation"), "power.stop")
    assert ends(house.run()) == {"zeta": Act.COMMITTED}


# ---- the service


def test_the_service_survives_a_bug_and_rests_ever_longer() -> None:
    now, worked = [0.0], []
    said: list[LxdockerError] = []

    def work() -> frozenset[Key]:
        worked.append(now[0])
        if len(worked) <= 4:
            raise ZeroDivisionError("division by zero")
        return frozenset()

    def pause(seconds: float) -> bool:
        now[0] += seconds
        return now[0] > 6000

    class Stream:
        """Events that say at once that something may have changed, and then nothing."""

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_error: object) -> None:
            return

        def take(self, seconds: float) -> None:
            now[0] += max(seconds, 0.1)

    Watch(
        Stream,  # type: ignore[arg-type] # what is used of it
        work,
        clock=lambda: now[0],
        pause=pause,
        tell=said.append,
        rhythm=Rhythm(interval_seconds=300),
    ).run()
    assert [("internal error: ZeroDivisionError" in one.message) for one in said] == [True] * 4
    gaps = [round(after - before, -1) for before, after in pairwise(worked)]
    assert gaps[:4] == [300, 600, 1200, 2400]
    assert all(not isinstance(one, LxdError) for one in said)
