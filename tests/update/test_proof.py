"""What counts as proved: the last root that was shown to work outlives everything unproved."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from lxdocker_lxd.errors import LxdError
from lxdocker_lxd.guest_state import STATE_PATH
from lxdocker_lxd.lxd.calls import GuestFile
from lxdocker_lxd.lxd.failures import (
    AddressTakenError,
    LimitReachedError,
    NoSpaceError,
    RefusedError,
)
from lxdocker_lxd.update.copy_ages import CopyAges
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.recovery import parked_copy, reap
from lxdocker_lxd.update.retention import (
    COPIES_KEY,
    KEEP_KEY,
    Retention,
    copies_of,
    retention_of,
    retention_problems,
)
from lxdocker_lxd.update.rounds import Rounds
from lxdocker_lxd.update.transaction import (
    STAMP_KEY,
    Phase,
    Proof,
    Stamp,
    encoded,
    readable_stamp,
)
from tests.harness.simulated_lxd import (
    GOOD,
    REFUSES_TO_START,
    Behaviour,
    Call,
    Supervised,
    crashes_after,
)
from tests.update.story import NEW, OLD, THIRD, World
from tests.update.test_rounds import AUTO, House


@pytest.fixture
def house() -> House:
    house = House()
    house.lxd.add_image("one", alias="app")
    house.local("web")
    return house


def roots(house: House) -> set[str]:
    return {one.base_image for one in house.lxd.user.instances.list()}


def stamp(house: House, name: str = "web") -> Stamp:
    found = readable_stamp(house.lxd.user.instances.get(name))
    assert found is not None
    return found


def ended_with(house: House, code: int, *, asked: bool) -> None:
    """What the guest of a converted image leaves when it has ended."""
    text = f'{{"status":"exited","exit_code":{code},"stop_requested":{str(asked).lower()}}}'
    box = house.lxd.box("web")
    box.guest.files[STATE_PATH] = GuestFile(content=text.encode())


def test_a_version_that_never_ran_doesnt_take_the_place_of_one_that_did(house: House) -> None:
    """An archive that is stopped most of the year gets versions that can't start."""
    house.lxd.user.power.stop("web")
    first = house.image("web")
    for version in ("two", "three", "four", "five", "six"):
        house.lxd.add_image(version, alias="app", behaviour=REFUSES_TO_START)
        assert [one.act for one in house.run().outcomes] == [Act.COMMITTED]
        assert stamp(house).proof is Proof.NEVER_RAN
        house.lxd.clock.advance(73 * 3600)
        house.run()
        assert first in roots(house)
    # What never ran isn't worth keeping once its time is over.
    assert len(roots(house)) == 2
    transaction = parked_copy(house.lxd.user.instances.list(), "web", "default")
    assert transaction is not None
    assert house.updater().turn_back(transaction).act is Act.ROLLED_BACK
    assert house.image("web") == first


def test_a_service_that_fell_over_gets_its_fix_started_and_gated(house: House) -> None:
    first = house.image("web")
    second = house.lxd.add_image("two", alias="app", behaviour=crashes_after(12.0))
    assert [one.act for one in house.run().outcomes] == [Act.COMMITTED]
    house.lxd.clock.advance(60)
    assert house.lxd.user.instances.get("web").status == "Stopped"
    ended_with(house, 3, asked=False)
    house.lxd.clock.advance(73 * 3600)
    house.run()
    # It passed its gate once, but nobody can say that it works.
    assert roots(house) == {first, second}
    third = house.lxd.add_image("three", alias="app")
    assert [one.act for one in house.run().outcomes] == [Act.COMMITTED]
    web = house.lxd.user.instances.get("web")
    assert (web.base_image, web.running) == (third, True)
    assert (stamp(house).proof, stamp(house).ran) == (Proof.GATE, True)
    crashed = [one for one in house.lxd.user.instances.list() if one.base_image == second]
    assert stamp(house, crashed[0].name).proof is Proof.CRASHED


def test_a_fallen_service_whose_files_lxd_refuses_to_read_for_a_moment_is_no_stopped_one(
    house: House,
) -> None:
    house.lxd.add_image("two", alias="app", behaviour=crashes_after(12.0))
    house.run()
    house.lxd.clock.advance(60)
    ended_with(house, 3, asked=False)
    third = house.lxd.add_image("three", alias="app")
    refused = 3

    def refuse(call: Call) -> None:
        nonlocal refused
        if call.name == "guests.read_file" and refused:
            refused -= 1
            raise RefusedError(f"could not {call}: status 500, no reason given")

    house.lxd.log.before = refuse
    assert [one.act for one in house.run().outcomes] == [Act.COMMITTED]
    web = house.lxd.user.instances.get("web")
    assert (web.base_image, web.running, refused) == (third, True, 0)


