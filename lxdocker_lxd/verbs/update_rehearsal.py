"""``lxdocker-lxd update``, tried out: what each action would ask of LXD, as text or JSON."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from lxdocker_lxd.console import document, printable, table
from lxdocker_lxd.update.call import Call
from lxdocker_lxd.update.rehearsal import Changed, Rehearsal
from lxdocker_lxd.verbs.update_work import UpdateWork, now

_DRAWN = "x0000001 and so on stand for ids that are drawn when it is done."
_INDENT = " " * 6

Rows = list[dict[str, object]]


def rehearsal_of(work: UpdateWork) -> Rehearsal:
    """A rehearsal with what the command was given; it changes nothing."""
    return Rehearsal(
        work.lxd,
        work.journal.read(),
        now,
        projects=frozenset(work.options.projects),
        hooks=work.settings.hooks,
        owner=os.geteuid(),
        polled=work.polled,
        ages=work.ages,
        retention=work.settings.retention,
        claimant=work.claimant,
    )


def show_rehearsed(
    work: UpdateWork,
    kind: str,
    rows: Rows,
    columns: tuple[str, ...],
    rehearsal: Rehearsal,
    *,
    changed: Sequence[Changed] = (),
    problems: Sequence[str] = (),
    remarks: Sequence[str] = (),
) -> None:
    """Print rows and all calls; in JSON the rows are under ``kind``."""
    calls = rehearsal.calls
    if work.options.format == "json":
        content = {
            kind: rows,
            "calls": [asdict(call) for call in calls],
            "differences": [
                {"project": one.project, "name": one.name, **asdict(difference)}
                for one in changed
                for difference in one.differences
            ],
            "problems": list(problems),
            "remarks": list(remarks),
        }
        work.console.result(document(content))
        return
    cells = [[str(row.get(column, "")) for column in columns] for row in rows]
    parts = [table(columns, cells)]
    if calls and not getattr(work.options, "brief", False):
        parts.append(calls_text(calls, changed))
    work.console.result("\n".join(parts))
    for remark in remarks:
        work.console.note(remark)
    for problem in problems:
        work.console.note(f"problem: {problem}")


def calls_text(calls: Iterable[Call], changed: Iterable[Changed]) -> str:
    """Return the calls in order, by instance, each with what it changes; then what differs after."""
    lines: list[str] = []
    differing = {(one.project, one.name): one for one in changed}
    before: tuple[str, str] | None = None
    for number, call in enumerate(calls, start=1):
        subject = (call.project, call.name)
        if subject != before:
            lines += _differences(differing.pop(before, None) if before else None)
            lines += ["", f"{_subject(call)}:"]
            before = subject
        lines.append(f"{number:4}. {_asked(call)}")
        lines += [f"{_INDENT}{change}" for change in call.changes]
    lines += _differences(differing.pop(before, None) if before else None)
    if any("x0000001" in call.path or "x0000001" in repr(call.body) for call in calls):
        lines += ["", _DRAWN]
    return "\n".join(printable(line) for line in lines[1:]) + "\n"


def _subject(call: Call) -> str:
    if not call.project:
        return "LXD itself"
    return f"{call.name or 'images'} (project {call.project})"


def _asked(call: Call) -> str:
    condition = "  if unchanged" if call.conditional else ""
    return f"{call.step or '-'}: {call.method} {call.path}{condition}"


def _differences(changed: Changed | None) -> list[str]:
    if changed is None:
        return []
    lines = [f"   -> afterwards {changed.name} differs in:"]
    for one in changed.differences:
        warning = "" if one.allowed else "NOT ALLOWED: "
        lines.append(f"{_INDENT}{warning}{one.what}: {one.before} -> {one.after}")
    lines.append(f"{_INDENT}and in nothing else")
    return lines
