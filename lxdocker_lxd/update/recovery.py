"""What interrupted updates left, and what finished ones keep: found, finished, removed.

Both start from LXD's own list and the journal, and each alone is enough to find what is open.
"""

from collections.abc import Iterable
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


def removable(instances: Iterable[Instance], now: datetime) -> tuple[Instance, ...]:
    """Return the copies that nobody needs any more.

    A copy is needed until its time is over, or until a later update of the name was good; as long
    as its name's instance is missing or in the middle of an update; and when it runs, is
    protected, or isn't where its stamp says.
    """
    everything = tuple(instances)
    by_name = {(instance.project, instance.name): instance for instance in everything}
    found = []
    for instance in everything:
        stamp = stamp_of(instance)
        if stamp is None or not _is_leftover(instance, stamp):
            continue
        holder = by_name.get((instance.project, stamp.name))
        if holder is not None and _is_settled(holder) and _is_over(stamp, holder, now):
            found.append(instance)
    return tuple(found)


def _is_leftover(instance: Instance, stamp: Stamp) -> bool:
    return (
        stamp.phase in {Phase.KEPT, Phase.REJECTED, Phase.RETIRED}
        and instance.name == parked_name(stamp.name, stamp.role, stamp.transaction)
        and instance.status == "Stopped"
        and instance.expanded_config.get("security.protection.delete") != "true"
    )


def _is_settled(holder: Instance) -> bool:
    stamp = stamp_of(holder)
    return stamp is None or stamp.phase is Phase.COMMITTED


def _is_over(stamp: Stamp, holder: Instance, now: datetime) -> bool:
    if stamp.phase is Phase.REJECTED:
        return True
    held = stamp_of(holder)
    superseded = (
        stamp.phase is Phase.KEPT and held is not None and held.transaction != stamp.transaction
    )
    return superseded or stamp.until is None or now >= stamp.until


def reap(lxd: Lxd, now: datetime) -> tuple[str, ...]:
    """Remove copies that nobody needs; those with snapshots stay. Return the removed names."""
    removed = []
    for instance in removable(lxd.instances.list(project=None), now):
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
