"""The journal's lines and what they add up to: which updates are open, and what became of others.

One JSON object a line. A reader skips what it doesn't understand, a torn last line above all, for
a crash may cut the file anywhere. No configuration of an instance is ever written here, for some of
it is secret; the stamps in LXD hold it.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from lxdocker_lxd.update.transaction import Transaction

FORMAT = 1
_THIS_FORMAT = b'{"format":%d,' % FORMAT
MOST_LINE_BYTES = 16 << 10


class Event(StrEnum):
    """What happened to a transaction, or was decided about it."""

    BEGUN = "begun"
    OUTAGE = "outage"
    BECAME = "became"
    COMMITTED = "committed"
    BACK = "back"
    ENDED = "ended"
    # It goes on when what stands in its way is gone; its updater has not died.
    HELD = "held"
    # Of an instance that depends on the transaction's: it is to be restarted, it is about to be
    # stopped for that, and nothing is owed to it any more.
    RESTART_OWED = "restart owed"
    RESTARTING = "restarting"
    RESTARTED = "restarted"


_OF_DEPENDANTS = frozenset({Event.RESTART_OWED, Event.RESTARTING, Event.RESTARTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line. ``result``, ``outage_seconds`` and ``killed`` are set when a transaction ended.

    ``blame`` says that the new version was at fault, so that it isn't tried again. ``evidence`` are the
    last lines of a version that failed, without secrets. ``dependant`` is the instance, of the same
    project, that an event of dependants is about. ``put_off`` says that hooks wanted the update later.
    ``interrupted`` marks the end of an update that was given up because its updater died, or was
    to end, before the outage; that says nothing of the version.
    """

    at: datetime
    event: Event
    transaction: Transaction
    result: str = ""
    reason: str = ""
    blame: bool = False
    previous: str = ""
    outage_seconds: float | None = None
    evidence: tuple[str, ...] = ()
    killed: str = ""
    dependant: str = ""
    put_off: bool = False
    interrupted: bool = False

    @property
    def explanation(self) -> str:
        """Why it ended so, and which instance was killed because it didn't stop."""
        return "; ".join(text for text in (self.reason, self.killed) if text)


