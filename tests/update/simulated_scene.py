"""One update on the simulated LXD that the contract tests hold, spoilt at will."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

from lxdocker_lxd.errors import LxdError
from lxdocker_lxd.update.configuration import differences, saved_of
from lxdocker_lxd.update.gate import HealthGate
from lxdocker_lxd.update.holder import HOLDER_KEY
from lxdocker_lxd.update.means import Means, Outcome
from lxdocker_lxd.update.procedure import Step
from lxdocker_lxd.update.recovery import parked_copy, recover
from lxdocker_lxd.update.transaction import Phase, Transaction, readable_stamp
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
    steps: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.old = self.lxd.add_image("one")
        self.new = self.lxd.add_image("two", behaviour=self.behaviour)
        # As a round, and `enable`, write it before any update.
        followed = KEYS | {HOLDER_KEY: "default/web"}
        self.lxd.launch("web", self.old, config=followed, devices=DEVICES)
        self.lxd.launch("other", self.old, config=KEYS)
        web = self.lxd.user.instances.get("web")
        self.saved = saved_of(web)
        self.hosts = self.fixed_hosts()
        self.other = self.lxd.user.instances.get("other")
        self.lxd.log.restart_count()
        self.lxd.log.after = self.check

    def check(self, call: Call) -> None:
        """No successor runs before it has the name."""
        for box in self.lxd.store.boxes.values():
            assert not (box.runs and box.name.startswith("web-new")), call

    def fixed_hosts(self) -> dict[str, tuple[str, str]]:
        """What the DHCP server was told of fixed addresses; others follow the guest's own MAC."""
        return {name: host for name, host in self.lxd.box("web").hosts.items() if host[1]}

    def updater(self) -> Updater:
        gate = HealthGate(self.lxd, clock=self.lxd.clock.monotonic, pause=self.lxd.sleep)
        means = Means(
            gate=gate,
            clock=self.lxd.clock,
            pause=self._pause,
            draw_id=self._draw,
            on_step=self._step,
        )
        return Updater(self.lxd, self.journal, means)

    def _pause(self, seconds: float) -> None:
        self.lxd.sleep(seconds)
        # Whoever restarts LXD does so while the updater waits.
        self.lxd.come_up()

    def _draw(self) -> str:
        self.drawn += 1
        return f"{self.drawn:08x}"

    def _step(self, _transaction: Transaction, step: Step) -> None:
        self.steps.append(step.act)

    def update(self) -> Outcome:
        return self.updater().update("web", self.new, project="default")

    def recover(self) -> tuple[Outcome, ...]:
        return recover(self.lxd, self.updater(), self.journal)

    def turn_back(self) -> Outcome:
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
        assert not self.lxd.box("web").half_remapped, told
        assert self.fixed_hosts() == self.hosts, told
        assert self.lxd.user.instances.get("other") == self.other, told
        stamps = [readable_stamp(one) for one in self.lxd.user.instances.list()]
        assert all(stamp is None or stamp.phase in AT_REST for stamp in stamps), told
        assert web.base_image in {self.old, self.new}, told
