"""An instance and the copies its updates keep, brought under one name and one update again.

A user may rename an instance, or lose its stamp; the copy to go back to is still there. What is
written here may be repeated after a crash at any of its calls.
"""

from dataclasses import replace

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.lxd.failures import AbsentError
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Instance
from lxdocker_lxd.update.configuration import stamped
from lxdocker_lxd.update.holder import HOLDER_KEY, holder_of, is_successor
from lxdocker_lxd.update.transaction import (
    Phase,
    Role,
    Stamp,
    Transaction,
    Unreadable,
    is_ours,
    parked_name,
    stamp_of,
)


class NotItsCopyError(UsageError):
    """A kept copy belongs to another instance than the one that has the name now."""


def follow_rename(lxd: Lxd, instance: Instance) -> None:
    """Let the copies of a renamed instance follow its name, and its keys say the new one.

    Only copies of the instance's own last update follow; those of other updates stay as they are.
    Nothing happens to an instance that has the name its stamp tells.
    """
    stamp = stamp_of(instance)
    if not isinstance(stamp, Stamp) or stamp.phase is not Phase.COMMITTED:
        return
    if stamp.name == instance.name:
        return
    for other in lxd.instances.list(project=instance.project):
        kept = stamp_of(other)
        if not isinstance(kept, Stamp) or kept.phase is not Phase.KEPT:
            continue
        # Its stamp says the new name already where an earlier try was interrupted.
        if kept.transaction == stamp.transaction and kept.name in {stamp.name, instance.name}:
            _give_name(lxd, other, replace(kept, name=instance.name))
    fresh = lxd.instances.get(instance.name, project=instance.project)
    settings = stamped(fresh, replace(stamp, name=fresh.name))
    settings = replace(settings, config={**settings.config, HOLDER_KEY: holder_of(fresh)})
    lxd.instances.replace(fresh.name, settings, etag=fresh.etag, project=fresh.project)


def _give_name(lxd: Lxd, copy: Instance, stamp: Stamp) -> None:
    fresh = lxd.instances.get(copy.name, project=copy.project)
    settings = stamped(fresh, stamp)
    lxd.instances.replace(fresh.name, settings, etag=fresh.etag, project=fresh.project)
    wanted = parked_name(stamp.name, stamp.role, stamp.transaction)
    if fresh.name != wanted:
        lxd.instances.rename(fresh.name, wanted, project=fresh.project)


def take_over(lxd: Lxd, transaction: Transaction) -> None:
    """Make the instance that has the name the successor of a kept copy, if it isn't already.

    Later updates that failed, and older versions of this program, left it without that stamp. Raises
    NotItsCopyError for an instance that was never followed, or is in the middle of an update.
    """
    try:
        holder = lxd.instances.get(transaction.name, project=transaction.project)
    except AbsentError:
        return
    stamp = stamp_of(holder)
    if isinstance(stamp, Stamp) and stamp.transaction == transaction.id:
        return
    if isinstance(stamp, Unreadable) or (
        stamp is not None and is_ours(holder) and stamp.phase is not Phase.COMMITTED
    ):
        raise NotItsCopyError(
            f"go back with {holder.name}: another update of it isn't finished",
            hint="`lxdocker-lxd update recover` first",
        )
    if not is_successor(holder, {transaction.id}):
        raise NotItsCopyError(
            f"go back with {holder.name}: the instance of that name isn't the one the copy"
            f" {transaction.parked(Role.OLD)} was kept for",
            hint=f"give it another name first: `lxc rename {holder.name} NAME`",
        )
    kept = transaction.stamp(Role.NEW, Phase.COMMITTED, None)
    kept = replace(kept, fingerprint=holder.base_image or transaction.fingerprint)
    if isinstance(stamp, Stamp):
        kept = replace(kept, proof=stamp.proof, check=stamp.check, ran=stamp.ran)
    lxd.instances.replace(
        holder.name, stamped(holder, kept), etag=holder.etag, project=holder.project
    )
