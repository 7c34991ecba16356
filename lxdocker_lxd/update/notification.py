"""What happened, as messages for people: one for each outcome, decision or problem that matters. Pure.

A message is made from named facts only, never from an instance's configuration; what LXD, programs
and servers said is redacted.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from lxdocker_lxd.update.journal_record import Entry, Event
from lxdocker_lxd.update.means import Outcome
from lxdocker_lxd.update.plan import Choice, Decision
from lxdocker_lxd.update.problem import Problem
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.redaction import cleaned

REMIND_AFTER = timedelta(days=1)
_SHORT = 12
_NUMBER = re.compile(r"\d+")


class Severity(StrEnum):
    """How much a message matters, least first."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @property
    def rank(self) -> int:
        """0 for the least."""
        return (Severity.INFO, Severity.WARNING, Severity.ERROR).index(self)


class Topic(StrEnum):
    """What a message is about."""

    UPDATED = "updated"
    ROLLED_BACK = "rolled_back"
    GIVEN_UP = "given_up"
    USER_TOOK_OVER = "user_took_over"
    HELD = "held"
    AVAILABLE = "available"
    REFUSED = "refused"
    RESTARTED = "restarted"
    PROBLEM = "problem"
    TEST = "test"


_OF_ACT: Mapping[Act, tuple[Topic, Severity, str]] = {
    Act.COMMITTED: (Topic.UPDATED, Severity.INFO, "updated"),
    Act.ROLLED_BACK: (Topic.ROLLED_BACK, Severity.ERROR, "rolled back"),
    Act.GIVEN_UP: (Topic.GIVEN_UP, Severity.WARNING, "not updated"),
    Act.USER_TOOK_OVER: (Topic.USER_TOOK_OVER, Severity.WARNING, "left to its user"),
    Act.HOLD: (Topic.HELD, Severity.ERROR, "needs somebody's eyes"),
}
# What a round says again each time, as long as it is so; told once, then as a reminder.
_LASTING = frozenset({Topic.HELD, Topic.GIVEN_UP, Topic.AVAILABLE, Topic.REFUSED, Topic.PROBLEM})


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One thing that happened; ``id`` is the same however often it is told of.

    ``running`` and ``fingerprint`` are the versions it was and was to become, ``changes`` and
    ``release_notes`` what their images say of them. ``title`` is a line.
    """

    id: str
    at: datetime
    topic: Topic
    severity: Severity
    host: str
    title: str
    project: str = ""
    name: str = ""
    running: str = ""
    fingerprint: str = ""
    reason: str = ""
    transaction: str = ""
    outage_seconds: float | None = None
    evidence: tuple[str, ...] = ()
    changes: str = ""
    release_notes: str = ""

    @property
    def text(self) -> str:
        """All of it in a few lines, for people."""
        facts = [
            self.title,
            f"reason: {self.reason}" if self.reason else "",
            f"from: {self.running[:_SHORT]}" if self.running else "",
            f"to: {self.fingerprint[:_SHORT]}" if self.fingerprint else "",
            f"changes: {self.changes}" if self.changes else "",
            f"release notes: {self.release_notes}" if self.release_notes else "",
            f"outage: {self.outage_seconds:.1f} s" if self.outage_seconds is not None else "",
            "the last it said:" if self.evidence else "",
            *(f"  {line}" for line in self.evidence),
        ]
        return "\n".join(fact for fact in facts if fact)

    @property
    def lasting(self) -> bool:
        """Whether rounds find the same again until somebody does something about it."""
        return self.topic in _LASTING

    @property
    def subject(self) -> str:
        """Equal for messages that say the same at different times, with other numbers perhaps."""
        said = _NUMBER.sub("#", self.reason)
        facts = (self.topic, self.project, self.name, self.fingerprint, said)
        return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:16]


def of_outcome(outcome: Outcome, *, host: str, at: datetime, running: str = "") -> Message:
    """Return the message of how an update ended."""
    topic, severity, words = _OF_ACT[outcome.act]
    transaction = outcome.transaction
    if outcome.act is Act.ROLLED_BACK and not outcome.blame:
        # By request, or for a reason that isn't the version's.
        severity = Severity.WARNING
    if outcome.killed and severity is Severity.INFO:
        severity = Severity.WARNING
    seconds = outcome.outage_seconds
    return _message(
        id=_outcome_id(transaction.id, topic, at),
        at=at,
        topic=topic,
        severity=severity,
        host=host,
        title=f"{transaction.name}: {words}",
        project=transaction.project,
        name=transaction.name,
        running=running,
        fingerprint=transaction.fingerprint,
        reason=outcome.explanation,
        transaction=transaction.id,
        outage_seconds=None if seconds is None else round(seconds, 3),
        evidence=outcome.evidence,
    )


def _outcome_id(transaction: str, topic: Topic, at: datetime) -> str:
    """Return an id that is the same whenever an end is told, or once a day while none is near."""
    day = f"-{at.astimezone(UTC):%Y%m%d}" if topic is Topic.HELD else ""
    return f"{transaction}-{topic}{day}"


def of_entry(entry: Entry, *, host: str) -> Message | None:
    """Return the message of an end in the journal, equal to the one of its outcome, or None."""
    if entry.event is not Event.ENDED or entry.result not in set(Act):
        return None
    act = Act(entry.result)
    if act not in _OF_ACT:
        return None
    outcome = Outcome(
        transaction=entry.transaction,
        act=act,
        reason=entry.reason,
        blame=entry.blame,
        outage_seconds=entry.outage_seconds,
        evidence=entry.evidence,
        killed=entry.killed,
    )
    return of_outcome(outcome, host=host, at=entry.at)


def of_decision(decision: Decision, *, host: str, at: datetime) -> Message | None:
    """Return the message of a decision that somebody should hear of, or None."""
    if decision.choice is Choice.NOTIFY:
        topic, severity, words = Topic.AVAILABLE, Severity.INFO, "a new version is there"
    elif decision.choice is Choice.REFUSE:
        topic, severity, words = Topic.REFUSED, Severity.WARNING, "can't be updated"
    else:
        return None
    return _dated(
        at=at,
        topic=topic,
        severity=severity,
        host=host,
        title=f"{decision.name}: {words}",
        project=decision.project,
        name=decision.name,
        running=decision.running,
        fingerprint=decision.fingerprint,
        reason=decision.reason,
        changes="; ".join(decision.changes),
        release_notes=decision.release_notes,
    )


def of_problem(problem: Problem, *, host: str, at: datetime) -> Message:
    """Return the message of something that went wrong beside updates."""
    whose = f"{problem.name}: " if problem.name else ""
    return _dated(
        at=at,
        topic=Topic.PROBLEM,
        severity=Severity.ERROR,
        host=host,
        title=f"{whose}the updater on {host} has a problem",
        project=problem.project,
        name=problem.name,
        reason=problem.text,
    )


def of_restart(name: str, *, host: str, at: datetime) -> Message:
    """Return the message of a dependant that was restarted."""
    return _dated(
        at=at,
        topic=Topic.RESTARTED,
        severity=Severity.INFO,
        host=host,
        title=f"{name}: restarted after what it depends on",
        name=name,
        exactly=True,
    )


def of_test(*, host: str, at: datetime) -> Message:
    """Return a message that only proves that messages arrive."""
    return _dated(
        at=at,
        topic=Topic.TEST,
        severity=Severity.INFO,
        host=host,
        title=f"a test of the updater on {host}",
        exactly=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What a round found and did, as far as it is told."""

    at: datetime
    host: str
    outcomes: tuple[Outcome, ...] = ()
    decisions: tuple[Decision, ...] = ()
    restarted: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


