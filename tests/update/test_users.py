"""A user at work on the instance in the middle of its update: the user's word counts."""

from collections.abc import Callable

import pytest

from lxdocker_lxd.lxd.failures import UnknownOutcomeError
from lxdocker_lxd.update.configuration import differences
from lxdocker_lxd.update.journal_record import Event
from lxdocker_lxd.update.means import Outcome
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.transaction import STAMP_KEY, readable_stamp
from tests.update.story import NEW, OLD, World, ends_well

MOST_CALLS = 120


def at_every_call(
    make: Callable[[], World],
    act: Callable[[World], None],
    check: Callable[[World, str], None],
    *,
    die: bool = False,
) -> int:
    """Let the user act after each call; with ``die`` the updater is killed right after that."""
    for number in range(1, MOST_CALLS):
        world = make()
        roots: dict[str, str] = {}

        def acts(world: World = world, roots: dict[str, str] = roots) -> None:
            roots.update({name: box.root for name, box in world.lxd.boxes.items()})
            act(world)

        if die:
            dies_after(world, number, acts)
        else:
            world.user(number, acts, world.update)
        if not world.acted:
            return number
        ends_well(world.recover())
        check(world, roots.get("web", ""))
    raise AssertionError("the update never ends")


def dies_after(world: World, number: int, act: Callable[[], None]) -> None:
    world.acted = world.killed(number, world.update, done=True)
    if world.acted:
        world.user(0, lambda: None, lambda: None)
        world.acted = True
        world.user(1, act, lambda: world.lxd.after("a pause"))


@pytest.mark.parametrize("die", [False, True])
@pytest.mark.parametrize("behaviour", ["good", "ends"])
def test_a_key_set_meanwhile_holds_in_the_end(behaviour: str, die: bool) -> None:
    def act(world: World) -> None:
        world.set_key("web", "user.mark", "1")
        world.marked = True  # type: ignore[attr-defined] # only told when the name was there

    def check(world: World, _root: str) -> None:
        if getattr(world, "marked", False):
            world.saved.config["user.mark"] = "1"  # type: ignore[index] # a dict in fact
        world.settled()

    assert at_every_call(lambda: World(behaviour), act, check, die=die) > 40


@pytest.mark.parametrize("die", [False, True])
@pytest.mark.parametrize("behaviour", ["good", "ends"])
def test_a_snapshot_made_meanwhile_is_kept(behaviour: str, die: bool) -> None:
    def act(world: World) -> None:
        world.lxd.snap("web")
        world.marked = True  # type: ignore[attr-defined] # only told when the name was there

    def check(world: World, _root: str) -> None:
        world.reap(100)
        if getattr(world, "marked", False):
            assert any(box.snapshots for box in world.lxd.boxes.values()), world.calls
        assert "web" in world.lxd.boxes

    at_every_call(lambda: World(behaviour), act, check, die=die)


@pytest.mark.parametrize("die", [False, True])
def test_a_deleted_instance_doesnt_come_back(die: bool) -> None:
    def act(world: World) -> None:
        world.lxd.box("web").running = False
        del world.lxd.boxes["web"]
        world.marked = True  # type: ignore[attr-defined] # only told when the name was there

    def check(world: World, root: str) -> None:
        if not getattr(world, "marked", False):
            world.settled()
            return
        assert "web" not in world.lxd.boxes, world.calls
        if root == NEW:
            # The user deleted the new one; the copy of the old one is the user's to remove.
            assert [box.root for name, box in world.lxd.boxes.items() if name != "other"] == [OLD]
        else:
            assert set(world.lxd.boxes) == {"other"}

    world_check_i1 = World.check
    World.check = lambda self, call: self.calls.append(call)  # type: ignore[method-assign] # I1 is the user's now
    try:
        at_every_call(World, act, check, die=die)
    finally:
        World.check = world_check_i1  # type: ignore[method-assign] # as it was


@pytest.mark.parametrize("die", [False, True])
def test_a_stopped_instance_that_somebody_starts_ends_running(die: bool) -> None:
    def act(world: World) -> None:
        world.lxd.check_addresses("web", world.lxd.box("web").settings)
        world.lxd.box("web").running = True
        world.marked = True  # type: ignore[attr-defined] # only told when the name was there

    def check(world: World, _root: str) -> None:
        world.settled(running=getattr(world, "marked", False))

    at_every_call(lambda: World(running=False), act, check, die=die)


def test_a_running_instance_that_somebody_stops_before_the_outage_stays_stopped() -> None:
    def act(world: World) -> None:
        assert world.lxd.box("web").running
        if world.root == OLD and not any(
            entry.event == "outage" for entry in world.journal.entries
        ):
            world.lxd.power.stop("web")
            world.marked = True  # type: ignore[attr-defined] # only told when it was us

    def check(world: World, _root: str) -> None:
        world.settled(running=not getattr(world, "marked", False))

    def quiet(world: World) -> None:
        before, after = world.lxd.before, world.lxd.after
        world.lxd.before = world.lxd.after = lambda _call: None
        try:
            act(world)
        except AssertionError:
            pass
        finally:
            world.lxd.before, world.lxd.after = before, after

    at_every_call(World, quiet, check)