def test_a_fix_that_fails_as_well_leaves_the_fallen_service_as_it_was_found(house: House) -> None:
    house.lxd.add_image("two", alias="app", behaviour=crashes_after(12.0))
    house.run()
    house.lxd.clock.advance(60)
    ended_with(house, 3, asked=False)
    second = house.image("web")
    house.lxd.add_image("three", alias="app", behaviour=crashes_after(0.0))
    assert [one.act for one in house.run().outcomes] == [Act.ROLLED_BACK]
    web = house.lxd.user.instances.get("web")
    assert (web.base_image, web.status) == (second, "Stopped")
    assert parked_copy(house.lxd.user.instances.list(), "web", "default") is not None


@pytest.mark.parametrize(("code", "asked"), [(0, False), (3, True), (143, True)])
def test_what_was_stopped_or_had_finished_stays_stopped(
    house: House, code: int, *, asked: bool
) -> None:
    house.lxd.user.power.stop("web")
    ended_with(house, code, asked=asked)
    third = house.lxd.add_image("three", alias="app")
    assert [one.act for one in house.run().outcomes] == [Act.COMMITTED]
    web = house.lxd.user.instances.get("web")
    assert (web.base_image, web.status) == (third, "Stopped")


class Hourly:
    """An updater that looks each hour, and counts what passes."""

    def __init__(self, house: House, directory: Path) -> None:
        self.house = house
        self.ages = CopyAges(directory)
        self.unhealthy: tuple[tuple[str, str], ...] = ()

    def look(self) -> tuple[str, ...]:
        """Remove what isn't needed now, as a round does."""
        lxd = self.house.lxd
        return reap(lxd, lxd.clock(), ages=self.ages, unhealthy=self.unhealthy).removed

    def run(self, hours: int) -> tuple[str, ...]:
        """Let hours pass; return which copies went."""
        removed: tuple[str, ...] = ()
        for _ in range(hours):
            self.house.lxd.clock.advance(3600)
            removed += self.look()
        return removed


@pytest.fixture
def hourly(house: House, tmp_path: Path) -> Hourly:
    """An instance that was installed stopped, whose copy has been there for longer than its time."""
    return installed_stopped(house, tmp_path, GOOD)


def installed_stopped(house: House, directory: Path, behaviour: Behaviour) -> Hourly:
    house.lxd.user.power.stop("web")
    house.lxd.add_image("two", alias="app", behaviour=behaviour)
    assert [one.act for one in house.run().outcomes] == [Act.COMMITTED]
    hourly = Hourly(house, directory)
    assert hourly.run(100) == ()
    return hourly


@pytest.mark.parametrize("behaviour", [GOOD, Behaviour(supervised=Supervised())])
def test_an_instance_that_was_installed_stopped_is_proved_by_a_day_of_running(
    house: House, tmp_path: Path, behaviour: Behaviour
) -> None:
    hourly = installed_stopped(house, tmp_path, behaviour)
    house.lxd.user.power.start("web")
    assert hourly.run(24) == ()
    assert len(hourly.run(1)) == 1
    assert (stamp(house).proof, stamp(house).ran) == (Proof.RAN, True)


def test_a_clock_that_jumps_is_no_day_of_running(house: House, hourly: Hourly) -> None:
    real = house.lxd.clock()
    set_clock(house, real - timedelta(days=3))
    house.lxd.user.power.start("web")
    house.lxd.clock.advance(30)
    assert hourly.look() == ()
    set_clock(house, real + timedelta(seconds=60))
    assert hourly.look() == ()
    set_clock(house, real + timedelta(days=900))
    assert hourly.look() == ()
    assert stamp(house).proof is Proof.NEVER_RAN


def test_a_command_that_ends_again_and_again_proves_nothing(house: House, tmp_path: Path) -> None:
    """Its supervisor starts it each time, so the instance runs all the while."""
    falls = Supervised(restarts_at=tuple(float(second) for second in range(3, 400_000, 1000)))
    hourly = installed_stopped(house, tmp_path, Behaviour(supervised=falls))
    house.lxd.user.power.start("web")
    assert hourly.run(100) == ()
    assert house.lxd.user.instances.get("web").running


