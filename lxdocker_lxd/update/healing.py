"""What a round does about instances whose health checks fail at run time."""

from collections.abc import Callable
from dataclasses import dataclass

from lxdocker_lxd.lxd.failures import AbsentError
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Instance
from lxdocker_lxd.update.dependants import Dependants
from lxdocker_lxd.update.enrolment import is_enrolled
from lxdocker_lxd.update.liveness import BUDGET, Heal, HealError, Remedy, heal_of
from lxdocker_lxd.update.liveness_monitor import LivenessMonitor, Sick
from lxdocker_lxd.update.problem import Problems
from lxdocker_lxd.update.scene import Picture
from lxdocker_lxd.update.transaction import Phase, Stamp, Transaction, stamp_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Healing:
    """Restarts unhealthy instances, or tells of them, as their keys say.

    The monitor's word is a hint: the instance is read again, and left alone while it is stopped or
    frozen, while an update of it is open, and while LXD is at work on it. A restart is a step of the
    journal, so an instance that was stopped for it is started whatever happens.
    """

    lxd: Lxd
    monitor: LivenessMonitor
    dependants: Dependants
    draw_id: Callable[[], str]
    projects: frozenset[str] = frozenset()

    def work(self, picture: Picture, problems: Problems) -> tuple[str, ...]:
        """Do what is due; return the names of those that were restarted."""
        restarted = []
        for sick in self.monitor.sick():
            with problems.about(sick.project, sick.name, "heal it"):
                instance = self._read(sick)
                if instance is None or not self._may_act(instance, picture):
                    continue
                if sick.remedy is Remedy.TELL:
                    problems.add(explain(sick, instance), project=sick.project, name=sick.name)
                    self.monitor.note_told((sick.project, sick.name))
                elif self._restart(instance):
                    restarted.append(sick.name)
        return tuple(restarted)

    def _read(self, sick: Sick) -> Instance | None:
        try:
            return self.lxd.instances.get(sick.name, project=sick.project)
        except AbsentError:
            return None

    def _may_act(self, instance: Instance, picture: Picture) -> bool:
        key = (instance.project, instance.name)
        stamp = stamp_of(instance)
        at_rest = stamp is None or (isinstance(stamp, Stamp) and stamp.phase is Phase.COMMITTED)
        return (
            instance.running
            and not instance.ephemeral
            and is_enrolled(instance, self.projects)
            and at_rest
            and key not in picture.unfinished
            and key not in picture.busy([instance.project])
        )

    def _restart(self, instance: Instance) -> bool:
        # Written down before: a restart that kills the updater counts as well.
        self.monitor.note_restart((instance.project, instance.name))
        cause = Transaction(
            id=self.draw_id(),
            project=instance.project,
            name=instance.name,
            fingerprint=instance.base_image,
        )
        return self.dependants.restart(instance, cause)


def explain(sick: Sick, instance: Instance) -> str:
    """Return what people are told of an unhealthy instance."""
    since = sick.liveness.since
    said = f"it is unhealthy since {since:%Y-%m-%d %H:%M} UTC" if since else "it is unhealthy"
    try:
        heals = heal_of(instance.expanded_config) is Heal.RESTART
    except HealError:
        heals = False
    if heals:
        return f"{said}; {BUDGET} restarts within an hour didn't help, so it is left as it is"
    return (
        f"{said}; `lxc config set {instance.name} user.lxdocker.heal=restart` lets it be restarted"
    )
