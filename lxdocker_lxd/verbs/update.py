"""``lxdocker-lxd update``: what changes something by hand, and which action is which."""

import argparse
import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path

from lxdocker_lxd.console import Console
from lxdocker_lxd.errors import LxdError, NotFoundError
from lxdocker_lxd.lxd.failures import AbsentError
from lxdocker_lxd.lxd.records import Instance
from lxdocker_lxd.update.adoption import follow_rename
from lxdocker_lxd.update.enrolling import enrolling_mode
from lxdocker_lxd.update.enrolment import UPDATE_KEY, Mode
from lxdocker_lxd.update.followed_images import remember_certificate, write_key
from lxdocker_lxd.update.holder import HOLDER_KEY, holder_of
from lxdocker_lxd.update.journal import service_lock
from lxdocker_lxd.update.means import Outcome
from lxdocker_lxd.update.plan import Choice
from lxdocker_lxd.update.problem import Problems
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.recovery import parked_copy, reap, recover
from lxdocker_lxd.update.retention import copies_of
from lxdocker_lxd.update.root_disk import DISPOSABLE, ROOT_DISK_KEY
from lxdocker_lxd.update.rounds import Report
from lxdocker_lxd.update.source import SOURCE_KEY, discovered, source_of_text
from lxdocker_lxd.update.transaction import REJECTED_KEY, Role, Transaction
from lxdocker_lxd.verbs.rounds_view import watched
from lxdocker_lxd.verbs.update_by_hand import act_by_hand
from lxdocker_lxd.verbs.update_look import (
    COPY_COLUMNS,
    SHORT,
    copy_row,
    outcome_row,
    show_history,
    show_plan,
    show_round,
)
from lxdocker_lxd.verbs.update_rehearsal import rehearsal_of, show_rehearsed
from lxdocker_lxd.verbs.update_service import remember_problems, serve
from lxdocker_lxd.verbs.update_status import show_status
from lxdocker_lxd.verbs.update_work import UpdateWork, now, prepare


class UpdateFailedError(LxdError):
    """An update didn't end well; the instance is what it was, or waits for somebody."""


def run(options: argparse.Namespace, console: Console) -> int:
    """Do what was asked and return the exit code."""
    with watched(prepare(options, console)) as work:
        act = _ACTIONS[options.action]
        if options.action in _BY_HAND and not options.dry_run:
            return act_by_hand(work, act)
        return act(work)


def _update_now(work: UpdateWork) -> int:
    for name in work.names:
        work.instance(name)
    if work.options.dry_run:
        return show_round(work, by_hand=bool(work.names), refresh=not work.options.no_refresh)
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
        if not work.names:
            remember_problems(work, report)
    return _show_report(work, report)


def _show_report(work: UpdateWork, report: Report) -> int:
    rows = [outcome_row(outcome) for outcome in (*report.recovered, *report.outcomes)]
    acted = {outcome.transaction.name for outcome in report.outcomes}
    rows += [
        {"name": one.name, "project": one.project, "result": one.choice, "reason": one.reason}
        for one in report.decisions
        if one.name not in acted and one.choice is not Choice.RESTART
    ]
    rows += [{"name": name, "result": "restarted"} for name in report.restarted]
    work.show(rows, ("project", "name", "result", "outage", "reason"))
    for remark in report.remarks:
        work.console.note(remark)
    for problem in report.problems:
        work.console.note(f"problem: {problem}")
    return 1 if report.bad else 0


def _enable(work: UpdateWork) -> int:
    options = work.options
    for name in options.names:
        instance = work.instance(name)
        mode = enrolling_mode(
            work.declared,
            instance,
            Mode(options.mode) if options.mode else None,
            disposable=options.root_disk_is_disposable,
        )
        follow_rename(work.lxd, instance)
        if options.image:
            source = str(source_of_text(options.image))
        elif not instance.expanded_config.get(SOURCE_KEY):
            source = str(discovered(instance, work.lxd.images.list(project=options.project)))
        else:
            source = instance.expanded_config[SOURCE_KEY]
        write_key(work.lxd, instance, SOURCE_KEY, source)
        images = work.lxd.images.list(project=options.project)
        remember_certificate(work.lxd, instance, source_of_text(source), images)
        if options.root_disk_is_disposable:
            write_key(work.lxd, instance, ROOT_DISK_KEY, DISPOSABLE)
        write_key(work.lxd, instance, UPDATE_KEY, mode.mode)
        write_key(work.lxd, instance, HOLDER_KEY, holder_of(instance))
        if instance.config.get(REJECTED_KEY):
            write_key(work.lxd, instance, REJECTED_KEY, "")
        work.console.note(f"{name}: follows {source}")
        if mode.remark:
            work.console.note(f"{name}: {mode.remark}")
    return 0


def _disable(work: UpdateWork) -> int:
    for name in work.options.names:
        write_key(work.lxd, work.instance(name), UPDATE_KEY, "off")
        work.console.note(f"{name}: is left alone from now on")
    return 0


