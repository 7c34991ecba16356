"""What goes with an instance that an update left: what a user made of it, and the update's snapshots."""

from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.lxd.failures import (
    AbsentError,
    NotRunningError,
    UnknownOutcomeError,
    UnreachableError,
)
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Instance
from lxdocker_lxd.update.transaction import Phase, Stamp, transaction_of


def lost_with(lxd: Lxd, name: str, *, project: str) -> str:
    """Return what a user made of an instance and LXD would delete with it; empty for nothing."""
    if lxd.instances.snapshots(name, project=project):
        return "snapshots"
    return "backups" if lxd.instances.backups(name, project=project) else ""


def remove_volume_snapshots(
    lxd: Lxd, instance: Instance, stamp: Stamp
) -> tuple[LxdockerError, ...]:
    """Delete the snapshots that a stamp's update made of volumes; return what kept some of them.

    The stamp names the volumes from before the first is made, so they are deleted by name, made or not:
    an update may have ended between any two of them. Raises NotRunningError, UnreachableError and
    UnknownOutcomeError.
    """
    if stamp.phase is Phase.LEASED:
        # They are made in the outage.
        return ()
    transaction = transaction_of(instance, stamp)
    failures = []
    for one in stamp.volumes:
        try:
            lxd.volumes.delete_snapshot(
                one.pool,
                one.name,
                transaction.snapshot_name,
                project=transaction.project,
                target=instance.member,
            )
        except (NotRunningError, UnreachableError, UnknownOutcomeError):
            raise
        except AbsentError:
            continue
        except LxdockerError as error:
            failures.append(error)
    return tuple(failures)
