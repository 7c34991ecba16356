"""What ``lxdocker-lxd update`` shows and changes nothing: plan, status, history."""

from lxdocker_lxd.update.journal_record import Event
from lxdocker_lxd.update.means import Outcome
from lxdocker_lxd.update.plan import Decision
from lxdocker_lxd.update.recovery import unfinished
from lxdocker_lxd.update.transaction import Phase, stamp_of
from lxdocker_lxd.verbs.update_work import UpdateWork

SHORT = 12


def show_plan(work: UpdateWork) -> int:
    """Show what would be done and why; change nothing."""
    decisions = work.rounds(work.journal).plan(work.names)
    work.show(
        [decision_row(decision) for decision in decisions],
        ("project", "name", "choice", "from", "to", "reason"),
    )
    return 0


def decision_row(decision: Decision) -> dict[str, object]:
    """Return a decision as a row of the tables of plan and status."""
    return {
        "project": decision.project,
        "name": decision.name,
        "choice": decision.choice,
        "from": decision.running[:SHORT],
        "to": decision.fingerprint[:SHORT],
        "reason": decision.reason,
    }


def show_status(work: UpdateWork) -> int:
    """Show followed instances, copies that are kept, and unfinished updates."""
    instances = work.lxd.instances.list(project=None)
    rows = [
        {"kind": "followed", **decision_row(decision)}
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
            "to": transaction.fingerprint[:SHORT],
            "reason": "`lxdocker-lxd update recover` finishes it",
        }
        for transaction in unfinished(instances, work.journal)
    ]
    work.show(rows, ("kind", "project", "name", "choice", "from", "to", "reason"))
    return 0


def show_history(work: UpdateWork) -> int:
    """Show what became of earlier updates, as the journal has it."""
    rows: list[dict[str, object]] = [
        {
            "at": entry.at.isoformat(timespec="seconds"),
            "project": entry.transaction.project,
            "name": entry.transaction.name,
            "to": entry.transaction.fingerprint[:SHORT],
            "result": entry.result,
            "outage": "" if entry.outage_seconds is None else f"{entry.outage_seconds:.1f} s",
            "reason": entry.reason,
        }
        for entry in work.journal.read()
        if entry.event is Event.ENDED
    ]
    work.show(rows, ("at", "project", "name", "to", "result", "outage", "reason"))
    return 0


def outcome_row(outcome: Outcome) -> dict[str, object]:
    """Return an outcome as a row of the tables of rounds."""
    seconds = outcome.outage_seconds
    return {
        "project": outcome.transaction.project,
        "name": outcome.transaction.name,
        "result": outcome.act,
        "outage": "" if seconds is None else f"{seconds:.1f} s",
        "reason": outcome.reason,
    }
