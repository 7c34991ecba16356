"""The updater killed at every call to LXD: after one recovery nothing is lost or half-done."""

from collections.abc import Callable

import pytest

from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.rejection import rejections_of
from tests.update.story import NEW, OLD, THIRD, World, ends_well

BEHAVIOURS = ("good", "ends", "refuses", "sick")


@pytest.mark.parametrize("running", [True, False])
def test_an_update_without_a_crash(running: bool) -> None:
    world = World(running=running)
    outcome = world.update()
    said = "" if running else "it is stopped, so nothing of the new version has run yet"
    assert (outcome.act, outcome.reason) == (Act.COMMITTED, said)
    world.settled()
    assert world.root == NEW
    # Before the outage; what isn't to run at once has time.
    assert world.lxd.remapped == (["web-new-00000001"] if running else [])
    assert world.recover() == ()
    assert world.reap(71) == ()
    # A version of which nothing has run yet doesn't take the place of one that may work.
    assert len(world.reap(2)) == (1 if running else 0)
    assert len(world.lxd.boxes) == (2 if running else 3)


@pytest.mark.parametrize("behaviour", BEHAVIOURS[1:])
def test_a_bad_version_goes_back_and_the_next_good_one_comes(behaviour: str) -> None:
    world = World(behaviour)
    outcome = world.update()
    assert (outcome.act, outcome.blame) == (Act.ROLLED_BACK, True)
    world.settled()
    assert world.root == OLD
    (rejection,) = rejections_of(world.lxd.box("web").settings.config)
    assert rejection.fingerprint == NEW
    # What is left of the failed version is kept for a look at it.
    assert world.reap(71) == ()
    assert len(world.reap(2)) == 1
    assert world.update(THIRD).act is Act.COMMITTED
    world.settled()
    assert world.root == THIRD


def test_going_back_by_hand_keeps_what_changed_since() -> None:
    world = World()
    world.update()
    world.set_key("web", "limits.memory", "2GiB")
    world.saved = world.story()
    assert world.turn_back().act is Act.ROLLED_BACK
    world.settled()
    assert world.root == OLD


def test_two_good_updates_in_a_row_keep_both_copies_for_their_time() -> None:
    world = World(most_copies=2)
    world.update()
    world.update(THIRD)
    assert world.reap(71) == ()
    world.settled()
    assert len(world.reap(2)) == 2
    assert world.root == THIRD


# ---- every call


def every_kill(
    make: Callable[[], World],
    work: Callable[[World], object],
    check: Callable[[World], None],
    *,
    least: int,
) -> None:
    """Kill the work at each of its calls, before and after; it has ``least`` calls."""
    for done in (False, True):
        for lose in (False, True):
            number = 1
            while True:
                world = make()
                if not world.killed(number, lambda world=world: work(world), done=done):  # type: ignore[misc] # its own world
                    break
                if lose:
                    world.journal.lose()
                ends_well(world.recover())
                check(world)
                number += 1
            assert number > least, (done, lose)


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_an_update_killed_at_any_call(behaviour: str, running: bool) -> None:
    def check(world: World) -> None:
        world.settled()
        assert world.root in {OLD, NEW}
        if behaviour != "good" and running:
            assert world.root == OLD, world.calls
        world.reap(73)
        left = sorted(set(world.lxd.boxes) - {"other", "web"})
        if running or world.root == OLD:
            assert left == [], world.calls
        else:
            assert [world.lxd.box(name).root for name in left] == [OLD], world.calls
        assert world.recover() == ()

    every_kill(lambda: World(behaviour, running), World.update, check, least=40)


def test_going_back_killed_at_any_call() -> None:
    def make() -> World:
        world = World()
        world.update()
        return world

    def check(world: World) -> None:
        world.settled()
        assert world.root in {OLD, NEW}

    every_kill(make, World.turn_back, check, least=40)


def test_reaping_killed_at_any_call() -> None:
    def make() -> World:
        world = World(most_copies=2)
        world.update()
        world.update(THIRD)
        return world

    def check(world: World) -> None:
        world.reap(73)
        world.settled()
        assert world.root == THIRD

    every_kill(make, lambda world: world.reap(73), check, least=5)


@pytest.mark.parametrize("behaviour", ["good", "ends"])
def test_recovery_killed_at_any_call_of_any_crash(behaviour: str) -> None:
    injections = 0
    for first in range(1, 200, 3):
        second = 1
        while True:
            world = World(behaviour)
            if not world.killed(first, world.update, done=True):
                break
            if not world.killed(second, world.recover, done=True):
                break
            ends_well(world.recover())
            world.settled()
            injections += 1
            second += 2
        if not world.calls[-1].startswith("killed") and second == 1:
            break
    assert injections > 100


def test_an_updater_that_dies_every_few_calls_arrives() -> None:
    # A step takes up to nine calls: two looks of four, and its own.
    for every in range(12, 40):
        world = World()
        world.killed(every, world.update, done=True)
        for _ in range(60):
            if not world.killed(every, world.recover, done=True):
                break
        world.settled()


def test_an_old_version_that_doesnt_start_again_is_held_and_nothing_is_removed() -> None:
    world = World("ends")
    world.lxd.known[OLD] = "refuses"
    outcome = world.update()
    assert (outcome.act, "didn't start" in outcome.reason) == (Act.HOLD, True)
    assert {box.root for box in world.lxd.boxes.values()} == {OLD, NEW}
    assert world.reap(100) == ()
    assert [one.act for one in world.recover()] == [Act.HOLD]
    # Once that is put right, it goes on by itself.
    world.lxd.known[OLD] = "good"
    ends_well(world.recover())
    world.settled()
    assert world.root == OLD


def test_a_successor_that_somebody_made_snapshots_of_isnt_removed() -> None:
    world = World()

    def snap() -> None:
        world.lxd.snap("web-new-00000001")

    def stop() -> None:
        world.lxd.boxes["web"].running = False

    world.killed(12, world.update, done=True)
    snap()
    stop()
    world.recover()
    assert any(box.snapshots for box in world.lxd.boxes.values()), world.calls