def of_round(found: Round) -> tuple[Message, ...]:
    """Return a round's messages in the order in which things happened, each once."""
    host, at = found.host, found.at
    decided_of = {decision.key: decision for decision in found.decisions}
    messages: list[Message] = []
    for outcome in found.outcomes:
        decision = decided_of.get((outcome.transaction.project, outcome.transaction.name))
        messages.append(_outcome_message(outcome, decision, host=host, at=at))
    decided = (of_decision(decision, host=host, at=at) for decision in found.decisions)
    messages += [message for message in decided if message is not None]
    messages += [of_restart(name, host=host, at=at) for name in found.restarted]
    messages += [of_problem(problem, host=host, at=at) for problem in found.problems]
    return tuple({message.id: message for message in messages}.values())


def _outcome_message(
    outcome: Outcome, decision: Decision | None, *, host: str, at: datetime
) -> Message:
    """Return the message of an end, with what the decision before knew of the versions."""
    if decision is None:
        return of_outcome(outcome, host=host, at=at)
    message = of_outcome(outcome, host=host, at=at, running=decision.running)
    if decision.fingerprint != outcome.transaction.fingerprint:
        return message
    return replace(
        message, changes=cleaned("; ".join(decision.changes)), release_notes=decision.release_notes
    )


def news(
    messages: Iterable[Message], told: Mapping[str, datetime], now: datetime
) -> tuple[Message, ...]:
    """Return what isn't known yet: lasting conditions only when first met, and once a day after.

    ``told`` holds when each subject was told last; a time in the future is of a wrong clock.
    """
    return tuple(
        message
        for message in messages
        if not message.lasting
        or (last := told.get(message.subject)) is None
        or not now - REMIND_AFTER < last <= now
    )


