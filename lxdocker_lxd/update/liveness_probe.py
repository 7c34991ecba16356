"""The checks that are asked at run time: those that an update's health gate asks, at Docker's times."""

from dataclasses import dataclass

from lxdocker_lxd.guest_health import Health
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Instance
from lxdocker_lxd.update.gate import watched_instance
from lxdocker_lxd.update.health_check import HealthError, Kind
from lxdocker_lxd.update.instance_probe import InstanceProbe
from lxdocker_lxd.update.liveness_monitor import LivenessCheck

INTERVAL_SECONDS = 30.0
"""Docker's default between two checks."""
_SHORTEST_SECONDS = 5.0
_ANSWERS = frozenset({Health.HEALTHY, Health.UNHEALTHY})


@dataclass(frozen=True, slots=True)
class InstanceLiveness:
    """Implements :class:`LivenessProbe` with the check that an instance's updates have to pass."""

    def check(self, lxd: Lxd, instance: Instance) -> LivenessCheck | None:
        """Return how often to ask; None where there is no check, or none that can be understood."""
        try:
            watched = watched_instance(lxd, instance)
        except HealthError:
            # The plan tells of it.
            return None
        check, interval = watched.check, watched.image_interval_seconds
        if check.kind is Kind.RUNNING:
            return None
        return LivenessCheck(
            interval_seconds=max(interval or INTERVAL_SECONDS, _SHORTEST_SECONDS),
            start_period_seconds=check.start_period_seconds,
            retries=check.retries,
        )

    def ask(self, lxd: Lxd, instance: Instance) -> Health:
        """Ask once; what is neither healthy nor unhealthy is unknown."""
        watched = watched_instance(lxd, instance)
        probe = InstanceProbe(lxd, instance.name, instance.project, converted=watched.converted)
        answer = probe.look(watched.check)
        return answer if answer in _ANSWERS else Health.UNKNOWN
