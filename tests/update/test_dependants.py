"""Dependants stop before and start after what they depend on, whatever happens in between."""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from lxdocker_lxd.errors import LxdError
from lxdocker_lxd.lxd.failures import BusyError, StopTimedOutError
from lxdocker_lxd.update.journal_record import (
    Entry,
    Event,
    compacted,
    entries,
    line_of,
    owed_restarts,
)
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.recovery import parked_copy
from lxdocker_lxd.update.rounds import Report
from lxdocker_lxd.update.transaction import Transaction
from tests.harness.simulated_lxd import EXITS_AT_ONCE, Behaviour, Call, Fault, KilledError
from tests.update.records import NOW
from tests.update.test_rounds import AUTO, House

FULL = os.environ.get("LXDOCKER_TEST_FULL") == "1"
DEPENDS = "user.lxdocker.depends"


@dataclass
class Chain(House):
    """``front`` depends on ``web``, which depends on ``db``; ``zeta`` on nothing."""

    power: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, depends in {"db": "", "web": "db", "front": "web", "zeta": ""}.items():
            self.lxd.add_image(f"{name} one", alias=name)
            self.local(name, AUTO | {DEPENDS: depends}, alias=name)
            self.lxd.clock.advance(1)
        self.lxd.log.after = self.note_power

    def note_power(self, call: Call) -> None:
        port, _, action = call.name.partition(".")
        if port == "power" and action != "state" and not call.subject.startswith("db-new"):
            self.power.append(f"{action} {call.subject}")

    def new_version(self, name: str = "db", behaviour: Behaviour | None = None) -> str:
        version = f"{name} {self.lxd.clock()}"
        if behaviour is None:
            return self.lxd.add_image(version, alias=name)
        return self.lxd.add_image(version, alias=name, behaviour=behaviour)

    def status(self, name: str) -> str:
        return self.lxd.user.instances.get(name).status

    def started(self, name: str) -> float:
        at = self.lxd.user.instances.get(name).last_used_at
        assert at is not None
        return at.timestamp()

    def rollback(self, name: str = "db") -> Act:
        transaction = parked_copy(self.lxd.user.instances.list(), name, "default")
        assert transaction is not None
        return self.updater().turn_back(transaction).act

    def in_order(self) -> None:
        """All run, each started after what it depends on, and nothing is owed."""
        told = [str(call) for call in self.lxd.log.calls]
        assert [self.status(name) for name in ("db", "web", "front")] == ["Running"] * 3, told
        assert self.started("db") <= self.started("web") <= self.started("front"), told
        assert owed_restarts(self.journal.entries) == (), told


@pytest.fixture
def chain() -> Chain:
    return Chain()


RESTART = [
    *("stop front", "stop web", "stop db"),
    *("start db", "start web", "start front"),
]


@pytest.mark.parametrize("names", [(), ("db",)])
def test_dependants_stop_before_and_start_after_in_order(
    chain: Chain, names: tuple[str, ...]
) -> None:
    chain.new_version()
    report = chain.run(*names)
    assert chain.power == RESTART
    assert report.restarted == ("web", "front")
    chain.in_order()
    assert chain.run().restarted == ()


def test_a_return_by_a_bad_version_and_one_by_hand_restart_them_too(chain: Chain) -> None:
    chain.new_version(behaviour=EXITS_AT_ONCE)
    report = chain.run()
    assert [one.act for one in report.outcomes] == [Act.ROLLED_BACK]
    assert (chain.power[:3], chain.power[-2:]) == (RESTART[:3], RESTART[-2:])
    chain.in_order()
    chain.new_version()
    chain.run()
    chain.power.clear()
    assert chain.rollback() is Act.ROLLED_BACK
    assert (chain.power[:2], chain.power[-2:]) == (RESTART[:2], RESTART[-2:])
    chain.in_order()


def test_what_fails_between_them_keeps_no_dependant_from_its_restart(chain: Chain) -> None:
    chain.new_version()
    chain.new_version("zeta", EXITS_AT_ONCE)
    chain.local("mid", AUTO, alias="zeta")
    report = chain.run()
    assert report.bad
    assert report.restarted == ("web", "front")
    chain.in_order()


def busy_at(chain: Chain, name: str, subject: str) -> None:
    def before(call: Call) -> None:
        if (call.name, call.subject) == (name, subject):
            raise BusyError("Instance is busy")

    chain.lxd.log.before = before


def told(report: Report) -> list[str]:
    return [one.name for one in report.problems]


def test_one_that_cant_be_started_is_told_and_started_when_it_can_be(chain: Chain) -> None:
    chain.new_version()
    busy_at(chain, "power.start", "web")
    report = chain.run()
    assert (set(told(report)), report.restarted) == ({"web"}, ("front",))
    assert chain.status("web") == "Stopped"
    assert told(chain.run()) == ["web"]
    chain.lxd.log.before = lambda _call: None
    chain.run()
    assert chain.status("web") == "Running"
    assert owed_restarts(chain.journal.entries) == ()


def test_one_that_cant_be_stopped_hinders_nobody_and_is_restarted_later(chain: Chain) -> None:
    new = chain.new_version()
    busy_at(chain, "power.stop", "web")
    report = chain.run()
    assert [one.act for one in report.outcomes] == [Act.COMMITTED]
    assert (chain.image("db"), set(told(report))) == (new, {"web"})
    chain.lxd.log.before = lambda _call: None
    assert chain.run().restarted == ("web",)
    assert chain.started("web") >= chain.started("db")


def test_one_that_doesnt_end_by_itself_is_killed(chain: Chain) -> None:
    chain.new_version()

    def before(call: Call) -> None:
        if (call.name, call.subject) == ("power.stop", "web"):
            raise StopTimedOutError("it still runs")

    chain.lxd.log.before = before
    chain.run()
    assert "kill web" in chain.power
    chain.in_order()