def _rollback(work: UpdateWork) -> int:
    name, project = work.options.name, work.options.project
    if not work.options.dry_run:
        with contextlib.suppress(AbsentError):
            follow_rename(work.lxd, work.instance(name))
    instances = work.lxd.instances.list(project=project)
    transaction = parked_copy(instances, name, project)
    if transaction is None:
        raise NotFoundError(
            f"go back with {name}: no copy of before its last update is kept",
            hint="`lxdocker-lxd update status` lists copies",
        )
    if work.options.dry_run:
        return _rehearse_rollback(work, transaction, instances)
    problems = Problems()
    with work.journal as journal:
        restore = work.options.restore_volumes
        updater = work.updater(journal)
        updater.dependants.begin(problems)
        outcome = updater.turn_back(transaction, restore_volumes=restore)
        restarted = tuple(updater.dependants.restarted)
    problems.add_of(outcome)
    _show_outcomes(work, [outcome], restarted)
    _show_problems(work, problems)
    if outcome.act is not Act.ROLLED_BACK:
        raise UpdateFailedError(
            f"go back with {name}: {outcome.act}: {outcome.explanation}",
            hint="nothing was removed; `lxdocker-lxd update status` shows what is there",
        )
    return 1 if outcome.problems else 0


def _rehearse_rollback(
    work: UpdateWork, transaction: Transaction, instances: tuple[Instance, ...]
) -> int:
    """Say which version would be returned to, and by which calls."""
    by_name = {one.name: one for one in instances}
    current, copy = by_name.get(transaction.name), by_name[transaction.parked(Role.OLD)]
    rehearsal = rehearsal_of(work)
    restore = work.options.restore_volumes
    outcome = rehearsal.turn_back(transaction, restore_volumes=restore)
    row: dict[str, object] = {
        "project": transaction.project,
        "name": transaction.name,
        "from": _version(current) if current is not None else "",
        "to": _version(copy),
        "copy": copy.name,
        "result": outcome.act,
        "reason": outcome.reason,
    }
    columns = ("project", "name", "from", "to", "copy", "result", "reason")
    there = outcome.act is Act.ROLLED_BACK
    compared = there and current is not None
    changed = [rehearsal.changed(transaction.project, transaction.name)] if compared else []
    show_rehearsed(work, "rollbacks", [row], columns, rehearsal, changed=changed)
    return 0


def _version(instance: Instance) -> str:
    """Return the version by its serial, where the image has one, and its fingerprint."""
    serial = instance.config.get("image.serial", "")
    return " ".join(filter(None, (serial, instance.base_image[:SHORT])))


def _rehearse_recovery(work: UpdateWork) -> int:
    """Say which updates are unfinished, and by which calls they would come to which end."""
    rehearsal = rehearsal_of(work)
    rows: list[dict[str, object]] = []
    for outcome in rehearsal.recover():
        one = outcome.transaction
        steps = [call.step for call in rehearsal.calls if call.name == one.name]
        row = outcome_row(outcome) | {"to": one.fingerprint[:SHORT], "next": next(iter(steps), "")}
        rows.append(row)
    columns = ("project", "name", "to", "next", "result", "reason")
    show_rehearsed(work, "recoveries", rows, columns, rehearsal)
    return 0


def _reap(work: UpdateWork) -> int:
    """Remove copies: those whose time is over, or all of the instances that are named."""
    project = work.options.project
    names = frozenset((project, name) for name in work.names)
    listed = work.lxd.instances.list(project=None)
    found = copies_of(listed, now(), work.settings.retention, work.ages.read())
    mine = [one for one in found if not names or (one.instance.project, one.stamp.name) in names]
    for name in work.names - {one.stamp.name for one in mine}:
        raise NotFoundError(
            f"remove the copies of {name}: there is none in project {project}",
            hint="`lxdocker-lxd update status` lists copies",
        )
    if work.options.dry_run:
        rehearsal = rehearsal_of(work)
        removed = rehearsal.reap(names)
        rows = [copy_row(one, removed, named=bool(names), would=True) for one in mine]
        show_rehearsed(work, "copies", rows, COPY_COLUMNS, rehearsal)
        return 0
    problems = Problems()
    with work.journal:
        retention = work.settings.retention
        reaped = reap(work.lxd, now(), names, retention=retention, ages=work.ages)
    rows = [copy_row(one, reaped.removed, named=bool(names)) for one in mine]
    work.show(rows, COPY_COLUMNS)
    for _, name, reason in reaped.failed:
        problems.add(f"remove the copy {name}: {reason}")
    return _show_problems(work, problems)


def _show_problems(work: UpdateWork, problems: Problems) -> int:
    for problem in problems.found:
        work.console.note(f"problem: {problem}")
    return 1 if problems.found else 0


def _show_outcomes(
    work: UpdateWork, outcomes: Iterable[Outcome], restarted: tuple[str, ...]
) -> None:
    rows = [outcome_row(outcome) for outcome in outcomes]
    rows += [{"name": name, "result": "restarted"} for name in restarted]
    work.show(rows, ("project", "name", "result", "outage", "reason"))


def _recover(work: UpdateWork) -> int:
    if work.options.dry_run:
        return _rehearse_recovery(work)
    problems = Problems()
    with work.journal as journal:
        updater = work.updater(journal)
        updater.dependants.begin(problems)
        outcomes = recover(work.lxd, updater, journal, apart=problems.about)
        updater.dependants.work_off()
        restarted = tuple(updater.dependants.restarted)
    _show_outcomes(work, outcomes, restarted)
    for outcome in outcomes:
        problems.add_of(outcome)
    held = any(outcome.act is Act.HOLD for outcome in outcomes)
    return _show_problems(work, problems) or int(held)


_BY_HAND = frozenset({"now", "rollback", "recover", "reap"})
_ACTIONS: dict[str, Callable[[UpdateWork], int]] = {
    "run": serve,
    "now": _update_now,
    "plan": show_plan,
    "status": show_status,
    "enable": _enable,
    "disable": _disable,
    "rollback": _rollback,
    "recover": _recover,
    "reap": _reap,
    "history": show_history,
}