@pytest.mark.parametrize("die", [False, True])
def test_a_renamed_instance_is_whole_under_its_new_name(die: bool) -> None:
    def act(world: World) -> None:
        box = world.lxd.box("web")
        box.running = False
        del world.lxd.boxes["web"]
        box.name = "mine"
        world.lxd.boxes["mine"] = box
        world.marked = box.root  # type: ignore[attr-defined] # only told when the name was there

    def check(world: World, _root: str) -> None:
        if getattr(world, "marked", "") == OLD:
            mine = world.lxd.record(world.lxd.box("mine"))
            assert world.story("mine").devices == world.saved.devices, world.calls
            assert world.story("mine").config == world.saved.config, world.calls
            assert STAMP_KEY not in mine.config, world.calls
            assert set(world.lxd.boxes) == {"other", "mine"}, world.calls

    at_every_call(World, act, check, die=die)


def test_a_name_taken_by_somebody_else_is_left_to_them() -> None:
    for number in range(1, MOST_CALLS):
        world = World()

        def take(world: World = world) -> None:
            if "web" not in world.lxd.boxes:
                world.lxd.launch("web", OLD, {"user.theirs": "1"}, {})
                world.marked = repr(world.lxd.box("web"))  # type: ignore[attr-defined] # theirs

        world.user(number, take, world.update)
        if not world.acted:
            break
        if theirs := getattr(world, "marked", ""):
            world.recover()
            assert repr(world.lxd.box("web")) == theirs
            assert len(world.lxd.boxes) == 4
            # Once they are gone the update is finished.
            del world.lxd.boxes["web"]
            ends_well(world.recover())
            world.settled()


def test_a_copy_made_meanwhile_is_left_alone() -> None:
    for number in range(1, MOST_CALLS):
        world = World()

        def copy(world: World = world) -> None:
            box = world.lxd.box("web")
            world.lxd.launch("copy", OLD, dict(box.settings.config), {"eth0": {"type": "none"}})
            world.lxd.box("copy").running = False
            keys = world.lxd.box("copy").settings.config
            keys["boot.autostart"] = "false"  # type: ignore[index] # a dict in fact
            world.marked = repr(world.lxd.box("copy"))  # type: ignore[attr-defined] # a copy

        world.user(number, copy, world.update)
        if not world.acted:
            break
        ends_well(world.recover())
        if theirs := getattr(world, "marked", ""):
            assert repr(world.lxd.box("copy")) == theirs, world.calls
            del world.lxd.boxes["copy"]
            world.settled()


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("behaviour", ["good", "ends"])
def test_any_lost_answer_costs_nothing(behaviour: str, done: bool) -> None:
    for number in range(1, MOST_CALLS):
        world = World(behaviour)
        count = 0

        def lose(call: str, world: World = world, number: int = number) -> None:
            nonlocal count
            count += 1
            if count == number:
                raise UnknownOutcomeError(call)
            if done:
                world.check(call)

        if done:
            world.lxd.after = lose
        else:
            world.lxd.before = lose
        try:
            world.update()
        except UnknownOutcomeError:
            assert number < 3
            continue
        finally:
            world.lxd.before, world.lxd.after = (lambda _call: None), world.check
        if count < number:
            return
        ends_well(world.recover())
        world.settled()
    raise AssertionError("the update never ends")


def test_a_foreign_instance_with_the_stages_name_is_left_alone() -> None:
    world = World()
    world.lxd.launch("web-new-00000001", OLD, {"user.theirs": "1"}, {})
    theirs = repr(world.lxd.box("web-new-00000001"))
    assert world.update().act is Act.GIVEN_UP
    assert repr(world.lxd.box("web-new-00000001")) == theirs
    del world.lxd.boxes["web-new-00000001"]
    world.settled()


def test_two_updaters_at_once_make_one_update() -> None:
    injections = 0
    for number in range(1, MOST_CALLS):
        world = World()
        outcomes: list[Outcome] = []

        def update(world: World = world, outcomes: list[Outcome] = outcomes) -> None:
            outcomes.append(world.update())

        world.user(number, update, update)
        if not world.acted:
            break
        assert len(outcomes) == 2
        made = [one for one in outcomes if one.act is Act.COMMITTED]
        assert (len(made), any(one.bad for one in outcomes)) == (1, False), (number, outcomes)
        begun = [one for one in world.journal.entries if one.event is Event.OUTAGE]
        assert [one.transaction for one in begun] == [made[0].transaction], number
        assert world.root == NEW
        assert world.recover() == ()
        web = world.lxd.record(world.lxd.box("web"))
        stamp = readable_stamp(web)
        assert stamp is None or stamp.phase == "committed", world.calls
        world.reap(100)
        world.settled()
        injections += 1
    assert injections > 50


def test_an_image_that_is_gone_or_a_create_that_fails_costs_no_outage() -> None:
    world = World()
    box = world.lxd.box("web")
    version = box.version
    del world.lxd.known[NEW]
    assert world.update().act is Act.GIVEN_UP
    assert box.version == version
    assert box.running


def test_a_user_who_starts_the_successor_before_it_has_the_name_causes_no_outage() -> None:
    """At whatever call: the old version runs on or is back, and what was started is left alone."""
    held = 0
    for number in range(1, 200):
        world = World(user_starts_stage=True)
        stage = "web-new-00000001"

        def start(world: World = world, stage: str = stage) -> None:
            world.lxd.box(stage).running = True
            world.lxd.box(stage).version += 1

        world.user(number, start, world.update)
        if not world.acted:
            break
        assert world.lxd.box("web").running, world.calls
        if stage in world.lxd.boxes and world.lxd.boxes[stage].running:
            held += 1
            assert world.root == OLD, world.calls
            assert differences(world.lxd.record(world.lxd.box("web")), world.saved) == ()
            world.lxd.boxes[stage].running = False
        ends_well(world.recover())
        world.settled()
    assert held > 10
