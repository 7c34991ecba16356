"""What interrupted updates left, and what finished ones keep: found, finished, removed.

Both start from LXD's own list and the journal, and each alone is enough to find what is open.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Instance
from lxdocker_lxd.update.journal import Journal
from lxdocker_lxd.update.journal_record import accounts, still_open
from lxdocker_lxd.update.means import Outcome
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.transaction import (
    Phase,
    Role,
    Stamp,
    Transaction,
    is_ours,
    parked_name,
    stamp_of,
    transaction_of,
)
from lxdocker_lxd.update.updater import Updater

_AT_REST = frozenset({Phase.COMMITTED, Phase.KEPT, Phase.REJECTED, Phase.RETIRED})


def unfinished(instances: Iterable[Instance], journal: Journal) -> tuple[Transaction, ...]:
    """Return the transactions that didn't come to their end, by the journal or by stamps."""
    known = accounts(journal.read())
    found = {account.transaction.id: account.transaction for account in still_open(known.values())}
    for instance in instances:
        stamp = stamp_of(instance)
        if stamp is None or stamp.phase in _AT_REST:
            continue
        account = known.get(stamp.transaction)
        # What somebody's action has left to them stays as it is.
        if account and account.ended and account.ended.result == Act.USER_TOOK_OVER:
            continue
        # A copy made by a user has a stamp too; one that a user renamed as well.
        moved = stamp.role is Role.OLD and stamp.transaction not in known
        if is_ours(instance) or moved:
            found.setdefault(stamp.transaction, transaction_of(instance, stamp))
    return tuple(found.values())


def recover(lxd: Lxd, updater: Updater, journal: Journal) -> tuple[Outcome, ...]:
    """Finish everything unfinished, one after the other."""
    return tuple(
        updater.resume(transaction)
        for transaction in unfinished(lxd.instances.list(project=None), journal)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """What an update left beside an instance, to go back to or because a version failed.

    ``needed`` says why it can't be removed whatever its time; ``until`` when it will be, None when a
    round would do it now.
    """

    instance: Instance
    stamp: Stamp
    needed: str
    until: datetime | None

    @property
    def removable(self) -> bool:
        """Whether a round would remove it."""
        return not self.needed and self.until is None


def copies(instances: Iterable[Instance], now: datetime) -> tuple[Copy, ...]:
    """Return the copies that updates left, each where its stamp says.

    A copy is needed until its time is over, or until a later update of the name was good; as long
    as its name's instance is missing or in the middle of an update; and when it runs or is
    protected.
    """
    everything = tuple(instances)
    by_name = {(instance.project, instance.name): instance for instance in everything}
    found = []
    for instance in everything:
        stamp = stamp_of(instance)
        if stamp is None or stamp.phase not in {Phase.KEPT, Phase.REJECTED, Phase.RETIRED}:
            continue
        if instance.name != parked_name(stamp.name, stamp.role, stamp.transaction):
            continue
        holder = by_name.get((instance.project, stamp.name))
        over = holder is not None and _is_over(stamp, holder, now)
        copy = Copy(
            instance=instance,
            stamp=stamp,
            needed=_needed(instance, holder, stamp),
            until=None if over else stamp.until,
        )
        found.append(copy)
    return tuple(found)


def _needed(instance: Instance, holder: Instance | None, stamp: Stamp) -> str:
    if holder is None:
        return f"there is no {stamp.name} but this copy"
    held = stamp_of(holder)
    if held is not None and held.phase is not Phase.COMMITTED:
        return f"an update of {stamp.name} isn't finished"
    if instance.status != "Stopped":
        return f"it is {instance.status.lower()}"
    if instance.expanded_config.get("security.protection.delete") == "true":
        return "security.protection.delete is set"
    return ""


def removable(instances: Iterable[Instance], now: datetime) -> tuple[Instance, ...]:
    """Return the copies that nobody needs any more."""
    return tuple(copy.instance for copy in copies(instances, now) if copy.removable)


def _is_over(stamp: Stamp, holder: Instance, now: datetime) -> bool:
    if stamp.phase is Phase.REJECTED:
        return True
    held = stamp_of(holder)
    superseded = (
        stamp.phase is Phase.KEPT and held is not None and held.transaction != stamp.transaction
    )
    return superseded or stamp.until is None or now >= stamp.until


def reap(
    lxd: Lxd, now: datetime, names: frozenset[tuple[str, str]] = frozenset()
) -> tuple[str, ...]:
    """Remove copies that nobody needs; those with snapshots stay. Return the removed names.

    With ``names`` (project and name) only copies of these, before their time is over as well.
    """
    removed = []
    for copy in copies(lxd.instances.list(project=None), now):
        instance = copy.instance
        named = (instance.project, copy.stamp.name) in names
        if not (named and not copy.needed if names else copy.removable):
            continue
        if lxd.instances.snapshots(instance.name, project=instance.project):
            continue
        lxd.instances.delete(instance.name, project=instance.project)
        removed.append(instance.name)
    return tuple(removed)


def parked_copy(instances: Iterable[Instance], name: str, project: str) -> Transaction | None:
    """Return the committed transaction whose parked copy of ``name`` is still there."""
    here = [instance for instance in instances if instance.project == project]
    stamps = [stamp_of(instance) for instance in here if instance.name == name]
    current = stamps[0].transaction if stamps and stamps[0] is not None else ""
    for instance in here:
        stamp = stamp_of(instance)
        if stamp is None or (stamp.name, stamp.transaction) != (name, current):
            continue
        if stamp.phase is Phase.KEPT and is_ours(instance) and instance.name != name:
            return transaction_of(instance, stamp)
    return None
