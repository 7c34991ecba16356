"""What ``lxdocker-lxd update`` shows and changes nothing: plans, history, rows of its tables."""

from collections.abc import Iterable

from lxdocker_lxd.update.journal_record import Entry, Event
from lxdocker_lxd.update.means import Outcome
from lxdocker_lxd.update.plan import Choice, Decision
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.rehearsal import Rehearsal
from lxdocker_lxd.update.retention import Copy
from lxdocker_lxd.update.rounds import rests_until
from lxdocker_lxd.verbs.update_rehearsal import rehearsal_of, show_rehearsed
from lxdocker_lxd.verbs.update_work import UpdateWork, now

SHORT = 12
COPY_COLUMNS = ("project", "name", "of", "phase", "version", "result", "reason")


def show_plan(work: UpdateWork) -> int:
    """Show what the next round of the service would do, call by call; change nothing."""
    return show_round(work, by_hand=False, refresh=False)


def show_round(work: UpdateWork, *, by_hand: bool, refresh: bool) -> int:
    """Show what a round would do, and why; change nothing."""
    rehearsal = rehearsal_of(work)
    rehearsal.ask_servers()
    report = rehearsal.round(work.names, by_hand=by_hand, refresh=refresh)
    entries, moment = work.journal.read(), now()
    resting = [
        f"{one.name}: this update came to nothing before; it is tried again at"
        f" {until.isoformat(timespec='minutes')}"
        for one in report.decisions
        if one.choice is Choice.UPDATE and not by_hand
        if moment < (until := rests_until(entries, one, moment))
    ]
    unhappy = [
        f"{one.transaction.name}: {one.act}: {one.reason}" for one in report.outcomes if one.bad
    ]
    show_rehearsed(
        work,
        "decisions",
        [
            decision_row(decision, full=work.options.format == "json")
            for decision in report.decisions
        ],
        (
            *("project", "name", "choice", "from", "to", "reason"),
            *_filled(report.decisions),
        ),
        rehearsal,
        changed=[
            rehearsal.changed(one.transaction.project, one.transaction.name)
            for one in report.outcomes
            if one.act is Act.COMMITTED
        ],
        problems=(*map(str, report.problems), *unhappy, *resting),
        remarks=(*report.remarks, *_unknown(rehearsal)),
    )
    return 0


def _filled(decisions: Iterable[Decision]) -> tuple[str, ...]:
    """Return the columns that only some plans need: what images say of their versions."""
    found = tuple(decisions)
    changes = ("changes",) if any(one.changes for one in found) else ()
    notes = ("release_notes",) if any(one.release_notes for one in found) else ()
    return (*changes, *notes)


def _unknown(rehearsal: Rehearsal) -> tuple[str, ...]:
    if any(call.step in {"fetch image", "refresh image"} for call in rehearsal.calls):
        return ("what LXD would find at the image servers isn't known before it looked",)
    return ()


def decision_row(decision: Decision, *, full: bool = False) -> dict[str, object]:
    """Return a decision as a row of the tables of plan and status."""
    return {
        "project": decision.project,
        "name": decision.name,
        "choice": decision.choice,
        "from": decision.running if full else decision.running[:SHORT],
        "to": decision.fingerprint if full else decision.fingerprint[:SHORT],
        "reason": decision.reason,
        "cause": decision.cause,
        "changes": list(decision.changes) if full else "; ".join(decision.changes),
        "release_notes": decision.release_notes,
    }


def show_history(work: UpdateWork) -> int:
    """Show what became of earlier updates, as the journal has it."""
    ended = [entry for entry in work.journal.read() if entry.event is Event.ENDED]
    rows: list[dict[str, object]] = [
        {
            "at": entry.at.isoformat(timespec="seconds"),
            "project": entry.transaction.project,
            "name": entry.transaction.name,
            "to": entry.transaction.fingerprint[:SHORT],
            "result": entry.result,
            **_outage(entry.outage_seconds),
            "evidence": list(entry.evidence),
            "killed": entry.killed,
            "reason": entry.explanation,
        }
        for entry in ended
    ]
    work.show(rows, ("at", "project", "name", "to", "result", "outage", "reason"))
    if work.options.evidence and work.options.format != "json":
        for entry in ended:
            _show_evidence(work, entry)
    return 0


def _show_evidence(work: UpdateWork, entry: Entry) -> None:
    if entry.evidence:
        at = entry.at.isoformat(timespec="seconds")
        lines = "".join(f"  {line}\n" for line in entry.evidence)
        work.console.result(f"\n{at} {entry.transaction.name}, said last:\n{lines}")


_USERS = "it has snapshots or backups"


def copy_row(
    copy: Copy, removed: tuple[str, ...], *, named: bool, would: bool = False
) -> dict[str, object]:
    """Return a copy as a row: what becomes of it, and why; ``named`` ones don't wait."""
    name, until = copy.instance.name, None if named else copy.until
    reason = copy.needed
    if not reason and name not in removed:
        reason = f"until {until.isoformat(timespec='minutes')}" if until else _USERS
    result = ("would be removed" if would else "removed") if name in removed else "kept"
    return {
        "project": copy.instance.project,
        "name": name,
        "of": copy.stamp.name,
        "phase": copy.stamp.phase,
        "version": copy.instance.base_image[:SHORT],
        "result": result,
        "reason": "" if name in removed else reason,
    }


def outcome_row(outcome: Outcome) -> dict[str, object]:
    """Return an outcome as a row of the tables of rounds."""
    return {
        "project": outcome.transaction.project,
        "name": outcome.transaction.name,
        "result": outcome.act,
        **_outage(outcome.outage_seconds),
        "evidence": list(outcome.evidence),
        "killed": outcome.killed,
        "reason": outcome.explanation,
    }


def _outage(seconds: float | None) -> dict[str, object]:
    """How long the name had no running instance: for people and, exactly, for programs."""
    return {
        "outage": "" if seconds is None else f"{seconds:.1f} s",
        "outage_seconds": None if seconds is None else round(seconds, 3),
    }
