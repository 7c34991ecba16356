"""One attempt at a transaction: what it knows besides LXD and the journal."""

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypedDict, Unpack

from lxdocker_lxd.errors import StorageError
from lxdocker_lxd.lxd.ports import EventStream
from lxdocker_lxd.lxd.records import Instance
from lxdocker_lxd.update.journal import Journal
from lxdocker_lxd.update.journal_record import Account, Entry, Event
from lxdocker_lxd.update.means import Gate
from lxdocker_lxd.update.procedure import Step
from lxdocker_lxd.update.transaction import Transaction, VolumeName
from lxdocker_lxd.update.view import Party, View


class Noted(TypedDict, total=False):
    """What an entry of the journal may say beside its event."""

    result: str
    reason: str
    blame: bool
    previous: str
    outage_seconds: float | None
    evidence: tuple[str, ...]
    killed: str
    put_off: bool
    interrupted: bool


@dataclass(slots=True, kw_only=True)
class Attempt:
    """From the first look to the end, in one process. ``View`` tells what the flags mean.

    ``interrupted``: its updater died, or was to end. ``agreed``: the hooks were asked; ``ask_early``:
    they are to be asked before the stage, too. ``put_off``: they want it later. ``files_read``: files of
    one of the two were read while it was stopped, and it wasn't started since. ``stop_unsure``: nobody
    knows what became of a request to stop. ``failed``: it is given up for something that went wrong. ``confirmed`` is a last
    word that was seen once, ``failures`` how many calls failed in a row.
    ``outage``: this update's outage has begun; what goes wrong with the journal are ``problems`` then.
    ``patient``: LXD is waited for, because dependants were stopped at least. ``steps`` were tried.
    ``waited_seconds`` how long a passing state was waited for. ``check`` names the check that was passed,
    ``evidence`` are the last lines of a version that failed,
    ``volumes`` are to be snapshotted, ``restore_volumes`` that a return undoes what was written since.
    ``killed`` tells of an instance that didn't stop in its time.
    ``events`` are LXD's since before its last start, until ``listening`` is closed.
    ``start_owed``: the updater had stopped the old version for another reason and owes its start.
    """

    transaction: Transaction
    fresh: bool = False
    interrupted: bool = False
    give_up: bool = False
    back: bool = False
    committed: bool = False
    became: bool = False
    remapped: bool = False
    cold: bool = False
    passed: bool = False
    restored: bool = False
    started: bool = False
    blame: bool = False
    stop_asked: bool = True
    stop_unsure: bool = False
    ask_early: bool = False
    agreed: bool = False
    files_read: bool = False
    put_off: bool = False
    stays_stopped: bool = False
    confirmed: Step | None = None
    reason: str = ""
    failed: bool = False
    failures: int = 0
    waited_seconds: float = 0.0
    volumes: tuple[VolumeName, ...] = ()
    restore_volumes: bool = False
    holder_crashed: bool = False
    start_owed: bool = False
    asked_back: bool = False
    check: str = ""
    evidence: tuple[str, ...] = ()
    unreadable: str = ""
    killed: str = ""
    outage: bool = False
    patient: bool = False
    steps: int = 0
    problems: list[str] = field(default_factory=list)
    outage_began: datetime | None = None
    outage_ended: datetime | None = None
    events: EventStream | None = None
    listening: ExitStack = field(default_factory=ExitStack)

    def view(self, old: Party | None, new: Party | None, holder: Instance | None) -> View:
        """Return what was seen, with what is known."""
        return View(
            transaction=self.transaction,
            old=old,
            new=new,
            holder=holder,
            fresh=self.fresh,
            give_up=self.give_up,
            back=self.back,
            committed=self.committed,
            became=self.became,
            remapped=self.remapped,
            cold=self.cold,
            passed=self.passed,
            restored=self.restored,
            started=self.started,
            stop_asked=self.stop_asked,
            holder_crashed=self.holder_crashed,
            start_owed=self.start_owed,
            asked_back=self.asked_back,
            unreadable=self.unreadable,
            stays_stopped=self.stays_stopped,
        )

    def listen(self, gate: Gate) -> None:
        """Listen to LXD's events before a start, so that what is done right after it is heard of."""
        self.listening.close()
        self.events = self.listening.enter_context(gate.listen())

    def write(self, journal: Journal, event: Event, at: datetime, **fields: Unpack[Noted]) -> None:
        """Write into the journal.

        What can't be written is raised before the outage; from then on it is one of the problems.
        """
        try:
            journal.append(Entry(at=at, event=event, transaction=self.transaction, **fields))
        except StorageError as error:
            if not (self.outage or self.back):
                raise
            self.problems.append(error.message)

    @property
    def outage_seconds(self) -> float | None:
        """How long the name had no running instance; None when that isn't known.

        An end before the beginning is of a clock that was set back meanwhile.
        """
        if self.outage_began is None or self.outage_ended is None:
            return None
        seconds = (self.outage_ended - self.outage_began).total_seconds()
        return seconds if seconds >= 0 else None


def resumed(
    transaction: Transaction, account: Account | None, *, start_owed: bool = False
) -> Attempt:
    """Return an attempt that finishes what others began, as the journal knows it."""
    if account is None:
        return Attempt(transaction=transaction, interrupted=True, start_owed=start_owed)
    return Attempt(
        transaction=replace(transaction, fingerprint=account.transaction.fingerprint),
        interrupted=not account.held,
        back=account.back,
        committed=account.committed,
        became=account.became,
        outage=account.outage,
        blame=account.blame,
        reason=account.reason or "interrupted",
        evidence=account.evidence,
        start_owed=start_owed,
    )
