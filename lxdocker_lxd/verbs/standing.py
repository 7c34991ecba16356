"""How instances are now, for lists of them: their health, and whether there is a newer image."""

import threading
import time
from collections.abc import Sequence
from dataclasses import replace

from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.guest_health import Health
from lxdocker_lxd.launching.listing import NO_ANSWER, image_health
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Alias, Image, Instance
from lxdocker_lxd.update.gate import watched_instance
from lxdocker_lxd.update.health_check import HEALTH_KEY, Kind
from lxdocker_lxd.update.instance_probe import InstanceProbe
from lxdocker_lxd.update.standing import Standing, standing_of

ASKED_SECONDS = 10.0


def health_now(lxd: Lxd, instance: Instance, *, seconds: float = ASKED_SECONDS) -> str:
    """Ask a running instance once, by the check that its updates have to pass.

    ``healthy``, ``unhealthy``, ``starting``, ``none`` (there is no check), ``no answer`` when that took
    longer than ``seconds`` and the check itself allows more, or empty where nothing can be asked.
    """
    if not instance.expanded_config.get(HEALTH_KEY):
        return image_health(lxd, instance, seconds=seconds)
    try:
        watched = watched_instance(lxd, instance)
        check = watched.check
        if check.kind is Kind.IMAGE:
            return image_health(lxd, instance, seconds=seconds)
        limit = min(check.timeout_seconds, seconds)
        probe = InstanceProbe(lxd, instance.name, instance.project, converted=watched.converted)
        began = time.monotonic()
        answer = probe.look(replace(check, timeout_seconds=limit))
    except LxdockerError:
        return ""
    cut = limit < check.timeout_seconds and time.monotonic() - began >= limit
    if cut:
        return NO_ANSWER
    return "" if answer is Health.UNKNOWN else str(answer)


class Standings:
    """How instances stand to their images; reads each project's images once, from any thread."""

    def __init__(self, lxd: Lxd) -> None:
        self._lxd = lxd
        self._lock = threading.Lock()
        self._stores: dict[str, tuple[Sequence[Image], Sequence[Alias]]] = {}

    def of(self, instance: Instance) -> Standing:
        """How this one stands; what can't be read leaves it unknown."""
        with self._lock:
            if instance.project not in self._stores:
                self._stores[instance.project] = self._read(instance.project)
            images, aliases = self._stores[instance.project]
        return standing_of(instance, images, aliases)

    def images(self, project: str) -> Sequence[Image]:
        """The images that were read of a project."""
        with self._lock:
            return self._stores.get(project, ((), ()))[0]

    def _read(self, project: str) -> tuple[Sequence[Image], Sequence[Alias]]:
        try:
            return self._lxd.images.list(project=project), self._lxd.aliases.list(project=project)
        except LxdockerError:
            return (), ()
