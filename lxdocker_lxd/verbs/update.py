"""``lxdocker-lxd update``: LXD, the journal and the clock put together, results shown."""

import argparse
import contextlib
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from lxdocker_lxd.console import Console
from lxdocker_lxd.errors import LxdError, LxdockerError, NotFoundError
from lxdocker_lxd.update.enrolment import UPDATE_KEY
from lxdocker_lxd.update.journal import UpdaterRunsError, service_lock
from lxdocker_lxd.update.journal_record import Event
from lxdocker_lxd.update.means import Outcome
from lxdocker_lxd.update.plan import Choice, Decision
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.recovery import parked_copy, recover, unfinished
from lxdocker_lxd.update.rounds import Report, write_key
from lxdocker_lxd.update.source import SOURCE_KEY, discovered, source_of_text
from lxdocker_lxd.update.transaction import (
    REJECTED_KEY,
    Phase,
    stamp_of,
)
from lxdocker_lxd.update.watch import Rhythm, Watch
from lxdocker_lxd.verbs.update_work import UpdateWork, prepare

_SHORT = 12


class UpdateFailedError(LxdError):
    """An update didn't end well; the instance is what it was, or waits for somebody."""


def run(options: argparse.Namespace, console: Console) -> int:
    """Do what was asked and return the exit code."""
    work = prepare(options, console)
    return _ACTIONS[options.action](work)


# ---- looking


def _plan(work: UpdateWork) -> int:
    decisions = work.rounds(work.journal).plan(work.names)
    work.show(
        [_decision_row(decision) for decision in decisions],
        ("project", "name", "choice", "from", "to", "reason"),
    )
    return 0


def _decision_row(decision: Decision) -> dict[str, object]:
    return {
        "project": decision.project,
        "name": decision.name,
        "choice": decision.choice,
        "from": decision.running[:_SHORT],
        "to": decision.fingerprint[:_SHORT],
        "reason": decision.reason,
    }


def _status(work: UpdateWork) -> int:
    instances = work.lxd.instances.list(project=None)
    rows = [
        {"kind": "followed", **_decision_row(decision)}
        for decision in work.rounds(work.journal).plan()
    ]
    for instance in instances:
        stamp = stamp_of(instance)
        if stamp is not None and stamp.phase in {Phase.KEPT, Phase.RETIRED, Phase.REJECTED}:
            until = stamp.until.isoformat(timespec="minutes") if stamp.until else "the next round"
            rows.append(
                {
                    "kind": f"{stamp.phase} copy",
                    "project": instance.project,
                    "name": instance.name,
                    "reason": f"of {stamp.name}, until {until}",
                }
            )
    rows += [
        {
            "kind": "unfinished",
            "project": transaction.project,
            "name": transaction.name,
            "to": transaction.fingerprint[:_SHORT],
            "reason": "`lxdocker-lxd update recover` finishes it",
        }
        for transaction in unfinished(instances, work.journal)
    ]
    work.show(rows, ("kind", "project", "name", "choice", "from", "to", "reason"))
    return 0


def _history(work: UpdateWork) -> int:
    rows: list[dict[str, object]] = [
        {
            "at": entry.at.isoformat(timespec="seconds"),
            "project": entry.transaction.project,
            "name": entry.transaction.name,
            "to": entry.transaction.fingerprint[:_SHORT],
            "result": entry.result,
            "outage": "" if entry.outage_seconds is None else f"{entry.outage_seconds:.1f} s",
            "reason": entry.reason,
        }
        for entry in work.journal.read()
        if entry.event is Event.ENDED
    ]
    work.show(rows, ("at", "project", "name", "to", "result", "outage", "reason"))
    return 0


# ---- doing


def _update_now(work: UpdateWork) -> int:
    for name in work.names:
        work.instance(name)
    with contextlib.ExitStack() as opened:
        alone = opened.enter_context(service_lock(Path(work.options.state)))
        journal = opened.enter_context(work.journal)
        # Where the service runs, messages and their outbox are its business.
        telling = opened.enter_context(work.telling(journal)) if alone else None
        report = work.rounds(journal).run(
            work.names, by_hand=bool(work.names), refresh=not work.options.no_refresh
        )
        if telling is not None:
            telling.round(report, work.new_complaints())
    return _show_report(work, report)


def _show_report(work: UpdateWork, report: Report) -> int:
    rows = [_outcome_row(outcome) for outcome in (*report.recovered, *report.outcomes)]
    acted = {outcome.transaction.name for outcome in report.outcomes}
    rows += [
        {"name": one.name, "project": one.project, "result": one.choice, "reason": one.reason}
        for one in report.decisions
        if one.name not in acted and one.choice is not Choice.RESTART
    ]
    rows += [{"name": name, "result": "restarted"} for name in report.restarted]
    work.show(rows, ("project", "name", "result", "outage", "reason"))
    for problem in report.problems:
        work.console.note(f"problem: {problem}")
    return 1 if report.bad else 0


