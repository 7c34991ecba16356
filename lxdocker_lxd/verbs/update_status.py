"""``lxdocker-lxd update status``: followed instances as they are now, copies, unfinished updates."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

from lxdocker_lxd.console import document, table
from lxdocker_lxd.guest_health import Health
from lxdocker_lxd.lxd.records import Image, Instance
from lxdocker_lxd.update.enrolment import policy_of
from lxdocker_lxd.update.journal_record import Entry, Event, owed_restarts
from lxdocker_lxd.update.known_problems import KnownProblems
from lxdocker_lxd.update.liveness import Liveness
from lxdocker_lxd.update.liveness_monitor import read_liveness
from lxdocker_lxd.update.plan import BREAKER, Decision
from lxdocker_lxd.update.recovery import unfinished
from lxdocker_lxd.update.rejection import rejections_of, series_of
from lxdocker_lxd.update.retention import copies_of
from lxdocker_lxd.update.window import Window, is_open, next_opening
from lxdocker_lxd.verbs.standing import Standings, health_now
from lxdocker_lxd.verbs.update_look import SHORT, copy_row
from lxdocker_lxd.verbs.update_work import UpdateWork, now

_AT_ONCE = 8
_FOLLOWED = ("project", "name", "status", "health", "version", "newest", "choice", "reason")
_PAST = ("project", "name", "last", "at", "rejected", "window", "health_restarts")
_COPIES = ("kind", "project", "name", "of", "version", "reason")
_PROBLEMS = ("project", "name", "since", "problem")
_UNFINISHED = ("project", "name", "to", "reason")

Row = dict[str, object]


def show_status(work: UpdateWork) -> int:
    """Show followed instances, copies, what is unfinished, and problems; ask for health now."""
    instances = work.lxd.instances.list(project=None)
    entries = work.journal.read()
    decisions = work.rounds(work.journal).plan()
    by_key = {(one.project, one.name): one for one in instances}
    found = [(by_key[one.key], one) for one in decisions if one.key in by_key]
    standings, last = Standings(work.lxd), last_ends(entries)
    liveness = read_liveness(Path(work.options.state))
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="status") as threads:
        health = list(threads.map(lambda pair: _health(work, pair[0]), found))
    followed = [
        followed_row(instance, decision, standings, ill, last.get(decision.key), now())
        | liveness_row(liveness.get(decision.key, Liveness()))
        for (instance, decision), ill in zip(found, health, strict=True)
    ]
    kept = [
        copy_row(one, (), named=False) | {"kind": f"{one.stamp.phase} copy"}
        for one in copies_of(instances, now(), work.settings.retention, work.ages.read())
    ]
    open_now, problems = _unfinished_rows(work, instances, entries), _problem_rows(work)
    if work.options.format == "json":
        content = {
            "instances": followed,
            "copies": kept,
            "unfinished": open_now,
            "problems": problems,
        }
        work.console.result(document(content))
        return 0
    parts = [_table(followed, _FOLLOWED), _table(followed, _PAST)]
    parts += [_table(kept, _COPIES)] if kept else []
    parts += [_table(open_now, _UNFINISHED)] if open_now else []
    parts += [_table(problems, _PROBLEMS)] if problems else []
    work.console.result("\n".join(parts))
    return 0


def _unfinished_rows(
    work: UpdateWork, instances: tuple[Instance, ...], entries: tuple[Entry, ...]
) -> list[Row]:
    """Return updates without an end, and restarts that are owed."""
    rows: list[Row] = [
        {
            "project": one.project,
            "name": one.name,
            "to": one.fingerprint[:SHORT],
            "reason": "`lxdocker-lxd update recover` finishes it",
        }
        for one in unfinished(instances, work.journal)
    ]
    rows += [
        {
            "project": one.dependency.project,
            "name": one.dependant,
            "to": None,
            "reason": f"it is to be restarted after {one.dependency.name}",
        }
        for one in owed_restarts(entries)
    ]
    return rows


def _problem_rows(work: UpdateWork) -> list[Row]:
    """Return what the last whole round of the service found wrong."""
    return [
        {
            "problem": one.problem.text,
            "project": one.problem.project,
            "name": one.problem.name,
            "since": one.since.isoformat(timespec="seconds"),
        }
        for one in KnownProblems(Path(work.options.state)).read()
    ]


def _health(work: UpdateWork, instance: Instance) -> str:
    return health_now(work.lxd, instance) if instance.running else ""


def _table(rows: Iterable[Row], columns: tuple[str, ...]) -> str:
    return table(columns, [[str(row.get(column) or "") for column in columns] for row in rows])


def followed_row(
    instance: Instance,
    decision: Decision,
    standings: Standings,
    health: str,
    last: Entry | None,
    moment: datetime,
) -> Row:
    """Return a followed instance as a row; None is what isn't known or doesn't apply."""
    standing = standings.of(instance)
    images = {one.fingerprint: one for one in standings.images(instance.project)}
    policy = policy_of(instance.expanded_config)
    rejected = len(series_of(rejections_of(instance.config)))
    return {
        "project": instance.project,
        "name": instance.name,
        "status": instance.status.lower(),
        "health": health or None,
        "version": _version(instance.base_image, images, instance.config.get("image.serial", "")),
        "newest": _version(standing.newest.fingerprint, images) if standing.newest else None,
        "update": str(standing.state) or None,
        "choice": decision.choice,
        "reason": decision.reason,
        "cause": decision.cause,
        "changes": list(decision.changes),
        "release_notes": decision.release_notes or None,
        "last": last.result if last else None,
        "at": last.at.isoformat(timespec="seconds") if last else None,
        "last_reason": (last.explanation or None) if last else None,
        "rejected": f"{rejected} of {BREAKER}",
        "breaker": "open" if rejected >= BREAKER else "closed",
        "window": _window(policy.windows, moment),
    }


def liveness_row(known: Liveness) -> Row:
    """Return what the service knows of an instance's health beside how it is now."""
    return {
        "unhealthy_since": known.since.isoformat(timespec="seconds")
        if known.since is not None and known.health is Health.UNHEALTHY
        else None,
        "health_restarts": len(known.restarts),
    }


def _version(fingerprint: str, images: Mapping[str, Image], serial: str = "") -> str:
    """Return a version by its serial, where it has one, and the image's fingerprint."""
    if not serial and fingerprint in images:
        serial = images[fingerprint].properties.get("serial", "")
    return " ".join(filter(None, (serial, fingerprint[:SHORT])))


def _window(windows: tuple[Window, ...], moment: datetime) -> str:
    if not windows:
        return "always"
    if is_open(windows, moment):
        return "open"
    opening = next_opening(windows, moment)
    return opening.isoformat(timespec="minutes") if opening else "never"


def last_ends(entries: Iterable[Entry]) -> dict[tuple[str, str], Entry]:
    """Return how the latest update of each instance ended, by project and name."""
    return {
        (entry.transaction.project, entry.transaction.name): entry
        for entry in entries
        if entry.event is Event.ENDED
    }
