"""Every kind of fault at every call of an update, on the simulated LXD that its contract tests hold.

Killed before, after, or while LXD goes on; requests and answers lost or late; LXD busy, restarted,
killed half-way through unpacking, or down. After at most one recovery the name is whole, with its
addresses known to the network, and nothing needs a person.
"""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from lxdocker_lxd.errors import LxdError
from lxdocker_lxd.update.configuration import differences, saved_of
from lxdocker_lxd.update.gate import HealthGate
from lxdocker_lxd.update.means import Means, Outcome
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.recovery import parked_copy, reap, recover
from lxdocker_lxd.update.transaction import Phase, stamp_of
from lxdocker_lxd.update.updater import Updater
from tests.harness.simulated_lxd import (
    EXITS_AT_ONCE,
    GOOD,
    REFUSES_TO_START,
    Behaviour,
    Call,
    Fault,
    KilledError,
    SimulatedLxd,
    crashes_after,
)
from tests.update.memory_journal import MemoryJournal

FULL = os.environ.get("LXDOCKER_TEST_FULL") == "1"
AT_REST = {Phase.COMMITTED, Phase.KEPT, Phase.REJECTED, Phase.RETIRED}
DEVICES = {
    "eth0": {"type": "nic", "network": "br0", "name": "eth0", "ipv4.address": "10.20.30.7"},
    "eth1": {"type": "nic", "network": "br0", "name": "eth1"},
}
KEYS = {
    "limits.memory": "1GiB",
    "boot.autostart": "true",
    "user.lxdocker.update.stable": "2",
    "user.lxdocker.update.start_period": "5",
}
CRASHES = crashes_after(1.0)
BEHAVIOURS = {"good": GOOD, "ends": EXITS_AT_ONCE, "refuses": REFUSES_TO_START, "crashes": CRASHES}


@dataclass
class Scene:
    """A simulated LXD with one instance, and updaters that come and go."""

    behaviour: Behaviour
    lxd: SimulatedLxd = field(default_factory=SimulatedLxd)
    journal: MemoryJournal = field(default_factory=MemoryJournal)
    drawn: int = 0

    def __post_init__(self) -> None:
        self.old = self.lxd.add_image("one")
        self.new = self.lxd.add_image("two", behaviour=self.behaviour)
        self.lxd.launch("web", self.old, config=KEYS, devices=DEVICES)
        self.lxd.launch("other", self.old, config=KEYS)
        web = self.lxd.user.instances.get("web")
        self.saved = saved_of(web)
        self.hosts = self.fixed_hosts()
        self.other = self.lxd.user.instances.get("other")
        self.lxd.log.restart_count()

    def fixed_hosts(self) -> dict[str, tuple[str, str]]:
        """What the DHCP server was told of fixed addresses; others follow the guest's own MAC."""
        return {name: host for name, host in self.lxd.box("web").hosts.items() if host[1]}

    def updater(self) -> Updater:
        gate = HealthGate(self.lxd, clock=self.lxd.clock.monotonic, pause=self.lxd.sleep)
        means = Means(gate=gate, clock=self.lxd.clock, pause=self._pause, draw_id=self._draw)
        return Updater(self.lxd, self.journal, means)

    def _pause(self, seconds: float) -> None:
        self.lxd.sleep(seconds)
        # Whoever restarts LXD does so while the updater waits.
        self.lxd.come_up()

    def _draw(self) -> str:
        self.drawn += 1
        return f"{self.drawn:08x}"

    def update(self) -> object:
        return self.updater().update("web", self.new, project="default")

    def recover(self) -> tuple[Outcome, ...]:
        return recover(self.lxd, self.updater(), self.journal)

    def turn_back(self) -> object:
        transaction = parked_copy(self.lxd.instances.list(), "web", "default")
        assert transaction is not None
        return self.updater().turn_back(transaction)

    def spoil(self, number: int, fault: Fault, work: Callable[[], object]) -> bool:
        """Do the work with a fault at its call ``number``; False when it has fewer calls."""
        self.lxd.log.restart_count()
        self.lxd.log.faults = {number: fault}
        with contextlib.suppress(KilledError, LxdError):
            work()
        left = bool(self.lxd.log.faults)
        self.lxd.log.faults = {}
        self.lxd.come_up()
        return not left

    def settled(self) -> None:
        told = [str(call) for call in self.lxd.log.calls]
        web = self.lxd.user.instances.get("web")
        assert differences(web, self.saved) == (), told
        assert web.status == "Running", told
        assert self.lxd.box("web").whole, told
        assert self.fixed_hosts() == self.hosts, told
        assert self.lxd.user.instances.get("other") == self.other, told
        stamps = [stamp_of(one) for one in self.lxd.user.instances.list()]
        assert all(stamp is None or stamp.phase in AT_REST for stamp in stamps), told
        assert web.base_image in {self.old, self.new}, told


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
        if looks == 2 and call.name == "power.state":
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
