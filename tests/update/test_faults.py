"""Every kind of fault at every call of an update, on the simulated LXD that its contract tests hold.

Killed before, after, or while LXD goes on; requests and answers lost or late; LXD busy, restarted,
killed half-way through unpacking or remapping, or down. After at most one recovery the name is whole,
with its addresses known to the network, and nothing needs a person.
"""

import os
from collections.abc import Callable
from datetime import timedelta

import pytest

from lxdocker_lxd.update.configuration import differences
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.recovery import reap
from tests.harness.simulated_lxd import GOOD, Call, Fault
from tests.update.simulated_scene import BEHAVIOURS, Scene

FULL = os.environ.get("LXDOCKER_TEST_FULL") == "1"


def every_fault(
    make: Callable[[], Scene], work: Callable[[Scene], object], *, step: int = 1
) -> int:
    injections = 0
    for fault in Fault:
        for number in range(1, 200, step):
            for lose in (False, True) if FULL else (False,):
                scene = make()
                if not scene.spoil(number, fault, lambda scene=scene: work(scene)):  # type: ignore[misc] # its own scene
                    break
                if lose:
                    scene.journal.lose()
                    # What LXD still works on, only a journal tells of; the next recovery sees it.
                    scene.lxd.finish()
                outcomes = scene.recover()
                assert all(one.act is not Act.HOLD for one in outcomes), (fault, number, outcomes)
                scene.settled()
                if scene.behaviour is not GOOD:
                    assert scene.lxd.user.instances.get("web").base_image == scene.old
                scene.lxd.finish()
                scene.recover()
                reap(scene.lxd, scene.lxd.clock() + timedelta(days=9))
                scene.settled()
                names = {one.name for one in scene.lxd.user.instances.list()}
                assert names == {"web", "other"}, (fault, number)
                injections += 1
            else:
                continue
            break
    return injections


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_an_update_without_a_fault(behaviour: str) -> None:
    scene = Scene(BEHAVIOURS[behaviour])
    scene.update()
    scene.settled()
    good = behaviour == "good"
    assert scene.lxd.user.instances.get("web").base_image == (scene.new if good else scene.old)
    assert scene.recover() == ()


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_any_fault_at_any_call_of_an_update(behaviour: str) -> None:
    step = 1 if FULL else 3
    assert every_fault(lambda: Scene(BEHAVIOURS[behaviour]), Scene.update, step=step) > 50


def test_any_fault_at_any_call_of_going_back() -> None:
    def make() -> Scene:
        scene = Scene(GOOD)
        scene.update()
        return scene

    assert every_fault(make, Scene.turn_back, step=1 if FULL else 2) > 50


@pytest.mark.parametrize("clean", [False, True])
def test_a_new_version_that_a_user_stops_while_it_is_watched_stays_stopped(clean: bool) -> None:
    scene = Scene(GOOD)
    looks = 0

    def stop(call: Call) -> None:
        nonlocal looks
        looks += call.name == "power.state"
        if looks == 1 and call.name == "power.state":
            power = scene.lxd.user.power
            (power.stop if clean else power.kill)("web")

    scene.lxd.log.after = stop
    outcome = scene.updater().update("web", scene.new, project="default")
    assert (outcome.act, outcome.blame, outcome.reason) == (
        Act.ROLLED_BACK,
        False,
        "somebody stopped it",
    )
    web = scene.lxd.user.instances.get("web")
    assert (web.status, web.base_image) == ("Stopped", scene.old)
    assert differences(web, scene.saved) == ()