def line_of(entry: Entry) -> bytes:
    """Return the entry as one line with its end, at most ``MOST_LINE_BYTES`` long.

    Of a reason the beginning is kept, of evidence the last lines.
    """
    line = _line_of(entry)
    evidence = entry.evidence
    while len(line) > MOST_LINE_BYTES and evidence:
        evidence = evidence[-(len(evidence) // 2) :] if len(evidence) > 1 else ()
        line = _line_of(replace(entry, evidence=evidence))
    if len(line) > MOST_LINE_BYTES:
        # A character takes up to twelve bytes.
        reason = entry.reason[: MOST_LINE_BYTES // 16]
        line = _line_of(replace(entry, evidence=(), reason=reason))
    return line


def _line_of(entry: Entry) -> bytes:
    document: dict[str, object] = {
        "format": FORMAT,
        "at": entry.at.astimezone(UTC).isoformat(),
        "event": entry.event,
        "transaction": entry.transaction.id,
        "project": entry.transaction.project,
        "name": entry.transaction.name,
        "fingerprint": entry.transaction.fingerprint,
    }
    optional = {
        "result": entry.result,
        "reason": entry.reason,
        "blame": entry.blame,
        "previous": entry.previous,
        "outage_seconds": entry.outage_seconds,
        "evidence": list(entry.evidence) or None,
        "killed": entry.killed,
        "dependant": entry.dependant,
        "put_off": entry.put_off,
        "interrupted": entry.interrupted,
    }
    document |= {key: value for key, value in optional.items() if value not in ("", False, None)}
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def entries(content: bytes) -> tuple[Entry, ...]:
    """Return the entries that can be read, in order; whatever else the file holds is skipped."""
    found = (_entry(line) for line in content.split(b"\n") if line)
    return tuple(entry for entry in found if entry is not None)


def newer_format(content: bytes) -> int:
    """Return the highest format of lines that a newer version wrote; 0 when there are none."""
    found = (_format(line) for line in content.split(b"\n") if line)
    return max((number for number in found if number > FORMAT), default=0)


def _format(line: bytes) -> int:
    if line.startswith(_THIS_FORMAT):
        return FORMAT
    try:
        number = json.loads(line).get("format", FORMAT)
    except (ValueError, AttributeError, RecursionError):
        return FORMAT
    return number if isinstance(number, int) else FORMAT


def _entry(line: bytes) -> Entry | None:
    try:
        document = json.loads(line)
        seconds = document.get("outage_seconds")
        evidence = document.get("evidence")
        at = datetime.fromisoformat(document["at"])
        return Entry(
            at=at if at.tzinfo is not None else at.replace(tzinfo=UTC),
            event=Event(document["event"]),
            transaction=Transaction(
                id=str(document["transaction"]),
                project=str(document["project"]),
                name=str(document["name"]),
                fingerprint=str(document["fingerprint"]),
            ),
            result=str(document.get("result", "")),
            reason=str(document.get("reason", "")),
            blame=document.get("blame") is True,
            previous=str(document.get("previous", "")),
            outage_seconds=float(seconds) if isinstance(seconds, int | float) else None,
            evidence=tuple(map(str, evidence)) if isinstance(evidence, list) else (),
            killed=str(document.get("killed", "")),
            dependant=str(document.get("dependant", "")),
            put_off=document.get("put_off") is True,
            interrupted=document.get("interrupted") is True,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What the journal knows of one transaction; ``ended`` is its last entry, if it has one."""

    transaction: Transaction
    began: datetime
    outage: bool = False
    became: bool = False
    committed: bool = False
    back: bool = False
    held: bool = False
    blame: bool = False
    reason: str = ""
    evidence: tuple[str, ...] = ()
    ended: Entry | None = None


def accounts(found: Iterable[Entry]) -> dict[str, Account]:
    """Return what is known of each transaction by its id, in the order of their beginnings."""
    known: dict[str, Account] = {}
    for entry in found:
        if entry.event in _OF_DEPENDANTS:
            continue
        account = known.get(entry.transaction.id) or Account(
            transaction=entry.transaction, began=entry.at
        )
        known[entry.transaction.id] = _with(account, entry)
    return known


def _with(account: Account, entry: Entry) -> Account:
    match entry.event:
        case Event.OUTAGE | Event.HELD:
            held = entry.event is Event.HELD
            return replace(account, held=account.held or held, outage=account.outage or not held)
        case Event.BECAME:
            return replace(account, became=True)
        case Event.COMMITTED:
            return replace(account, committed=True)
        case Event.BACK:
            # A committed update may be turned back by its user later: it is open again.
            return replace(
                account,
                back=True,
                committed=False,
                blame=entry.blame,
                reason=entry.reason,
                evidence=entry.evidence,
                ended=None,
            )
        case Event.ENDED:
            return replace(account, ended=entry)
        case _:
            return account


def still_open(known: Iterable[Account]) -> tuple[Account, ...]:
    """Return the transactions without an end."""
    return tuple(account for account in known if account.ended is None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """A restart that is owed to a dependant because its dependency was updated, or went back.

    ``stopping`` says that the updater has stopped it, or was about to, ``at`` since when that holds.
    An instance that is restarted for its health is its own dependency.
    """

    dependency: Transaction
    dependant: str
    at: datetime
    stopping: bool = False

    @property
    def is_of_itself(self) -> bool:
        """Whether the instance is restarted for a reason of its own."""
        return self.dependency.name == self.dependant

    @property
    def key(self) -> tuple[str, str]:
        """Project and name of the instance that is to be restarted."""
        return (self.dependency.project, self.dependant)


def owed_restarts(found: Iterable[Entry]) -> tuple[Restart, ...]:
    """Return the restarts that weren't done yet, in the order in which they came to be owed."""
    owed: dict[tuple[str, str], Restart] = {}
    for entry in found:
        if entry.event not in _OF_DEPENDANTS:
            continue
        key = (entry.transaction.id, entry.dependant)
        if entry.event is Event.RESTARTED:
            owed.pop(key, None)
            continue
        owed[key] = Restart(
            dependency=entry.transaction,
            dependant=entry.dependant,
            at=entry.at,
            stopping=entry.event is Event.RESTARTING,
        )
    return tuple(owed.values())


def owes_start(found: Iterable[Entry], project: str, name: str) -> bool:
    """Whether the updater has stopped an instance, or was about to, and has yet to start it again."""
    return any(one.stopping and one.key == (project, name) for one in owed_restarts(found))


def was_put_off(found: Iterable[Entry], transaction: Transaction) -> bool:
    """Whether the last attempt to bring this instance to this image ended because hooks said so."""
    same = (transaction.project, transaction.name, transaction.fingerprint)
    last = False
    for entry in found:
        one = entry.transaction
        if entry.event is Event.ENDED and (one.project, one.name, one.fingerprint) == same:
            last = entry.put_off
    return last


def compacted(found: tuple[Entry, ...], most: int) -> tuple[Entry, ...]:
    """Return the entries a rotation keeps: of open transactions and restarts, and ``most`` ends."""
    open_ids = {account.transaction.id for account in still_open(accounts(found).values())}
    owed = {(one.dependency.id, one.dependant) for one in owed_restarts(found)}
    ends = [entry for entry in found if entry.event is Event.ENDED]
    kept_ends = {id(entry) for entry in ends[-most:]}
    return tuple(
        entry
        for entry in found
        if id(entry) in kept_ends
        or (entry.transaction.id, entry.dependant) in owed
        or (entry.transaction.id in open_ids and not entry.dependant)
    )
