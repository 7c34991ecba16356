"""``lxdocker-lxd update now|rollback|recover|reap``: what is said when one ends, and who holds LXD."""

import argparse
import io
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from lxdocker_lxd.console import Console
from lxdocker_lxd.errors import StorageError
from lxdocker_lxd.lxd.daemon import LxdDaemon
from lxdocker_lxd.lxd.failures import NotRunningError
from lxdocker_lxd.service_notify import Heartbeat, ServiceNotify
from lxdocker_lxd.update.claim import Claim, OtherUpdaterError
from lxdocker_lxd.update.hook import Hook, Occasion, Point
from lxdocker_lxd.update.hook_run import HookRunner
from lxdocker_lxd.update.host_program import ProgramRun
from lxdocker_lxd.update.journal import JournalFile
from lxdocker_lxd.update.journal_record import Entry, Event
from lxdocker_lxd.update.means import PutOffError
from lxdocker_lxd.update.procedure import Act, Step
from lxdocker_lxd.update.settings import UpdateSettings
from lxdocker_lxd.update.telling import Telling
from lxdocker_lxd.update.transaction import Transaction
from lxdocker_lxd.verbs.interruption import Interruption
from lxdocker_lxd.verbs.update_by_hand import act_by_hand
from lxdocker_lxd.verbs.update_service import _Service
from lxdocker_lxd.verbs.update_work import UpdateWork
from tests.harness.simulated_lxd import SimulatedLxd
from tests.update.memory_journal import MemoryJournal
from tests.update.records import NEW_IMAGE, NOW

WEB = Transaction(id="00000001", project="default", name="web", fingerprint=NEW_IMAGE)


def work_on(state: Path, lxd: SimulatedLxd | None = None) -> UpdateWork:
    lxd = lxd or SimulatedLxd()
    return UpdateWork(
        options=argparse.Namespace(action="now", dry_run=False, format="table", state=str(state)),
        console=Console(io.StringIO(), io.StringIO()),
        settings=UpdateSettings(),
        heartbeat=Heartbeat(ServiceNotify({}, os.getpid()), clock=time.monotonic),
        interruption=Interruption(same_seconds=0),
        _opened=[cast("LxdDaemon", lxd)],
        _claims=[Claim(lambda: lxd.server, "here:/one", lxd.clock)],
    )


def said_by(work: UpdateWork) -> str:
    return cast("io.StringIO", work.console.err).getvalue()


def begun(state: Path, *events: Event) -> None:
    with JournalFile(state) as journal:
        for event in (Event.BEGUN, *events):
            journal.append(Entry(at=NOW, event=event, transaction=WEB))


def interrupted(work: UpdateWork, *, times: int) -> Callable[[UpdateWork], int]:
    """An action that is interrupted in the outage of ``web``."""

    def act(_work: UpdateWork) -> int:
        work.interruption.defer(wanted=True)
        work.interruption.step(WEB, Step(act=Act.STOP))
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
        work.interruption.step(WEB, Step(act=Act.COMMITTED))
        return 0

    return act


def test_one_interrupted_in_an_outage_says_that_it_is_open(tmp_path: Path) -> None:
    work = work_on(tmp_path)
    with pytest.raises(KeyboardInterrupt) as caught:
        act_by_hand(work, interrupted(work, times=2))
    assert str(caught.value) == (
        "the update of web isn't finished:"
        " `lxdocker-lxd update recover` finishes it or turns it back"
    )


def test_one_interrupted_once_has_nothing_open_and_says_so(tmp_path: Path) -> None:
    work = work_on(tmp_path)
    with pytest.raises(KeyboardInterrupt) as caught:
        act_by_hand(work, interrupted(work, times=1))
    assert str(caught.value) == "what was at work came to its end"
    assert said_by(work) == "finishing the update of web; once more leaves it\n"


