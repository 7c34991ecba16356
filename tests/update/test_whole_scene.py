"""Everything at once, killed at every call: a database with snapshotted volumes, a dependant, and an
unhealthy neighbour that the same round restarts. Nothing is lost, and nothing is left stopped.
"""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from lxdocker_lxd.errors import LxdError
from lxdocker_lxd.lxd.calls import Command, CommandResult, GuestFile
from lxdocker_lxd.lxd.resources import StoragePool, Volume
from lxdocker_lxd.update.liveness import HEAL_KEY
from lxdocker_lxd.update.recovery import unfinished
from lxdocker_lxd.update.transaction import Phase, Stamp, stamp_of
from lxdocker_lxd.update.volume_policy import VOLUMES_KEY
from tests.harness.simulated_lxd import Behaviour, Fault, KilledError
from tests.update.test_rounds import AUTO, House

FULL = os.environ.get("LXDOCKER_TEST_FULL") == "1"
ROWS = "/data/rows"
NAMES = ("db", "web", "sick")
AT_REST = {Phase.COMMITTED, Phase.KEPT, Phase.REJECTED, Phase.RETIRED}
FAULTS = (
    Fault.KILLED_BEFORE,
    Fault.KILLED_AFTER,
    Fault.KILLED_LATE,
    Fault.ANSWER_LOST,
    Fault.LXD_KILLED,
)


@dataclass
class Town(House):
    """``db`` gets a version that migrates its rows, ``web`` depends on it, ``sick`` fails its check."""

    good: bool = True
    code: int = 0

    def __post_init__(self) -> None:
        lxd = self.lxd
        lxd.user.pools.create(StoragePool(name="p", driver="btrfs"))
        lxd.user.volumes.create(Volume(pool="p", name="data", project="default"))
        self.old = lxd.add_image("one", alias="app")
        lxd.add_image("front", alias="front")
        lxd.add_image("ill", alias="ill", behaviour=Behaviour(answer=self._answer))
        disk = {"type": "disk", "pool": "p", "source": "data", "path": "/data"}
        keys = {**AUTO, VOLUMES_KEY: "snapshot", "user.lxdocker.image": "local|app"}
        lxd.launch("db", self.old, config=keys, devices={"data": disk})
        rows = GuestFile(content=b"rows of one")
        lxd.user.guests.write_file("db", ROWS, rows)
        self.local("web", AUTO | {"user.lxdocker.depends": "db"}, alias="front")
        check = {"user.lxdocker.update.health": "exec /bin/check", HEAL_KEY: "restart"}
        self.local("sick", AUTO | check, alias="ill")
        self.begin_service()
        self.run()
        for _ in range(3):
            lxd.clock.advance(31)
            self.monitor.look(wait=True)
        self.code = 1
        for _ in range(4):
            lxd.clock.advance(31)
            self.monitor.look(wait=True)
        assert self.monitor.sick()
        ends = None if self.good else 0.5
        writes = {ROWS: b"rows of two"}
        self.new = lxd.add_image(
            "two", alias="app", behaviour=Behaviour(writes=writes, ends_after_seconds=ends)
        )
        lxd.log.restart_count()

    def _answer(self, command: Command, _seconds: float) -> CommandResult | None:
        if command.words[-1:] != ("/bin/check",):
            return None
        return CommandResult(exit_code=self.code, stdout=b"", stderr=b"")

    def rows(self) -> bytes:
        return self.lxd.user.guests.read_file("db", ROWS).content

    def settled(self) -> None:
        told = [str(call) for call in self.lxd.log.calls]
        states = {name: self.lxd.user.instances.get(name) for name in NAMES}
        assert {name: one.status for name, one in states.items()} == dict.fromkeys(
            NAMES, "Running"
        ), told
        image = states["db"].base_image
        assert image in ({self.old, self.new} if self.good else {self.old}), told
        assert self.rows() == (b"rows of two" if image == self.new else b"rows of one"), told
        started = {name: one.last_used_at for name, one in states.items()}
        assert started["web"] is not None
        assert started["db"] is not None
        assert started["web"] >= started["db"], told
        stamps = [stamp_of(one) for one in self.lxd.user.instances.list()]
        assert all(
            one is None or (isinstance(one, Stamp) and one.phase in AT_REST) for one in stamps
        ), told
        assert unfinished(self.lxd.user.instances.list(), self.journal) == (), told
        kept = {
            f"lxdocker-{one.transaction}"
            for one in stamps
            if isinstance(one, Stamp) and one.phase is Phase.KEPT and one.volumes
        }
        held = {one.name for one in self.lxd.user.volumes.snapshots("p", "data")}
        assert held == kept, told
        roots = {one.base_image for one in self.lxd.user.instances.list()}
        assert self.old in roots, told


def interrupted(town: Town, number: int, fault: Fault) -> bool:
    """Do a round with a fault at its call ``number``; False when it has fewer calls."""
    town.lxd.log.restart_count()
    town.lxd.log.faults = {number: fault}
    with contextlib.suppress(KilledError, LxdError):
        town.run()
    left = bool(town.lxd.log.faults)
    town.lxd.log.faults = {}
    town.lxd.come_up()
    return not left


def every_injection(make: Callable[[], Town], *, step: int) -> int:
    """Interrupt a round at its calls; return at how many nothing was lost."""
    injections = 0
    for fault in FAULTS:
        number = 1
        while True:
            town = make()
            if not interrupted(town, number, fault):
                break
            town.code = 0
            town.begin_service()
            # A new updater, and another one for what LXD did late.
            for _ in range(2):
                town.lxd.finish()
                town.lxd.clock.advance(1)
                town.run()
            town.settled()
            injections += 1
            number += step
    return injections


@pytest.mark.parametrize("good", [True, False])
def test_the_scene_without_a_fault(good: bool) -> None:
    town = Town(good=good)
    report = town.run()
    assert report.healed == ("sick",)
    assert report.restarted == ("web", "sick")
    town.settled()
    assert town.lxd.user.instances.get("db").base_image == (town.new if good else town.old)


@pytest.mark.parametrize("good", [True, False])
def test_killed_at_any_call_nothing_is_lost_and_nothing_left_stopped(good: bool) -> None:
    step = 1 if FULL else 7
    count = every_injection(lambda: Town(good=good), step=step)
    assert count > (300 if FULL else 40)
    # What a full run counts.
    print(f"{count} injections")
