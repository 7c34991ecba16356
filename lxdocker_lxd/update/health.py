"""The health gate: what a new version must show before the old one is let go.

A check is a command inside the instance, a TCP port or an HTTP path; without one the image's own
HEALTHCHECK counts, where the image was converted by this program, and else only that the instance
keeps running. Failures during the start period don't count. After the first success the instance
has to stay healthy, and running, for the stability window.
"""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.lxd.records import Config
from lxdocker_lxd.update.means import Judgement, Verdict
from lxdocker_lxd.update.quantity import number_of, quoted, seconds_of

PREFIX = "user.lxdocker.update."
HEALTH_KEY = PREFIX + "health"
_SECONDS_KEYS = ("interval", "timeout", "start_period", "stable")
GUEST_CHECK = ("/.lxdocker/run", "--health")
_LAST_PORT = 65535
_MOST_RETRIES = 1000
_LONGEST_TEXT = 16384
# How many times its retries a check may fail between successes before that is called ill.
_FLAPPING = 2


class HealthError(UsageError):
    """A health check that can't be understood."""


class Kind(StrEnum):
    """How health is asked for."""

    IMAGE = "image"
    EXEC = "exec"
    TCP = "tcp"
    HTTP = "http"
    RUNNING = "running"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check and its times, in seconds; ``retries`` failures in a row end the wait."""

    kind: Kind = Kind.IMAGE
    command: tuple[str, ...] = ()
    port: int = 0
    path: str = "/"
    interval_seconds: float = 2.0
    timeout_seconds: float = 30.0
    retries: int = 3
    start_period_seconds: float = 60.0
    stable_seconds: float = 10.0


def check_of(config: Config) -> Check:
    """Return the check that expanded configuration asks for; raise HealthError."""
    text = config.get(HEALTH_KEY, "").strip()
    kind, _, rest = text.partition(" ")
    if len(text) > _LONGEST_TEXT:
        raise HealthError(f"{HEALTH_KEY}: it has more than {_LONGEST_TEXT} characters")
    numbers = {name: _seconds(config, name) for name in _SECONDS_KEYS if config.get(PREFIX + name)}
    retries = _retries(config)
    target = _target(kind, rest.strip(), text)
    defaults = Check()
    return Check(
        kind=target.kind,
        command=target.command,
        port=target.port,
        path=target.path,
        interval_seconds=max(numbers.get("interval", defaults.interval_seconds), 0.1),
        timeout_seconds=max(numbers.get("timeout", defaults.timeout_seconds), 0.1),
        retries=retries,
        start_period_seconds=numbers.get("start_period", defaults.start_period_seconds),
        stable_seconds=numbers.get("stable", defaults.stable_seconds),
    )


def _seconds(config: Config, name: str) -> float:
    try:
        return seconds_of(config[PREFIX + name])
    except UsageError as error:
        raise HealthError(f"{PREFIX}{name}: {error.message}") from error


def _retries(config: Config) -> int:
    key = f"{PREFIX}retries"
    try:
        return number_of(config.get(key) or "3", least=1, most=_MOST_RETRIES)
    except UsageError as error:
        raise HealthError(f"{key}: {error.message}") from error


def _target(kind: str, rest: str, text: str) -> Check:
    if kind in ("", "image"):
        return Check()
    if kind in ("running", "none"):
        return Check(kind=Kind.RUNNING)
    if kind == "exec" and rest:
        try:
            return Check(kind=Kind.EXEC, command=tuple(shlex.split(rest)))
        except ValueError as error:
            raise _wrong(text, str(error)) from error
    port, _, path = rest.partition(" ")
    if kind in ("tcp", "http"):
        try:
            number = number_of(port, least=1, most=_LAST_PORT)
        except UsageError as error:
            raise _wrong(text, f"the port {error.message}") from error
        return Check(kind=Kind(kind), port=number, path=path.strip() or "/")
    raise _wrong(text, "it is none of the known forms")


def _wrong(text: str, why: str) -> HealthError:
    return HealthError(
        f"{HEALTH_KEY} {quoted(text)}: {why}",
        hint="exec WORDS, tcp PORT, http PORT [PATH], image, or running",
    )


class Answer(StrEnum):
    """What one look at an instance found; ``NONE`` is a check that isn't there to be run."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    NONE = "none"


class Probe(Protocol):
    """Looks once at an instance."""

    def running(self) -> bool:
        """Whether the instance runs."""
        ...

    def process_id(self) -> int:
        """The instance's PID 1 on its host; another number after a restart."""
        ...

    def look(self, check: Check) -> Answer:
        """Run the check once, within its timeout."""
        ...


def wait_for_health(
    check: Check, probe: Probe, *, clock: Callable[[], float], pause: Callable[[float], None]
) -> Verdict:
    """Watch until the instance is known to be healthy, or not; ``clock`` counts seconds."""
    began = clock()
    healthy_since: float | None = None
    was_healthy = False
    first_process, in_a_row, setbacks = 0, 0, 0
    while True:
        if not probe.running():
            return Verdict(judgement=Judgement.FAILED, reason="it ended by itself")
        process = probe.process_id()
        first_process = first_process or process
        if process != first_process:
            return Verdict(
                judgement=Judgement.FAILED, reason="it was restarted while it was watched"
            )
        answer = probe.look(check)
        now = clock()
        if answer is not Answer.UNHEALTHY:
            in_a_row, was_healthy = 0, True
            healthy_since = now if healthy_since is None else healthy_since
            if now - healthy_since >= check.stable_seconds:
                return Verdict(judgement=Judgement.HEALTHY, reason=answer)
        elif was_healthy or now - began >= check.start_period_seconds:
            healthy_since = None
            in_a_row, setbacks = in_a_row + 1, setbacks + was_healthy
            if in_a_row >= check.retries or setbacks > _FLAPPING * check.retries:
                said = "it was healthy, then its check failed" if was_healthy else "its check fails"
                return Verdict(judgement=Judgement.FAILED, reason=said)
        pause(check.interval_seconds)