@pytest.mark.parametrize("call", ["guests.file_kind", "guests.read_file", "power.state"])
def test_a_guest_that_cant_be_asked_proves_nothing(house: House, tmp_path: Path, call: str) -> None:
    hourly = installed_stopped(house, tmp_path, Behaviour(supervised=Supervised()))
    house.lxd.user.power.start("web")

    def refuse(made: Call) -> None:
        if made.name == call:
            raise RefusedError("no answer")

    house.lxd.log.before = refuse
    assert hourly.run(100) == ()
    house.lxd.log.before = lambda _call: None
    assert hourly.run(24) == ()
    assert len(hourly.run(1)) == 1


def test_each_start_begins_the_day_anew(house: House, hourly: Hourly) -> None:
    for _ in range(5):
        house.lxd.user.power.start("web")
        assert hourly.run(20) == ()
        house.lxd.user.power.stop("web")
    house.lxd.user.power.start("web")
    assert hourly.run(20) == ()
    house.lxd.user.power.freeze("web")
    assert hourly.run(1) == ()
    house.lxd.user.power.unfreeze("web")
    assert hourly.run(24) == ()
    assert len(hourly.run(1)) == 1


def test_an_unhealthy_instance_proves_nothing(house: House, hourly: Hourly) -> None:
    house.lxd.user.power.start("web")
    hourly.unhealthy = (("default", "web"),)
    assert hourly.run(100) == ()
    hourly.unhealthy = ()
    assert hourly.run(24) == ()
    assert len(hourly.run(1)) == 1


def test_a_root_that_ran_for_a_day_outlives_those_that_never_ran(
    house: House, hourly: Hourly
) -> None:
    """The copy before it went because of that day; so it is the last one that was shown to work."""
    second = house.image("web")
    house.lxd.user.power.start("web")
    assert len(hourly.run(30)) == 1
    house.lxd.user.power.stop("web")
    house.lxd.add_image("three", alias="app", behaviour=REFUSES_TO_START)
    assert [one.act for one in house.run().outcomes] == [Act.COMMITTED]
    assert hourly.run(100) == ()
    assert second in roots(house)


def test_a_day_of_running_that_cant_be_written_down_removes_nothing(
    house: House, hourly: Hourly
) -> None:
    house.lxd.user.power.start("web")

    def refuse(call: Call) -> None:
        if (call.name, call.subject) == ("instances.replace", "web"):
            raise RefusedError("the database is locked")

    house.lxd.log.before = refuse
    assert hourly.run(50) == ()
    house.lxd.log.before = lambda _call: None
    assert len(hourly.run(1)) == 1


def test_a_round_counts_how_long_instances_run(house: House, tmp_path: Path) -> None:
    house.lxd.user.power.stop("web")
    first = house.image("web")
    house.lxd.add_image("two", alias="app")
    house.run()
    house.lxd.user.power.start("web")
    ages = CopyAges(tmp_path)
    for hour in range(74):
        assert (first in roots(house)) is (hour <= 72)
        Rounds(house.lxd, house.updater(), house.journal, house.lxd.clock, ages=ages).run()
        house.lxd.clock.advance(3600)
    assert first not in roots(house)


def test_a_version_is_kept_for_its_time_also_when_a_newer_good_one_came() -> None:
    world = World(most_copies=2)
    world.update()
    world.now += timedelta(minutes=10)
    world.update(THIRD)
    assert world.reap() == ()
    assert {box.root for box in world.lxd.boxes.values()} == {OLD, NEW, THIRD}


def test_number_and_time_of_copies_are_the_users(house: House) -> None:
    house.lxd.user.instances.patch("web", config={COPIES_KEY: "1", KEEP_KEY: "30d"})
    for version in ("two", "three", "four"):
        house.lxd.add_image(version, alias="app")
        house.run()
    assert len(roots(house)) == 2
    house.lxd.clock.advance(29 * 86400)
    house.run()
    assert len(roots(house)) == 2
    house.lxd.user.instances.patch("web", config={KEEP_KEY: "28d"})
    house.run()
    assert len(roots(house)) == 1


@pytest.mark.parametrize(
    "text", ["", "x", "-3d", "3", "9" * 5000 + "d", "\u0663d", "4000d", "1e3d"]
)
def test_a_time_that_cant_be_understood_is_told_and_counts_as_none(text: str) -> None:
    assert retention_of({KEEP_KEY: text}, Retention()) == Retention()
    assert bool(retention_problems({KEEP_KEY: text})) is (text != "")
    assert bool(retention_problems({COPIES_KEY: text})) is (text not in {"", "3"})