def test_what_a_user_stopped_stays_stopped(chain: Chain) -> None:
    chain.lxd.user.power.stop("front")
    chain.new_version()

    def before(call: Call) -> None:
        # Faster than the updater by the length of a request.
        if (call.name, call.subject) == ("power.stop", "web"):
            chain.lxd.user.power.stop("web")

    chain.lxd.log.before = before
    chain.run()
    chain.run()
    assert [chain.status(name) for name in ("db", "web", "front")] == [
        *("Running", "Stopped", "Stopped")
    ]
    assert owed_restarts(chain.journal.entries) == ()


def test_what_isnt_followed_or_would_be_gone_isnt_stopped(chain: Chain) -> None:
    chain.local("told", AUTO | {DEPENDS: "db", "user.lxdocker.update": "notify"}, alias="web")
    held = chain.lxd.user.aliases.get("web").fingerprint
    keys = AUTO | {DEPENDS: "db", "user.lxdocker.image": "local|web"}
    chain.lxd.launch("brief", held, config=keys, ephemeral=True)
    chain.new_version()
    chain.power.clear()
    chain.run()
    assert [line for line in chain.power if line.endswith(("told", "brief"))] == []


def test_one_that_gets_a_new_version_itself_is_stopped_once(chain: Chain) -> None:
    chain.new_version()
    chain.new_version("web")
    report = chain.run()
    assert {one.transaction.name for one in report.outcomes} == {"db", "web"}
    assert chain.power.count("stop web") == 1
    assert report.restarted == ("front",)
    chain.in_order()


def test_one_whose_own_update_comes_to_nothing_is_restarted_after_all(chain: Chain) -> None:
    chain.new_version()
    chain.new_version("web")

    def before(call: Call) -> None:
        if call.name == "instances.create" and call.subject.startswith("web"):
            raise LxdError("nothing can be made")

    chain.lxd.log.before = before
    report = chain.run()
    assert {one.transaction.name: one.act for one in report.outcomes} == {
        "db": Act.COMMITTED,
        "web": Act.GIVEN_UP,
    }
    assert "web" in report.restarted
    assert chain.started("web") >= chain.started("db")


def test_an_update_that_a_hook_puts_off_stops_nobody(chain: Chain) -> None:
    chain.new_version()

    def refuse(_transaction: Transaction) -> None:
        raise LxdError("later")

    chain.before_outage = refuse
    chain.run()
    assert chain.power == []


# ---- interrupted anywhere


def every_fault(
    work: Callable[[Chain], object], make: Callable[[], Chain], *, step: int = 1
) -> int:
    injections = 0
    for fault in Fault:
        number = 1
        while number < 400:
            chain = make()
            chain.lxd.log.restart_count()
            chain.lxd.log.faults = {number: fault}
            with contextlib.suppress(KilledError, LxdError):
                work(chain)
            left = bool(chain.lxd.log.faults)
            chain.lxd.log.faults = {}
            chain.lxd.come_up()
            if left:
                break
            chain.lxd.finish()
            # One round of a new updater, and another one for what LXD did late.
            chain.run()
            chain.run()
            chain.in_order()
            injections += 1
            number += step
    return injections


@pytest.mark.parametrize("behaviour", [None, EXITS_AT_ONCE])
def test_a_fault_at_any_call_of_a_round_leaves_no_dependant_stopped(
    behaviour: Behaviour | None,
) -> None:
    def make() -> Chain:
        chain = Chain()
        chain.new_version(behaviour=behaviour)
        return chain

    assert every_fault(lambda chain: chain.run(), make, step=1 if FULL else 3) > 200


def test_a_fault_at_any_call_of_a_return_leaves_no_dependant_stopped() -> None:
    def make() -> Chain:
        chain = Chain()
        chain.new_version()
        chain.run()
        return chain

    assert every_fault(lambda chain: chain.rollback(), make, step=1 if FULL else 3) > 100


def test_an_update_that_others_began_and_left_restarts_them_when_it_is_finished() -> None:
    """As one of an older version did, which wrote down nothing of dependants."""
    chain = Chain()
    chain.new_version()
    chain.lxd.log.restart_count()

    def before(call: Call) -> None:
        if (call.name, call.subject) == ("power.stop", "db"):
            raise KilledError(str(call))

    chain.lxd.log.before = before
    with pytest.raises(KilledError):
        chain.run()
    chain.lxd.log.before = lambda _call: None
    chain.journal.entries = [one for one in chain.journal.entries if not one.dependant]
    for name in ("web", "front"):
        chain.lxd.user.power.start(name)
    chain.run()
    chain.in_order()


# ---- what is written down


def entry(event: Event, dependant: str = "", *, id: str = "00000001") -> Entry:  # noqa: A002 - a transaction's
    transaction = Transaction(id=id, project="default", name="db", fingerprint="f" * 64)
    return Entry(at=NOW, event=event, transaction=transaction, dependant=dependant)


def test_what_is_owed_survives_a_rotation_and_is_skipped_by_older_readers() -> None:
    lines = [
        entry(Event.BEGUN),
        entry(Event.RESTARTING, "web"),
        entry(Event.RESTART_OWED, "front"),
        entry(Event.ENDED),
        entry(Event.RESTARTED, "front"),
    ]
    read = entries(b"".join(map(line_of, lines)))
    assert read == tuple(lines)
    (owed,) = owed_restarts(compacted(read, 0))
    assert (owed.dependant, owed.stopping, owed.key) == ("web", True, ("default", "web"))
    # What isn't known is skipped, line by line.
    assert entries(b'{"event":"of a later version"}\n') == ()
