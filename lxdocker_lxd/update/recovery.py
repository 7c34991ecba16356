"""What interrupted updates left, and what finished ones keep: found, finished, removed.

Both start from LXD's own list and the journal, and each alone is enough to find what is open.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from lxdocker_lxd.errors import LxdError
from lxdocker_lxd.lxd.failures import NotRunningError, UnreachableError
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Instance
from lxdocker_lxd.update.copy_ages import CopyAges
from lxdocker_lxd.update.journal import Journal
from lxdocker_lxd.update.journal_record import accounts, still_open
from lxdocker_lxd.update.means import Outcome
from lxdocker_lxd.update.problem import Apart, together
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.removal import lost_with, remove_volume_snapshots
from lxdocker_lxd.update.retention import Copy, RetentionDefaults, copies_of, unproved_holders
from lxdocker_lxd.update.transaction import (
    Phase,
    Role,
    Stamp,
    Transaction,
    is_ours,
    stamp_of,
    transaction_of,
)
from lxdocker_lxd.update.updater import Updater
from lxdocker_lxd.update.uptime import prove_by_running

_AT_REST = frozenset({Phase.COMMITTED, Phase.KEPT, Phase.REJECTED, Phase.RETIRED})
# Copies are in the same order at any time.
_ANY_TIME = datetime(2026, 1, 1, tzinfo=UTC)


def unfinished(instances: Iterable[Instance], journal: Journal) -> tuple[Transaction, ...]:
    """Return the transactions that didn't come to their end, by the journal or by stamps."""
    known = accounts(journal.read())
    found = {account.transaction.id: account.transaction for account in still_open(known.values())}
    for instance in instances:
        stamp = stamp_of(instance)
        if not isinstance(stamp, Stamp):
            continue
        if _is_copy_under_its_name(instance, stamp):
            found.setdefault(stamp.transaction, transaction_of(instance, stamp))
            continue
        if stamp.phase in _AT_REST:
            continue
        account = known.get(stamp.transaction)
        # What a user's action has left to them stays as it is.
        if account and account.ended and account.ended.result == Act.USER_TOOK_OVER:
            continue
        # A copy made by a user has a stamp too; one that a user renamed as well.
        moved = stamp.role is Role.OLD and stamp.transaction not in known
        if is_ours(instance) or moved:
            found.setdefault(stamp.transaction, transaction_of(instance, stamp))
    return tuple(found.values())


def _is_copy_under_its_name(instance: Instance, stamp: Stamp) -> bool:
    """Whether a user gave a kept copy its name again, while its devices are still masked."""
    return stamp.phase is Phase.KEPT and instance.name == stamp.name


def recover(
    lxd: Lxd,
    updater: Updater,
    journal: Journal,
    *,
    apart: Apart = together,
    instances: tuple[Instance, ...] | None = None,
) -> tuple[Outcome, ...]:
    """Finish everything unfinished, one after the other; ``instances`` are those just listed.

    Begins with no more of them once the updater is interrupted.
    """
    listed = lxd.instances.list(project=None) if instances is None else instances
    ended = []
    for transaction in unfinished(listed, journal):
        if updater.interrupted:
            break
        with apart(transaction.project, transaction.name):
            ended.append(updater.resume(transaction))
    return tuple(ended)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaped:
    """Names of the copies that were removed, and what kept others: project, name, reason.

    ``snapshotted`` are copies whose time is over and which have snapshots.
    """

    removed: tuple[str, ...] = ()
    snapshotted: tuple[Copy, ...] = ()
    failed: tuple[tuple[str, str, str], ...] = ()


def reap(
    lxd: Lxd,
    now: datetime,
    names: frozenset[tuple[str, str]] = frozenset(),
    *,
    retention: RetentionDefaults | None = None,
    ages: CopyAges | None = None,
    apart: Apart = together,
    instances: tuple[Instance, ...] | None = None,
    unhealthy: Collection[tuple[str, str]] = (),
) -> Reaped:
    """Remove copies that aren't needed; those with snapshots or backups stay.

    ``ages`` counts the copies' time, and how long the instances run that copies wait for; without it the
    dates of their stamps count, and no instance is proved by running. An ``unhealthy`` one isn't
    either. With ``names`` (project
    and name) only copies of these, before their time is over as well. A copy that can't be removed is
    reported and keeps none of the others; LXD being away is raised. ``instances`` are those just listed.
    """
    removed: list[str] = []
    failed: list[tuple[str, str, str]] = []
    snapshotted: list[Copy] = []
    listed = lxd.instances.list(project=None) if instances is None else instances
    counted, ran = None, frozenset[tuple[str, str]]()
    if ages is not None:
        waited_for = unproved_holders(listed)
        ran = prove_by_running(lxd, ages.uptimes, now, waited_for, unhealthy=unhealthy, apart=apart)
        left = copies_of(listed, now, retention)
        counted = ages.advance([copy.stamp.transaction for copy in left], now)
    for copy in copies_of(listed, now, retention, counted, ran):
        instance = copy.instance
        named = (instance.project, copy.stamp.name) in names
        if not (named and not copy.needed if names else copy.removable):
            continue
        try:
            with apart(instance.project, instance.name):
                if remove_copy(lxd, instance, copy.stamp):
                    removed.append(instance.name)
                else:
                    snapshotted.append(copy)
        except (NotRunningError, UnreachableError):
            raise
        except LxdError as error:
            failed.append((instance.project, instance.name, error.message))
    return Reaped(removed=tuple(removed), failed=tuple(failed), snapshotted=tuple(snapshotted))


def remove_copy(lxd: Lxd, copy: Instance, stamp: Stamp) -> bool:
    """Delete a copy, and its update's snapshots of volumes; return whether it is gone.

    One with snapshots of its own, or with backups that LXD keeps, stays. So does one whose update's
    snapshots can't be deleted, for its stamp is what is known of them: raises why.
    """
    if lost_with(lxd, copy.name, project=copy.project):
        return False
    for error in remove_volume_snapshots(lxd, copy, stamp):
        raise error
    lxd.instances.delete(copy.name, project=copy.project)
    return True


def parked_copy(instances: Iterable[Instance], name: str, project: str) -> Transaction | None:
    """Return the update whose parked copy of ``name`` is the newest that is still there.

    What became of the name since doesn't matter: other updates may have failed, and the instance
    that had the name may be gone.
    """
    kept = [
        copy
        for copy in copies_of(instances, _ANY_TIME)
        if copy.stamp.phase is Phase.KEPT
        and (copy.instance.project, copy.stamp.name) == (project, name)
    ]
    if not kept:
        return None
    newest = min(kept, key=lambda copy: copy.newer)
    return transaction_of(newest.instance, newest.stamp)
