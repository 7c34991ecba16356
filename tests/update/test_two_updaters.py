"""Two updaters that don't know each other, each with a journal of its own, on the simulated LXD."""

import pytest

from lxdocker_lxd.lxd.failures import PermissionRefusedError
from lxdocker_lxd.lxd.records import Config
from lxdocker_lxd.update.claim import KEY, VALID, Claim, OtherUpdaterError
from lxdocker_lxd.update.enrolment import UPDATE_KEY
from lxdocker_lxd.update.gate import HealthGate
from lxdocker_lxd.update.means import Means
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.rounds import Report, Rounds
from lxdocker_lxd.update.source import SOURCE_KEY
from lxdocker_lxd.update.transaction import readable_stamp
from lxdocker_lxd.update.updater import Updater
from tests.harness.simulated_lxd import EXITS_AT_ONCE, GOOD, Call, KilledError, SimulatedLxd
from tests.update.memory_journal import MemoryJournal
from tests.update.story import NEW, World

MOST_CALLS = 400
KEYS: Config = {
    UPDATE_KEY: "auto",
    SOURCE_KEY: "local|app",
    "user.lxdocker.update.stable": "1",
    "limits.memory": "1GiB",
}


class OneUpdater:
    """A machine that updates; what it does it does with a claim."""

    def __init__(self, lxd: SimulatedLxd, owner: str) -> None:
        self._lxd = lxd
        self._owner = owner
        self._journal = MemoryJournal()
        self._drawn = 0

    def _draw(self) -> str:
        self._drawn += 1
        return f"{self._owner}{self._drawn:07x}"

    def round(self) -> Report:
        lxd = self._lxd
        claim = Claim(lambda: lxd.server, self._owner, lxd.clock)
        claim.take()
        gate = HealthGate(lxd, clock=lxd.clock.monotonic, pause=lxd.sleep)
        means = Means(gate=gate, clock=lxd.clock, pause=lxd.sleep, draw_id=self._draw)
        try:
            updater = Updater(lxd, self._journal, means)
            return Rounds(lxd, updater, self._journal, lxd.clock).run()
        finally:
            claim.release()


def scene(behaviour: object) -> tuple[SimulatedLxd, str]:
    """One enrolled instance, and a newer image."""
    lxd = SimulatedLxd()
    lxd.launch("web", lxd.add_image("one", alias="app"), config=KEYS)
    newer = lxd.add_image("two", alias="app", behaviour=behaviour)  # type: ignore[arg-type] # one of the harness
    return lxd, newer


def whole(lxd: SimulatedLxd) -> None:
    """The instance runs with its configuration, and nothing half-done is left."""
    web = lxd.user.instances.get("web")
    assert web.running
    assert web.config["limits.memory"] == "1GiB"
    stamps = [readable_stamp(one) for one in lxd.user.instances.list()]
    assert all(one is None or one.phase in {"committed", "kept", "rejected"} for one in stamps), (
        stamps
    )


@pytest.mark.parametrize("behaviour", [GOOD, EXITS_AT_ONCE], ids=["good", "ends"])
def test_another_one_at_any_call_is_refused_and_changes_nothing(behaviour: object) -> None:
    refused = 0
    for number in range(1, MOST_CALLS):
        lxd, newer = scene(behaviour)
        one, two = OneUpdater(lxd, "a"), OneUpdater(lxd, "b")
        came = False

        def meanwhile(call: Call, number: int = number, two: OneUpdater = two) -> None:
            nonlocal came, refused
            if call.number == number and not came:
                came = True
                try:
                    two.round()
                except OtherUpdaterError:
                    refused += 1

        lxd.log.restart_count()
        lxd.log.after = meanwhile
        # One of both does it, whoever claimed first.
        try:
            one.round()
        except OtherUpdaterError:
            two.round()
        if not came:
            break
        whole(lxd)
        assert (lxd.user.instances.get("web").base_image == newer) is (behaviour is GOOD)
        assert KEY not in lxd.server.info().config
    assert refused > 30


@pytest.mark.parametrize("number", range(5, 60, 6))
def test_who_is_killed_is_followed_by_another_after_a_while(number: int) -> None:
    lxd, newer = scene(GOOD)
    one, two = OneUpdater(lxd, "a"), OneUpdater(lxd, "b")

    def kill(call: Call) -> None:
        if call.number == number:
            raise KilledError(str(call))

    lxd.log.restart_count()
    lxd.log.before = kill
    with pytest.raises(KilledError):
        one.round()
    lxd.log.before = lambda _call: None
    # What a killed process never does.
    if KEY not in lxd.server.info().config:
        Claim(lambda: lxd.server, "a", lxd.clock).take()
    with pytest.raises(OtherUpdaterError):
        two.round()
    lxd.clock.advance(VALID.total_seconds())
    two.round()
    whole(lxd)
    # What was turned back, because nobody watched it, is tried again later.
    lxd.clock.advance(3600)
    two.round()
    whole(lxd)
    assert lxd.user.instances.get("web").base_image == newer


@pytest.mark.parametrize("behaviour", ["good", "ends"])
def test_without_a_claim_the_lease_alone_still_loses_nothing(behaviour: str) -> None:
    """Where a certificate may not write claims: roots, volumes and keys are safe at every call.

    A stop that is under way may find the instance that the other one has just started.
    """
    stopped = 0
    for number in range(1, MOST_CALLS):
        world = World(behaviour=behaviour, most_copies=2)
        mine, theirs = world.journal, MemoryJournal()

        def other(
            world: World = world, mine: MemoryJournal = mine, theirs: MemoryJournal = theirs
        ) -> None:
            world.journal = theirs
            try:
                world.recover()
                world.update(NEW)
            finally:
                world.journal = mine

        world.user(number, other, world.update)
        if not world.acted:
            break
        world.recover()
        world.journal = theirs
        outcomes = world.recover()
        assert all(one.act is not Act.HOLD for one in outcomes)
        world.journal = mine
        web = world.lxd.record(world.lxd.box("web"))
        stopped += not web.running
        world.reap(100)
        world.settled(running=web.running)
    assert stopped <= 4


def test_a_certificate_that_may_not_configure_lxd_claims_nothing() -> None:
    """As one that LXD restricts to projects."""
    lxd, _ = scene(GOOD)

    def forbid(call: Call) -> None:
        if call.name == "server.configure":
            raise PermissionRefusedError("could not set LXD's keys: Forbidden", hint="")

    lxd.log.before = forbid
    claim = Claim(lambda: lxd.server, "a", lxd.clock)
    claim.take()
    claim.renew()
    claim.release()
    assert KEY not in lxd.server.info().config
