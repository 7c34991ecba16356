"""Observes an update in LXD: reads its two instances, and whoever has its name."""

from lxdocker_lxd.lxd.failures import AbsentError
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Instance
from lxdocker_lxd.update.attempt import Attempt
from lxdocker_lxd.update.transaction import Role, Transaction, is_hands_off
from lxdocker_lxd.update.view import Party, View, party_of


class Observer:
    """Reads from LXD and changes nothing. Raises what the ports raise."""

    def __init__(self, lxd: Lxd) -> None:
        self._lxd = lxd

    def instance(self, name: str, project: str) -> Instance | None:
        """Return an instance, None where there is none of this name."""
        try:
            return self._lxd.instances.get(name, project=project)
        except AbsentError:
            return None

    def look(self, run: Attempt) -> View:
        """Return what is there of the attempt's update now, with what the attempt knows."""
        transaction = run.transaction
        holder = self.instance(transaction.name, transaction.project)
        waiting = {
            role: self.instance(transaction.parked(role), transaction.project)
            for role in self._waiting_roles(run, holder)
        }
        seen = (holder, *waiting.values())
        run.unreadable = next((one.name for one in seen if one and is_hands_off(one)), "")
        old, new = (
            self._party(transaction, role, (waiting.get(role), holder))
            for role in (Role.OLD, Role.NEW)
        )
        # A renamed one leaves no holder; with a holder, what else has its stamp is a copy.
        nobody = holder is None or (new is not None and new.named)
        if old is None and nobody:
            old = self._moved(transaction, Role.OLD)
        if old is not None and old.stamp.blame:
            run.blame = True
        return run.view(old, new, holder)

    def _waiting_roles(self, run: Attempt, holder: Instance | None) -> tuple[Role, ...]:
        """Return who may wait beside the name: never the one that has it."""
        for role in Role:
            if holder is not None and party_of(holder, run.transaction, role) is not None:
                return tuple(other for other in Role if other is not role)
        # Nothing was parked by this run yet.
        return (Role.NEW,) if holder is not None and run.fresh and not run.outage else tuple(Role)

    def _party(
        self, transaction: Transaction, role: Role, seen: tuple[Instance | None, ...]
    ) -> Party | None:
        for instance in seen:
            party = party_of(instance, transaction, role) if instance is not None else None
            if party is not None:
                return party
        return None

    def _moved(self, transaction: Transaction, role: Role) -> Party | None:
        """Find a party that a user gave another name."""
        for listed in self._lxd.instances.list(project=transaction.project):
            if party_of(listed, transaction, role) is not None:
                instance = self.instance(listed.name, transaction.project)
                return party_of(instance, transaction, role) if instance is not None else None
        return None
