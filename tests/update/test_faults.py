"""Every kind of fault at every call of an update, on the simulated LXD that its contract tests hold.

Killed before, after, or while LXD goes on; requests and answers lost or late; refused; LXD busy,
restarted, killed half-way through unpacking or remapping, or down. After at most one recovery the name is whole,
with its addresses known to the network, and nothing needs a person.
"""

import os
from collections.abc import Callable
from datetime import timedelta

import pytest

from lxdocker_lxd.errors import LxdError
from lxdocker_lxd.lxd.failures import RefusedError
from lxdocker_lxd.update.configuration import differences
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.recovery import remove_copy
from lxdocker_lxd.update.retention import copies_of
from tests.harness.simulated_lxd import GOOD, Call, Fault
from tests.update.simulated_scene import BEHAVIOURS, Scene

FULL = os.environ.get("LXDOCKER_TEST_FULL") == "1"


def remove_copies(scene: Scene) -> None:
    """Remove the copies whose time is over, once the instance was seen running for a day."""
    now = scene.lxd.clock() + timedelta(days=9)
    listed = scene.lxd.user.instances.list()
    for copy in copies_of(listed, now, ran={("default", "web")}):
        if copy.removable:
            assert remove_copy(scene.lxd, copy.instance, copy.stamp)


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
                remove_copies(scene)
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


# ---- refused, and the updater lives on


class Watcher:
    """Counts the seconds in which the name had no running instance."""

    def __init__(self, scene: Scene) -> None:
        self.down_seconds = 0.0
        self._scene = scene
        self._clock = scene.lxd.clock
        self._seen, self._up = self._clock.monotonic(), True
        scene.lxd.log.before = self._look

    def _look(self, _call: Call) -> None:
        now = self._clock.monotonic()
        self.down_seconds += 0.0 if self._up else now - self._seen
        boxes = self._scene.lxd.store.boxes.values()
        self._seen, self._up = now, any(box.name == "web" and box.runs for box in boxes)


def updated(behaviour: str) -> Scene:
    """A new version comes."""
    return Scene(BEHAVIOURS[behaviour])


def committed(_behaviour: str) -> Scene:
    """A good version came."""
    scene = Scene(GOOD)
    scene.update()
    return scene


REFUSED_WORK = {
    "good": (updated, Scene.update),
    "ends": (updated, Scene.update),
    "refuses": (updated, Scene.update),
    "back": (committed, Scene.turn_back),
}


@pytest.mark.parametrize("kind", REFUSED_WORK)
def test_a_request_that_is_refused_once_holds_nothing_and_prolongs_no_outage(kind: str) -> None:
    make, work = REFUSED_WORK[kind]
    untouched = make(kind)
    watcher = Watcher(untouched)
    untouched.lxd.log.restart_count()
    expected = work(untouched).act
    # A look of the gate that comes to nothing is done again at its next one, 5 seconds later.
    longest = watcher.down_seconds + 6
    acts: list[Act] = []
    for number in range(1, 300):
        scene = make(kind)
        watcher = Watcher(scene)
        scene.lxd.log.restart_count()
        scene.lxd.log.faults = {number: Fault.REFUSED}
        try:
            acts.append(work(scene).act)
        except LxdError:
            # Its first looks: nothing had begun.
            assert not any(call.writes for call in scene.lxd.log.calls), number
        if scene.lxd.log.faults:
            break
        assert watcher.down_seconds <= longest, (number, scene.steps)
        # Nobody else need come for the name to be whole.
        scene.settled()
    assert len(acts) > 20
    assert set(acts) <= {expected, Act.GIVEN_UP}


@pytest.mark.parametrize("call", ["instances.rename", "power.start", "instances.replace"])
def test_what_is_refused_again_and_again_on_the_way_back_is_held_and_goes_on(call: str) -> None:
    scene = Scene(BEHAVIOURS["ends"])
    turned: list[str] = []

    def refuse(made: Call) -> None:
        if Act.TURN_BACK in scene.steps and made.name == call:
            turned.append(str(made))
            raise RefusedError(f"could not {made}: status 500, no reason given")

    scene.lxd.log.before = refuse
    outcome = scene.update()
    assert (outcome.act, "no reason given" in outcome.reason) == (Act.HOLD, True)
    assert 3 <= len(turned) <= 10
    scene.lxd.log.before = lambda _call: None
    assert [one.act for one in scene.recover()] == [Act.ROLLED_BACK]
    scene.settled()


def test_a_step_forward_that_is_refused_again_and_again_turns_back_soon() -> None:
    scene = Scene(GOOD)

    def refuse(made: Call) -> None:
        if (made.name, made.subject) == ("instances.rename", "web"):
            raise RefusedError(f"could not {made}: status 500, no reason given")

    scene.lxd.log.before = refuse
    outcome = scene.update()
    assert (outcome.act, outcome.blame) == (Act.ROLLED_BACK, False)
    assert outcome.outage_seconds is None or outcome.outage_seconds < 30
    scene.settled()


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