def _outcome_row(outcome: Outcome) -> dict[str, object]:
    seconds = outcome.outage_seconds
    return {
        "project": outcome.transaction.project,
        "name": outcome.transaction.name,
        "result": outcome.act,
        "outage": "" if seconds is None else f"{seconds:.1f} s",
        "reason": outcome.reason,
    }


def _enable(work: UpdateWork) -> int:
    options = work.options
    for name in options.names:
        instance = work.instance(name)
        if options.image:
            source = str(source_of_text(options.image))
        elif not instance.expanded_config.get(SOURCE_KEY):
            source = str(discovered(instance, work.lxd.images.list(project=options.project)))
        else:
            source = instance.expanded_config[SOURCE_KEY]
        write_key(work.lxd, instance, SOURCE_KEY, source)
        write_key(work.lxd, instance, UPDATE_KEY, options.mode)
        if instance.config.get(REJECTED_KEY):
            write_key(work.lxd, instance, REJECTED_KEY, "")
        work.console.note(f"{name}: follows {source}")
    return 0


def _disable(work: UpdateWork) -> int:
    for name in work.options.names:
        write_key(work.lxd, work.instance(name), UPDATE_KEY, "off")
        work.console.note(f"{name}: is left alone from now on")
    return 0


def _rollback(work: UpdateWork) -> int:
    name, project = work.options.name, work.options.project
    transaction = parked_copy(work.lxd.instances.list(project=project), name, project)
    if transaction is None:
        raise NotFoundError(
            f"go back with {name}: no copy of before its last update is kept",
            hint="`lxdocker-lxd update status` lists copies; they are kept 72 hours",
        )
    with work.journal as journal:
        outcome = work.updater(journal).turn_back(transaction)
    work.show([_outcome_row(outcome)], ("project", "name", "result", "outage", "reason"))
    if outcome.act is not Act.ROLLED_BACK:
        raise UpdateFailedError(
            f"go back with {name}: {outcome.act}: {outcome.reason}",
            hint="nothing was removed; `lxdocker-lxd update status` shows what is there",
        )
    return 0


def _recover(work: UpdateWork) -> int:
    if work.options.dry_run:
        found = unfinished(work.lxd.instances.list(project=None), work.journal)
        rows: list[dict[str, object]] = [
            {"project": one.project, "name": one.name, "to": one.fingerprint[:_SHORT]}
            for one in found
        ]
        work.show(rows, ("project", "name", "to"))
        return 0
    with work.journal as journal:
        outcomes = recover(work.lxd, work.updater(journal), journal)
    work.show(
        [_outcome_row(outcome) for outcome in outcomes],
        ("project", "name", "result", "outage", "reason"),
    )
    return 1 if any(outcome.act is Act.HOLD for outcome in outcomes) else 0


def _serve(work: UpdateWork) -> int:
    """Run as the service; SIGTERM and SIGINT end it after the step at work."""
    stop = threading.Event()

    def stopped(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stopped)
    with contextlib.ExitStack() as opened:
        if not opened.enter_context(service_lock(Path(work.options.state))):
            raise UpdaterRunsError(
                f"serve {work.options.state}: another `lxdocker-lxd update run` does",
                hint="one service is enough; --state names another directory",
            )
        telling = opened.enter_context(work.telling(work.journal, serve=True))

        def one_round() -> None:
            with work.journal as journal:
                report = work.rounds(journal).run()
            _tell_report(work, report)
            telling.round(report, work.new_complaints())

        def failed(error: LxdockerError) -> None:
            work.console.note(f"error: {error.message}")
            telling.failed_round(error.message)

        Watch(
            work.lxd,
            one_round,
            clock=time.monotonic,
            pause=lambda seconds: stop.wait(seconds) if seconds else stop.is_set(),
            tell=failed,
            rhythm=Rhythm(interval_seconds=max(work.options.interval, 1.0)),
        ).run()
    return 0


def _tell_report(work: UpdateWork, report: Report) -> None:
    for outcome in (*report.recovered, *report.outcomes):
        work.console.note(f"{outcome.transaction.name}: {outcome.act}: {outcome.reason or 'done'}")
    for decision in report.decisions:
        if decision.choice in {Choice.NOTIFY, Choice.REFUSE}:
            work.console.note(f"{decision.name}: {decision.choice}: {decision.reason}")
    for name in report.removed:
        work.console.note(f"removed the copy {name}")
    for problem in report.problems:
        work.console.note(f"problem: {problem}")


_ACTIONS: dict[str, Callable[[UpdateWork], int]] = {
    "run": _serve,
    "now": _update_now,
    "plan": _plan,
    "status": _status,
    "enable": _enable,
    "disable": _disable,
    "rollback": _rollback,
    "recover": _recover,
    "history": _history,
}
