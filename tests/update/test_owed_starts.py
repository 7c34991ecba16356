"""A new version of an instance that the updater stopped, and could not start again, is gated."""

import contextlib
from collections.abc import Callable

import pytest

from lxdocker_lxd.lxd.failures import BusyError, StartFailedError
from lxdocker_lxd.update.configuration import is_parked
from lxdocker_lxd.update.journal_record import owed_restarts
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.rounds import Report
from lxdocker_lxd.update.transaction import REJECTED_KEY, Proof, Stamp, stamp_of
from tests.harness.simulated_lxd import (
    EXITS_AT_ONCE,
    Behaviour,
    Call,
    Fault,
    KilledError,
    SimulatedLxd,
)
from tests.update.test_dependants import DEPENDS, FULL
from tests.update.test_healing import HEALS, Clinic
from tests.update.test_rounds import AUTO, House

KILLS = (Fault.KILLED_BEFORE, Fault.KILLED_AFTER, Fault.KILLED_LATE)


def no_start_of(lxd: SimulatedLxd, image: str) -> None:
    """No start of ``web`` as long as it is made of the image."""

    def before(call: Call) -> None:
        if (call.name, call.subject) == ("power.start", "web"):
            held = lxd.user.instances.get("web")
            if not image or held.base_image == image:
                raise StartFailedError("device missing")

    lxd.log.before = before


def starts_again(house: House) -> None:
    house.lxd.log.before = lambda _call: None


def restarted_for_its_health() -> House:
    clinic = Clinic(HEALS)
    clinic.lives(100)
    clinic.code = 1
    no_start_of(clinic.lxd, "")
    clinic.lives(150)
    clinic.code = 0
    return clinic


def restarted_for_its_dependency() -> House:
    house = House()
    house.lxd.add_image("one", alias="app")
    house.lxd.add_image("db one", alias="db")
    house.local("db", alias="db")
    house.local("web", AUTO | {DEPENDS: "db"})
    house.lxd.add_image("db two", alias="db")
    no_start_of(house.lxd, "")
    house.run()
    return house


BOTH = [restarted_for_its_health, restarted_for_its_dependency]


def with_news(make: Callable[[], House], behaviour: Behaviour | None = None) -> House:
    """A house whose ``web`` is stopped, with its start owed, and gets a new version."""
    house = make()
    assert house.lxd.user.instances.get("web").status == "Stopped"
    assert [one.key for one in owed_restarts(house.journal.entries)] == [("default", "web")]
    answer = house._answer if isinstance(house, Clinic) else None
    behaviour = behaviour or Behaviour(answer=answer)
    no_start_of(house.lxd, house.image("web"))
    house.lxd.add_image("two", alias="app", behaviour=behaviour)
    return house


def stamp(house: House) -> Stamp | None:
    held = stamp_of(house.lxd.user.instances.get("web"))
    assert not isinstance(held, str)
    return held if isinstance(held, Stamp) else None


def acts(report: Report) -> list[Act]:
    outcomes = (*report.recovered, *report.outcomes)
    return [one.act for one in outcomes if one.transaction.name == "web"]


@pytest.mark.parametrize("make", BOTH)
def test_a_good_version_is_started_gated_and_may_be_the_fix(make: Callable[[], House]) -> None:
    house = with_news(make)
    assert acts(house.run()) == [Act.COMMITTED]
    web, held = house.lxd.user.instances.get("web"), stamp(house)
    assert held is not None
    assert (web.running, held.proof, held.ran) == (True, Proof.GATE, True)
    assert owed_restarts(house.journal.entries) == ()


@pytest.mark.parametrize("make", BOTH)
def test_a_bad_version_is_rolled_back_and_the_old_one_started_later(
    make: Callable[[], House],
) -> None:
    house = with_news(make, EXITS_AT_ONCE)
    old = house.image("web")
    assert acts(house.run()) == [Act.ROLLED_BACK]
    assert house.image("web") == old
    assert REJECTED_KEY in house.lxd.user.instances.get("web").config
    assert [one.key for one in owed_restarts(house.journal.entries)] == [("default", "web")]
    starts_again(house)
    house.run()
    assert house.lxd.user.instances.get("web").running
    assert owed_restarts(house.journal.entries) == ()