def test_a_copy_that_cant_be_removed_keeps_none_of_the_others(house: House) -> None:
    house.local("aaa", AUTO)
    house.lxd.add_image("two", alias="app")
    house.run()
    house.lxd.clock.advance(73 * 3600)
    copies = copies_of(house.lxd.user.instances.list(), house.lxd.clock())
    stuck = min(copy.instance.name for copy in copies)

    def refuse(call: Call) -> None:
        if (call.name, call.subject) == ("instances.delete", stuck):
            raise RefusedError("dataset is busy")

    house.lxd.log.before = refuse
    reaped = reap(house.lxd, house.lxd.clock())
    assert [name for _, name, _ in reaped.failed] == [stuck]
    assert len(reaped.removed) == 1


def set_clock(house: House, moment: datetime) -> None:
    """What a time server does to the wall clock."""
    house.lxd.clock._now = moment


@pytest.mark.parametrize("numbered", [True, False])
def test_the_newest_copy_is_that_of_the_last_update_whatever_the_clock_said(
    house: House, *, numbered: bool
) -> None:
    real, images = house.lxd.clock(), [house.image("web")]
    set_clock(house, real + timedelta(days=3650))
    for version in ("two", "three"):
        images.append(house.lxd.add_image(version, alias="app"))
        assert [one.act for one in house.run().outcomes] == [Act.COMMITTED]
        set_clock(house, real)
    if not numbered:
        # As versions before wrote them.
        for one in house.lxd.user.instances.list():
            older = replace(stamp(house, one.name), sequence=0)
            house.lxd.user.instances.patch(one.name, config={STAMP_KEY: encoded(older)})
    assert go_back(house) == images[1]


def test_copies_give_way_in_the_order_of_their_updates(house: House) -> None:
    """A copy that is dated years ahead holds no place of a newer one."""
    real, images = house.lxd.clock(), [house.image("web")]
    set_clock(house, real + timedelta(days=3650))
    for version in ("two", "three", "four", "five", "six"):
        images.append(house.lxd.add_image(version, alias="app"))
        assert [one.act for one in house.run().outcomes] == [Act.COMMITTED]
        set_clock(house, real)
    house.run()
    assert roots(house) == set(images[2:])
    found = copies_of(house.lxd.user.instances.list(), house.lxd.clock())
    in_order = sorted(found, key=lambda copy: copy.order)
    assert [copy.instance.base_image for copy in in_order] == images[2:5]
    assert go_back(house) == images[4]
    # What was gone back from is newer than all that came before it.
    assert [one.stamp.sequence for one in in_order] == [3, 4, 5]
    assert stamp(house, retired(house)).sequence == 5


def test_without_the_instance_the_numbers_of_updates_decide(house: House) -> None:
    real, images = house.lxd.clock(), [house.image("web")]
    set_clock(house, real + timedelta(days=3650))
    for version in ("two", "three"):
        images.append(house.lxd.add_image(version, alias="app"))
        house.run()
        set_clock(house, real)
    house.lxd.user.power.kill("web")
    house.lxd.user.instances.delete("web")
    assert go_back(house) == images[1]


def go_back(house: House) -> str:
    """The image of the instance after ``rollback``."""
    transaction = parked_copy(house.lxd.user.instances.list(), "web", "default")
    assert transaction is not None
    assert house.updater().turn_back(transaction).act is Act.ROLLED_BACK
    return house.image("web")


def retired(house: House) -> str:
    (name,) = (
        one.name
        for one in house.lxd.user.instances.list()
        if stamp(house, one.name).phase is Phase.RETIRED
    )
    return name


@pytest.mark.parametrize("error", [NoSpaceError, AddressTakenError, LimitReachedError])
def test_a_version_that_went_back_for_nobodys_fault_comes_again(
    house: House, error: type[LxdError]
) -> None:
    first, second = house.image("web"), house.lxd.add_image("two", alias="app")

    def refuse(call: Call) -> None:
        starts = (call.name, call.subject) == ("power.start", "web")
        if starts and house.image("web") == second:
            raise error("the host has no room for it")

    house.lxd.log.before = refuse
    (outcome,) = house.run().outcomes
    assert (outcome.act, outcome.blame, house.image("web")) == (Act.ROLLED_BACK, False, first)
    house.lxd.log.before = lambda _call: None
    # It rests as after any failure, and isn't called a bad version.
    assert house.run().outcomes == ()
    house.lxd.clock.advance(3600)
    assert [one.act for one in house.run().outcomes] == [Act.COMMITTED]
    assert house.image("web") == second
