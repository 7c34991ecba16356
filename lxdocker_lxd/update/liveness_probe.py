"""The checks that are asked at run time: those that an update's health gate asks, at Docker's times."""

from dataclasses import dataclass

from lxdocker_lxd.errors import VerificationError
from lxdocker_lxd.guest_health import Health, has_health_check
from lxdocker_lxd.image_facts import ImageFacts, facts_of
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Instance
from lxdocker_lxd.update.gate import InstanceProbe
from lxdocker_lxd.update.health import Answer, HealthError, Kind, check_of
from lxdocker_lxd.update.liveness_monitor import LivenessCheck

INTERVAL_SECONDS = 30.0
"""Docker's default between two checks."""
_SHORTEST_SECONDS = 5.0
_ANSWERS = {Answer.HEALTHY: Health.HEALTHY, Answer.UNHEALTHY: Health.UNHEALTHY}


@dataclass(frozen=True, slots=True)
class InstanceLiveness:
    """Implements :class:`LivenessProbe` with the check that an instance's updates have to pass."""

    def check(self, lxd: Lxd, instance: Instance) -> LivenessCheck | None:
        """Return how often to ask; None where there is no check, or none that can be understood."""
        try:
            check = check_of(instance.expanded_config)
        except HealthError:
            # The plan tells of it.
            return None
        if check.kind is Kind.RUNNING:
            return None
        facts = _facts(lxd, instance)
        if check.kind is Kind.IMAGE and not has_health_check(
            instance.expanded_config, image=facts.health
        ):
            return None
        times = facts.healthcheck
        interval = times.interval_seconds if times is not None else None
        return LivenessCheck(
            interval_seconds=max(interval or INTERVAL_SECONDS, _SHORTEST_SECONDS),
            start_period_seconds=check.start_period_seconds,
            retries=check.retries,
        )

    def ask(self, lxd: Lxd, instance: Instance) -> Health:
        """Ask once; what is neither healthy nor unhealthy is unknown."""
        check = check_of(instance.expanded_config)
        probe = InstanceProbe(lxd, instance.name, instance.project)
        answer = probe.look(check)
        return _ANSWERS.get(answer, Health.UNKNOWN)


def _facts(lxd: Lxd, instance: Instance) -> ImageFacts:
    try:
        return facts_of(lxd, instance.name, project=instance.project)
    except VerificationError:
        return ImageFacts()
