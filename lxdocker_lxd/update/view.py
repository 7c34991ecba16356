"""What is seen of a transaction: its two instances as they are, and what was written down."""

from dataclasses import dataclass, replace

from lxdocker_lxd.lxd.records import Instance
from lxdocker_lxd.update.configuration import is_parked
from lxdocker_lxd.update.remapping import needs_remapping
from lxdocker_lxd.update.transaction import (
    Phase,
    Role,
    Saved,
    Stamp,
    Transaction,
    readable_stamp,
)
from lxdocker_lxd.update.user_change import absorbed, merged, return_target


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """One of a transaction's two instances as it was just read."""

    instance: Instance
    stamp: Stamp
    transaction: Transaction

    @property
    def named(self) -> bool:
        """Whether it has the name the update is about."""
        return self.instance.name == self.transaction.name

    @property
    def waiting(self) -> bool:
        """Whether it has the name under which its role waits."""
        return self.instance.name == self.transaction.parked(self.stamp.role)

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self.instance.running

    @property
    def stopped(self) -> bool:
        """Whether it is stopped; neither means a state that passes, or needs somebody."""
        return self.instance.status == "Stopped"

    @property
    def parked(self) -> bool:
        """Whether it holds nothing but its root disk."""
        return is_parked(self.instance)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All that decides: the parties, who has the name, and what was written down.

    ``fresh`` is true in the run that began the transaction; any other run gives up what caused no
    outage yet. ``back`` and ``committed`` are decisions of the journal, ``became`` says that the
    successor once had the name, ``remapped`` that this run had its files remapped, ``cold`` that this run
    leaves that to the real start, ``passed`` that its gate was passed in this run, ``holder_crashed`` that the old version was found
    to have ended by itself, ``start_owed`` that the updater had stopped it and owes its start, ``restored`` and
    ``started`` that this run restored and started it. ``stop_asked`` is false in a run that knows
    that a stopped instance wasn't stopped by the updater, ``stays_stopped`` is true in one that knows
    that a user stopped the new version. ``asked_back`` says that a user wants the old version again.
    ``unreadable`` names an instance of the transaction whose stamp this version can't read.
    """

    transaction: Transaction
    old: Party | None
    new: Party | None
    holder: Instance | None
    fresh: bool = False
    give_up: bool = False
    back: bool = False
    committed: bool = False
    became: bool = False
    remapped: bool = False
    cold: bool = False
    passed: bool = False
    restored: bool = False
    started: bool = False
    stop_asked: bool = True
    holder_crashed: bool = False
    start_owed: bool = False
    stays_stopped: bool = False
    asked_back: bool = False
    unreadable: str = ""

    @property
    def remaps(self) -> bool:
        """Whether the successor's files are to be remapped before the outage: if there will be one."""
        if self.new is None or self.holder is None or self.cold:
            return False
        return self.wanted_running and needs_remapping(self.new.instance)

    @property
    def wanted_running(self) -> bool:
        """Whether the name is to run in the end: it runs, it crashed, or its start is owed."""
        if self.holder is None:
            return False
        return self.holder.running or self.holder_crashed or self.start_owed

    @property
    def is_up_to_date(self) -> bool:
        """Whether the name already has the version that the update is to bring."""
        return self.holder is not None and self.holder.base_image == self.transaction.fingerprint

    @property
    def saved(self) -> Saved | None:
        """What the name stands for: what was saved, with a user's changes to either party since."""
        old, new = self.old, self.new
        saved = None
        if old is not None and old.stamp.saved is not None:
            saved = absorbed(old.instance, old.stamp.saved)
        if new is None or new.stamp.saved is None:
            return saved
        if saved is None:
            return absorbed(new.instance, new.stamp.saved)
        return merged(saved, new.stamp.saved, absorbed(new.instance, new.stamp.saved))

    @property
    def target_of_return(self) -> Saved | None:
        """What the old instance is to be when the update goes back."""
        old, new = self.old, self.new
        if old is None or old.stamp.saved is None:
            return None
        stood = new is not None and new.stamp.phase in {Phase.RESTORED, Phase.COMMITTED}
        if new is None or not (new.named or (stood and new.parked)):
            saved = absorbed(old.instance, old.stamp.saved)
            stays = self.stopped_by_somebody or (old.stamp.crashed and not self.turned)
            return replace(saved, running=False) if stays else saved
        committed = new.stamp.phase is Phase.COMMITTED
        saved = old.stamp.saved
        if old.stamp.phase is not Phase.ROLLBACK:
            saved = absorbed(old.instance, saved)
        target = return_target(new.instance, saved, restored=stood)
        # An old version that had ended by itself isn't started again: it would end again.
        if self.stays_stopped or (old.stamp.crashed and not self.turned):
            target = replace(target, running=False)
        return replace(target, running=new.running) if committed and not self.turned else target

    @property
    def stopped_by_somebody(self) -> bool:
        """Whether the old instance was stopped before the updater did it, and had not crashed."""
        old = self.old
        if old is None or old.stamp.crashed:
            return False
        return old.named and old.stopped and not self.stop_asked

    @property
    def turned(self) -> bool:
        """Whether the old instance's stamp already says that the update goes back."""
        return self.old is not None and self.old.stamp.phase is Phase.ROLLBACK

    @property
    def stranger(self) -> bool:
        """Whether the name belongs to an instance that is no party."""
        parties = [party.instance.name for party in (self.old, self.new) if party is not None]
        return self.holder is not None and self.holder.name not in parties


def party_of(instance: Instance, transaction: Transaction, role: Role) -> Party | None:
    """Return the instance as a party, if its stamp says that it is this one."""
    stamp = readable_stamp(instance)
    if stamp is None or (stamp.transaction, stamp.role) != (transaction.id, role):
        return None
    return Party(instance=instance, stamp=stamp, transaction=transaction)