def document_of(message: Message) -> dict[str, object]:
    """Return the message's fields and texts as JSON values; ``message_of`` is the inverse."""
    document: dict[str, object] = asdict(message)
    return document | {
        "at": message.at.astimezone(UTC).isoformat(),
        "topic": str(message.topic),
        "severity": str(message.severity),
        "evidence": list(message.evidence),
        "text": message.text,
    }


def message_of(document: Mapping[str, object]) -> Message:
    """Return the message a document holds; raise ValueError for anything else."""
    seconds = document.get("outage_seconds")
    texts = {
        field: document.get(field)
        for field in (
            *("id", "host", "title", "project", "name"),
            *("running", "fingerprint", "reason", "transaction"),
        )
    }
    # Messages of an older version that still wait have neither.
    texts |= {field: document.get(field, "") for field in ("changes", "release_notes")}
    if not all(isinstance(value, str) for value in texts.values()):
        raise ValueError("a field of the message is missing")
    if seconds is not None and not isinstance(seconds, int | float):
        raise ValueError("outage_seconds is no number")
    # Messages of an older version that still wait have none.
    evidence = document.get("evidence", [])
    if not isinstance(evidence, list | tuple) or not all(isinstance(one, str) for one in evidence):
        raise ValueError("evidence is no list of texts")
    at = datetime.fromisoformat(str(document.get("at")))
    return Message(
        **texts,  # type: ignore[arg-type]  # all of them were found to be texts
        at=at if at.tzinfo is not None else at.replace(tzinfo=UTC),
        topic=Topic(str(document.get("topic"))),
        severity=Severity(str(document.get("severity"))),
        outage_seconds=seconds,
        evidence=tuple(evidence),
    )


def json_of(message: Message) -> str:
    """Return the message as one JSON document, the body of those who have no template."""
    return json.dumps(document_of(message), ensure_ascii=True, sort_keys=True)


def _message(**fields: object) -> Message:
    shown = {
        key: cleaned(value)
        if isinstance(value, str) and key in ("title", "reason", "changes")
        else value
        for key, value in fields.items()
    }
    return Message(**shown)  # type: ignore[arg-type]  # the callers above name the fields


def _dated(*, at: datetime, exactly: bool = False, **fields: object) -> Message:
    """Return a message whose id is new each day, or each second."""
    message = _message(id="", at=at, **fields)
    moment = at.astimezone(UTC).strftime("%Y%m%dT%H%M%S" if exactly else "%Y%m%d")
    return _message(**(asdict(message) | {"id": f"{message.subject}-{moment}"}))