@pytest.mark.parametrize("make", BOTH)
def test_a_version_that_starts_as_little_as_the_old_one_isnt_blamed(
    make: Callable[[], House],
) -> None:
    house = with_news(make)
    old = house.image("web")
    no_start_of(house.lxd, "")
    assert acts(house.run()) == [Act.ROLLED_BACK]
    assert (house.image("web"), REJECTED_KEY in house.lxd.user.instances.get("web").config) == (
        *(old, False),
    )
    starts_again(house)
    house.run("web")
    web = house.lxd.user.instances.get("web")
    assert (web.running, web.base_image != old) == (True, True)


@pytest.mark.parametrize("make", BOTH)
def test_a_user_who_stops_the_new_version_is_obeyed(make: Callable[[], House]) -> None:
    house = with_news(make)

    def after(call: Call) -> None:
        if (call.name, call.subject) == ("power.state", "web"):
            house.lxd.log.after = lambda _call: None
            house.lxd.user.power.stop("web")

    house.lxd.log.after = after
    assert acts(house.run()) == [Act.ROLLED_BACK]
    starts_again(house)
    house.run()
    assert house.lxd.user.instances.get("web").status == "Stopped"
    assert owed_restarts(house.journal.entries) == ()


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize("last", ["instances.replace", "instances.rename"])
def test_what_is_owed_outlives_rounds_that_cant_finish_its_update(
    make: Callable[[], House], last: str
) -> None:
    """Parked it has none of its keys, and between the renames nobody has the name."""
    house = with_news(make, EXITS_AT_ONCE)
    old = house.image("web")

    def after(call: Call) -> None:
        if (call.name, call.subject) != (last, "web"):
            return
        named = [one for one in house.lxd.user.instances.list() if one.name == "web"]
        if not named or is_parked(named[0]):
            raise KilledError(str(call))

    house.lxd.log.restart_count()
    house.lxd.log.after = after
    with pytest.raises(KilledError):
        house.run()
    house.lxd.log.after = lambda _call: None

    def before(call: Call) -> None:
        if call.writes:
            raise BusyError("Instance is busy")

    house.lxd.log.before = before
    house.run()
    assert [one.key for one in owed_restarts(house.journal.entries)] == [("default", "web")]
    starts_again(house)
    house.run()
    house.run()
    web = house.lxd.user.instances.get("web")
    assert (web.running, web.base_image) == (True, old)


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize("behaviour", [None, EXITS_AT_ONCE])
@pytest.mark.parametrize("fault", KILLS)
def test_killed_at_any_call_it_runs_in_the_end_and_nothing_is_committed_ungated(
    make: Callable[[], House], behaviour: Behaviour | None, fault: Fault
) -> None:
    # Each call is met by one of the three, in a full run by all of them.
    number, step = (1, 1) if FULL else (1 + KILLS.index(fault), len(KILLS))
    while True:
        house = with_news(make, behaviour)
        old = house.image("web")
        house.lxd.log.restart_count()
        house.lxd.log.faults = {number: fault}
        with contextlib.suppress(KilledError):
            house.run()
        if house.lxd.log.number < number:
            break
        house.lxd.log.faults = {}
        house.lxd.finish()
        seen = [acts(house.run()), acts(house.run())]
        starts_again(house)
        seen += [acts(house.run()), acts(house.run("web"))]
        told = [number, seen, *map(str, house.lxd.log.calls[-60:])]
        web, held = house.lxd.user.instances.get("web"), stamp(house)
        assert web.running, told
        assert owed_restarts(house.journal.entries) == (), told
        assert (web.base_image == old) is (behaviour is EXITS_AT_ONCE), told
        if web.base_image != old:
            assert held is not None
            assert held.proof is Proof.GATE, told
        number += step
    assert number > 60