def test_what_the_journal_knows_to_be_open_is_said_as_well(tmp_path: Path) -> None:
    begun(tmp_path, Event.OUTAGE)
    work = work_on(tmp_path)

    def fail(_work: UpdateWork) -> int:
        work.interruption.defer(wanted=True)
        raise NotRunningError("LXD isn't running", hint="start it")

    with pytest.raises(NotRunningError):
        act_by_hand(work, fail)
    assert "the update of web isn't finished" in said_by(work)
    assert "update recover" in said_by(work)


def test_who_never_got_to_work_says_nothing_of_others_work(tmp_path: Path) -> None:
    begun(tmp_path, Event.OUTAGE)
    work = work_on(tmp_path)

    def refused(_work: UpdateWork) -> int:
        raise StorageError("use the directory: another updater is at work with it")

    with pytest.raises(StorageError):
        act_by_hand(work, refused)
    assert said_by(work) == ""


def test_a_held_update_is_said_to_be_open_and_a_good_end_says_nothing(tmp_path: Path) -> None:
    work = work_on(tmp_path)

    def held(_work: UpdateWork) -> int:
        work.interruption.defer(wanted=True)
        work.interruption.step(WEB, Step(act=Act.HOLD))
        return 1

    assert act_by_hand(work, held) == 1
    assert "the update of web isn't finished" in said_by(work)
    work = work_on(tmp_path)

    def good(_work: UpdateWork) -> int:
        work.interruption.defer(wanted=True)
        work.interruption.step(WEB, Step(act=Act.STOP))
        work.interruption.step(WEB, Step(act=Act.COMMITTED))
        return 0

    assert act_by_hand(work, good) == 0
    assert said_by(work) == ""


def test_a_hook_of_an_hour_keeps_the_claim_to_lxd(tmp_path: Path) -> None:
    lxd = SimulatedLxd()
    work = work_on(tmp_path, lxd)
    work._claim.take()
    other = Claim(lambda: lxd.server, "there:/two", lxd.clock)
    refused = 0

    def slow(
        _words: tuple[str, ...], *, heartbeat: Callable[[], None], **_how: object
    ) -> ProgramRun:
        nonlocal refused
        for second in range(3600):
            lxd.clock.advance(1)
            heartbeat()
            if second % 300 == 0:
                with pytest.raises(OtherUpdaterError):
                    other.take()
                refused += 1
        return ProgramRun(exit_code=0, output=b"")

    hook = Hook(name="backup", where="host", words=(os.path.realpath(sys.executable),))
    runner = HookRunner(lxd.guests, {"backup": hook}, heartbeat=work.beat, program=slow)
    occasion = Occasion(point=Point.BEFORE, project="default", name="web")
    runner.run(occasion, {"user.lxdocker.update.hook.before": "backup"}, running=True)
    assert refused == 12


def test_beats_of_other_threads_claim_nothing(tmp_path: Path) -> None:
    lxd = SimulatedLxd()
    work = work_on(tmp_path, lxd)
    work._claim.take()
    lxd.clock.advance(300)
    lxd.log.restart_count()
    UpdateWork.beat(
        UpdateWork(
            options=work.options,
            console=work.console,
            settings=work.settings,
            heartbeat=work.heartbeat,
            _opened=work._opened,
            _claims=work._claims,
            _thread=0,
        )
    )
    assert lxd.log.calls == []
    work.beat()
    assert lxd.log.calls


def test_the_service_gives_up_what_had_no_outage_when_it_is_to_end(tmp_path: Path) -> None:
    work = work_on(tmp_path)
    work.options.interval, work.options.projects = 300.0, []
    telling = Telling(UpdateSettings(), tmp_path, MemoryJournal(), lambda: NOW, host="h")
    service = _Service(work, telling)
    assert not work.interruption.asked
    service.stop(signal.SIGTERM, None)
    assert work.interruption.asked
    with pytest.raises(PutOffError), work.interruption.giving_up():
        # What a hook that it waits for brings about each second.
        work.beat()
