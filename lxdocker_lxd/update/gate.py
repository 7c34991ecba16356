"""The health gate on real instances: a new version is watched, and what it said is kept when it fails."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from lxdocker_lxd.errors import LxdError, LxdockerError, VerificationError
from lxdocker_lxd.guest_health import HEALTH_COMMAND, has_health_check
from lxdocker_lxd.image_facts import ImageFacts, facts_or_none
from lxdocker_lxd.lxd.failures import AbsentError, RefusedError
from lxdocker_lxd.lxd.ports import EventStream, Lxd
from lxdocker_lxd.lxd.records import Config, Instance
from lxdocker_lxd.update.health import wait_for_health
from lxdocker_lxd.update.health_check import Check, HealthError, Kind, check_of
from lxdocker_lxd.update.instance_probe import InstanceProbe
from lxdocker_lxd.update.means import Judgement, Verdict
from lxdocker_lxd.update.redaction import excerpt

_LOG_PATH = "/.lxdocker/log"
# The guest begins a new file at 10 MiB, unless it was told otherwise.
_LONGEST_LOG_BYTES = 16 << 20
_TAIL_BYTES = 1 << 14
_ENVIRONMENT = "environment."
# LXD keeps a program that serves files for ten seconds after the last request for one.
_FILES_SECONDS = 20.0
_FILES_PAUSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedInstance:
    """How an instance is asked for its health; ``converted``: its image is one of ours.

    ``image_interval_seconds`` is what the image's own HEALTHCHECK says of the time between two checks.
    """

    check: Check
    converted: bool
    image_interval_seconds: float | None = None


def watched_instance(lxd: Lxd, instance: Instance) -> WatchedInstance:
    """Return how to ask an instance, by its keys and its image; raise HealthError.

    Where the image's check is meant and there is none, it is that the command keeps running.
    """
    config = instance.expanded_config
    converted = has_guest(lxd, instance)
    try:
        facts = facts_or_none(lxd, instance.name, project=instance.project) if converted else None
    except VerificationError:
        # What it says is damaged: its guest is asked, and knows whether there is a check.
        return WatchedInstance(check=check_of(config), converted=True)
    image = facts or ImageFacts()
    check = check_of(config, image.healthcheck)
    has_check = converted and has_health_check(config, image=image.health)
    if check.kind is Kind.IMAGE and not has_check:
        check = replace(check_of(config), kind=Kind.RUNNING)
    times = image.healthcheck
    return WatchedInstance(
        check=check,
        converted=converted,
        image_interval_seconds=times.interval_seconds if times is not None else None,
    )


def has_guest(lxd: Lxd, instance: Instance) -> bool:
    """Whether the program is there that every converted image has, and foreign ones don't."""
    try:
        lxd.guests.file_kind(instance.name, HEALTH_COMMAND[0], project=instance.project)
    except AbsentError:
        return False
    return True


class HealthGate:
    """Implements :class:`Gate` with the checks that the instance's keys and its image ask for."""

    def __init__(
        self, lxd: Lxd, *, clock: Callable[[], float], pause: Callable[[float], None]
    ) -> None:
        self._lxd = lxd
        self._clock = clock
        self._pause = pause

    @contextlib.contextmanager
    def listen(self) -> Iterator[EventStream | None]:
        """Listen to LXD's events; without them nobody knows who asked for an end."""
        with contextlib.ExitStack() as opened:
            stream = None
            with contextlib.suppress(LxdError):
                stream = opened.enter_context(self._lxd.events.subscribe())
            yield stream

    def judge(self, name: str, *, project: str, events: EventStream | None = None) -> Verdict:
        """Watch the instance; a check that can't be understood is no fault of the version."""
        with self.listen() if events is None else contextlib.nullcontext(events) as stream:
            instance = self._lxd.instances.get(name, project=project)
            try:
                watched = self._watched(instance)
            except HealthError as error:
                return Verdict(judgement=Judgement.UNDECIDED, reason=error.message)
            probe = InstanceProbe(
                self._lxd, name, project, converted=watched.converted, stream=stream
            )
            verdict = wait_for_health(watched.check, probe, clock=self._clock, pause=self._pause)
            if verdict.healthy:
                return verdict
            said = f"{self._log(instance, watched)}\n{probe.output}"
            secrets = _environment_values(instance.expanded_config)
            return replace(verdict, evidence=excerpt(said, secrets=secrets))

    def _watched(self, instance: Instance) -> WatchedInstance:
        """Return how to ask; LXD can't look at files for a moment when an instance starts or ends."""
        until = self._clock() + _FILES_SECONDS
        while self._clock() < until:
            try:
                return watched_instance(self._lxd, instance)
            except RefusedError:
                self._pause(_FILES_PAUSE_SECONDS)
        # Taken for one of ours: then nothing but its guest's own word counts as good.
        return WatchedInstance(check=check_of(instance.expanded_config), converted=True)

    def _log(self, instance: Instance, watched: WatchedInstance) -> str:
        """Return the end of what the instance wrote; nothing depends on it."""
        name, project = instance.name, instance.project
        content = b""
        with contextlib.suppress(LxdockerError):
            try:
                if not watched.converted:
                    raise AbsentError(f"{name} keeps no log")
                content = self._lxd.guests.read_file(
                    name, _LOG_PATH, project=project, most_bytes=_LONGEST_LOG_BYTES
                ).content
            except LxdockerError:
                content = self._lxd.guests.console_log(name, project=project)
        return content[-_TAIL_BYTES:].decode("utf-8", "replace")


def _environment_values(config: Config) -> tuple[str, ...]:
    """Return what must not be told, wherever the instance wrote it."""
    return tuple(value for key, value in config.items() if key.startswith(_ENVIRONMENT))
