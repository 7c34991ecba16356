"""Ctrl-C, SIGTERM and a closed terminal at any call of an update by hand, and LXD away in its outage."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.lxd.failures import NotRunningError, RefusedError
from lxdocker_lxd.update.gate import HealthGate
from lxdocker_lxd.update.journal_record import accounts, owed_restarts, still_open
from lxdocker_lxd.update.means import Means, PutOffError
from lxdocker_lxd.update.procedure import Act, Step
from lxdocker_lxd.update.transaction import Transaction
from lxdocker_lxd.update.updater import INTERRUPTED, Updater
from lxdocker_lxd.verbs.interruption import Interruption
from tests.harness.simulated_lxd import GOOD, Behaviour, Call
from tests.update.simulated_scene import BEHAVIOURS
from tests.update.test_rounds import AUTO, House

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(House):
    """A house whose updater hears signals as the command does."""

    def __init__(self, behaviour: Behaviour = GOOD) -> None:
        super().__init__()
        self.interruption = Interruption()
        self.said: list[str] = []
        self.acts: list[Act] = []
        self.lxd.add_image("one", alias="app")
        self.local("db")
        self.local("web", AUTO | {"user.lxdocker.depends": "db"})
        self.lxd.add_image("two", alias="app", behaviour=behaviour)
        self.lxd.log.restart_count()

    def updater(self) -> Updater:
        means = Means(
            gate=HealthGate(self.lxd, clock=self.lxd.clock.monotonic, pause=self.lxd.sleep),
            clock=self.lxd.clock,
            pause=self.lxd.sleep,
            draw_id=self._draw,
            before_outage=self._agree,
            on_step=self._step,
            interrupted=lambda: self.interruption.asked,
            tell=self.said.append,
        )
        return Updater(self.lxd, self.journal, means)

    def _agree(self, transaction: Transaction) -> None:
        with self.interruption.giving_up():
            self.before_outage(transaction)

    def _step(self, transaction: Transaction, step: Step) -> None:
        self.acts.append(step.act)
        self.interruption.step(transaction, step)

    def handled(self) -> None:
        with self.interruption.handled(self.said.append):
            self.interruption.defer(wanted=True)
            self.run("db")

    def signal_at(self, number: int, *signals: signal.Signals) -> list[Act]:
        """Send signals at a call; return the steps until then."""
        before: list[Act] = []

        def send(call: Call) -> None:
            if call.number == number:
                before.extend(self.acts)
                for one in signals:
                    os.kill(os.getpid(), one)
                    # A handler of Python runs between two of its instructions.
                    time.sleep(0)

        self.lxd.log.before = send
        return before

    def whole(self) -> None:
        """Both have their names and run, and nothing is open."""
        running = {one.name for one in self.lxd.user.instances.list() if one.running}
        assert running == {"db", "web"}
        assert still_open(accounts(self.journal.read()).values()) == ()
        assert not any(one.stopping for one in owed_restarts(self.journal.read()))


@pytest.fixture(autouse=True)
def no_handlers_are_left() -> Iterator[None]:
    before = [signal.getsignal(one) for one in SIGNALS]
    yield
    assert [signal.getsignal(one) for one in SIGNALS] == before


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("behaviour", ["good", "ends"])
def test_a_first_signal_at_any_call_leaves_nothing_open(
    behaviour: str, number: signal.Signals
) -> None:
    calls, given_up, finished = 1, 0, 0
    while True:
        house = Interrupted(BEHAVIOURS[behaviour])
        old = house.image("db")
        before = house.signal_at(calls, number)
        house.handled()
        house.whole()
        if not house.interruption.asked:
            break
        in_outage = Act.STOP in before
        if in_outage and Act.RELEASE not in before:
            # It came to the end it would have come to.
            assert (house.image("db") != old) is (behaviour == "good")
            finished += 1
        elif house.image("db") == old:
            names = [one.name for one in house.lxd.user.instances.list()]
            assert Act.OUTAGE in before or names == ["db", "web"]
            given_up += 1
        if house.interruption.unfinished:
            assert not house.said
        calls += 1
    assert given_up > 10
    assert finished > 10


def test_what_a_first_signal_does_is_said() -> None:
    said = set()
    for calls in range(1, 200, 4):
        house = Interrupted()
        house.signal_at(calls, signal.SIGINT)
        house.handled()
        said |= set(house.said)
    assert said == {
        "ends when what is at work is done; once more leaves it",
        "giving up the update of db, which had no outage yet; once more leaves it",
        "finishing the update of db; once more leaves it",
    }


def test_a_second_signal_leaves_and_what_is_open_is_known() -> None:
    left = 0
    for calls in range(1, 400, 3):
        house = Interrupted()
        house.interruption = Interruption(same_seconds=0)
        house.signal_at(calls, signal.SIGTERM, signal.SIGINT)
        try:
            house.handled()
        except KeyboardInterrupt:
            left += 1
            opened = still_open(accounts(house.journal.read()).values())
            seen = {one.id for one in house.interruption.unfinished}
            assert {one.transaction.id for one in opened if one.outage} <= seen
        # Whoever follows the advice has everything back.
        house.interruption = Interruption()
        house.lxd.log.before = lambda _call: None
        house.run("nobody")
        house.whole()
    assert left > 20


def test_signals_that_come_together_are_one() -> None:
    house = Interrupted()
    house.signal_at(60, signal.SIGHUP, signal.SIGHUP, signal.SIGTERM)
    house.handled()
    assert house.interruption.asked
    house.whole()


def test_a_signal_before_anything_began_ends_the_command_at_once() -> None:
    interruption = Interruption()

    def interrupted() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)

    with pytest.raises(KeyboardInterrupt), interruption.handled(lambda _text: None):
        interrupted()


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        interruption = Interruption()
        with interruption.handled(lambda _text: None):
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.01)
        assert not interruption.asked
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_hook_isnt_waited_for_by_one_who_wants_an_end() -> None:
    house = Interrupted()
    waited = 0

    def hook(_transaction: Transaction) -> None:
        nonlocal waited
        for waited in range(3600):
            if waited == 5:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0)
            house.interruption.check()

    house.before_outage = hook
    house.handled()
    assert waited == 5
    house.whole()
    (end,) = (one for one in house.journal.entries if one.event == "ended")
    assert (end.result, end.reason) == (Act.GIVEN_UP, INTERRUPTED)
    with pytest.raises(PutOffError), house.interruption.giving_up():
        house.interruption.check()


def test_the_next_update_doesnt_begin() -> None:
    house = Interrupted()
    house.local("shop")
    number = 0

    def send(call: Call) -> None:
        nonlocal number
        if call.name == "instances.rename":
            number += 1
            if number == 1:
                os.kill(os.getpid(), signal.SIGINT)

    house.lxd.log.before = send
    with house.interruption.handled(house.said.append):
        house.interruption.defer(wanted=True)
        report = house.run()
    assert len(report.outcomes) == 1
    assert "waits for a later round" in report.remarks[-1]
    running = {one.name for one in house.lxd.user.instances.list() if one.running}
    assert running == {"db", "web", "shop"}


# ---- LXD away in an outage


def away(house: Interrupted, number: int, seconds: float) -> list[Act]:
    """Take LXD down at a call, for so long."""
    before: list[Act] = []
    until = None

    def down(call: Call) -> None:
        nonlocal until
        if call.number == number:
            before.extend(house.acts)
            until = house.lxd.clock() + timedelta(seconds=seconds)
        if until is not None and house.lxd.clock() < until:
            raise NotRunningError(f"could not {call}: nobody listens", hint="start it")

    house.lxd.log.before = down
    return before


@pytest.mark.parametrize("seconds", [5.0, 40.0, 600.0])
@pytest.mark.parametrize("behaviour", ["good", "ends"])
def test_lxd_away_at_any_call_of_an_outage_is_waited_for(behaviour: str, seconds: float) -> None:
    calls, waited = 1, 0
    while True:
        house = Interrupted(BEHAVIOURS[behaviour])
        old = house.image("db")
        before = away(house, calls, seconds)
        try:
            house.run("db")
        except NotRunningError:
            # Nobody was without an instance, so nobody waits.
            assert Act.STOP not in before or Act.RELEASE in before or house.ends, house.acts
            assert house.lxd.log.number < calls + 40
        else:
            house.whole()
            if Act.STOP in before:
                assert (house.image("db") != old) is (behaviour == "good")
                waited += 1
        running = {one.name for one in house.lxd.user.instances.list() if one.running}
        assert running == {"db", "web"}, (calls, house.acts)
        assert len([text for text in house.said if "for LXD" in text]) <= 2
        if not before and house.lxd.log.number < calls:
            break
        calls += 1
    assert waited > 15


def test_an_answer_that_nobody_knows_leaves_no_outage_behind() -> None:
    finished = 0
    for calls in range(1, 200):
        house = Interrupted()

        def fail(call: Call, calls: int = calls) -> None:
            if call.number in {calls, calls + 1} and not call.writes:
                raise RefusedError(f"could not {call}: what nobody has heard of", hint="look")

        house.lxd.log.before = fail
        with contextlib.suppress(RefusedError):
            house.run("db")
        running = {one.name for one in house.lxd.user.instances.list() if one.running}
        assert running == {"db", "web"}, house.acts
        finished += Act.STOP in house.acts and bool(house.ends)
        house.lxd.log.before = lambda _call: None
        house.lxd.clock.advance(7 * 3600)
        house.run("db")
        house.whole()
    assert finished > 50


def test_lxd_that_never_comes_back_is_waited_for_a_quarter_of_an_hour() -> None:
    house = Interrupted()
    began = None

    def down(call: Call) -> None:
        nonlocal began
        if call.name == "instances.rename" and began is None:
            began = house.lxd.clock()
        if began is not None:
            raise NotRunningError(f"could not {call}: nobody listens", hint="start it")

    house.lxd.log.before = down
    with pytest.raises(LxdockerError):
        house.run("db")
    assert began is not None
    # The update, then the dependant that was stopped for it.
    assert timedelta(minutes=15) <= house.lxd.clock() - began < timedelta(minutes=40)
    told = [text for text in house.said if "waits up to 15 minutes for LXD" in text]
    assert [text.partition(":")[0] for text in told] == ["db", "web"]
    assert [one.name for one in house.interruption.unfinished] == ["db"]
    house.lxd.log.before = lambda _call: None
    house.run("db")
    house.whole()
