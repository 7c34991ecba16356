"""The health check of an update, as an instance's keys and its image ask for it. Pure."""

import re
import shlex
from dataclasses import dataclass
from enum import StrEnum

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.image_facts import HealthcheckTimes
from lxdocker_lxd.lxd.records import Config
from lxdocker_lxd.update.quantity import LONGEST_SECONDS, number_of, quoted, seconds_of

PREFIX = "user.lxdocker.update."
HEALTH_KEY = PREFIX + "health"
HEALTH_FROM_KEY = PREFIX + "health_from"
# The gate ends after an hour, whatever it has seen; see health.py.
LONGEST_STABLE_SECONDS = 1800.0
# Nothing else can be done during a check, not even a sign of life for the service's watchdog.
LONGEST_TIMEOUT_SECONDS = 240.0
_LEAST_INTERVAL_SECONDS = 0.1
_NEVER_NOTHING = frozenset({"interval", "timeout"})
_MOST_RETRIES = 1000
_LONGEST_TEXT = 4096
_SHOWN = 60
_PATH = re.compile(r"/[!-~]*", re.ASCII)
_LAST_PORT = 65535


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
    """One check and its times, in seconds; ``retries`` failures in a row end the wait.

    ``start_interval_seconds`` counts until the first success in the start period. ``outside``: ports
    are asked from the updater's machine, not from inside the instance.
    """

    kind: Kind = Kind.IMAGE
    command: tuple[str, ...] = ()
    port: int = 0
    path: str = "/"
    outside: bool = False
    interval_seconds: float = 2.0
    start_interval_seconds: float = 2.0
    timeout_seconds: float = 30.0
    retries: int = 3
    start_period_seconds: float = 60.0
    stable_seconds: float = 10.0

    @property
    def label(self) -> str:
        """What it is, in a few words; arguments of a command may be secret and aren't named."""
        where = " from outside" if self.outside else ""
        match self.kind:
            case Kind.IMAGE:
                return "the image's health check"
            case Kind.EXEC:
                return f"exec {self.command[0][:_SHOWN]}"
            case Kind.TCP:
                return f"tcp {self.port}{where}"
            case Kind.HTTP:
                path = self.path.partition("?")[0]
                return f"http {self.port} {path[:_SHOWN]}{where}"
            case Kind.RUNNING:
                return self.without_check

    @property
    def without_check(self) -> str:
        """What is shown where there is no check to be run."""
        return f"running {self.stable_seconds:g} s"


def check_of(config: Config, image: HealthcheckTimes | None = None) -> Check:
    """Return the check that expanded configuration asks for; raise HealthError.

    Times that no key states are the image's, for the image's own check, where it states them. Docker
    would ask each 30 s where no interval is stated, three times before it gives up; so a short start
    period is no reason to give up earlier.
    """
    text = config.get(HEALTH_KEY, "").strip()
    target = _target(text)
    times = image if image is not None and target.kind is Kind.IMAGE else HealthcheckTimes()
    plain = Check()
    period = times.start_period_seconds or plain.start_period_seconds
    if times.interval_seconds is None:
        period = max(period, plain.start_period_seconds)
    interval = _seconds(config, "interval") or times.interval_seconds or plain.interval_seconds
    start_interval = times.start_interval_seconds or plain.start_interval_seconds
    stated = _seconds(config, "start_period")
    stable = _seconds(config, "stable", LONGEST_STABLE_SECONDS)
    return Check(
        kind=target.kind,
        command=target.command,
        port=target.port,
        path=target.path,
        outside=_outside(config),
        interval_seconds=max(interval, _LEAST_INTERVAL_SECONDS),
        start_interval_seconds=max(min(start_interval, interval), _LEAST_INTERVAL_SECONDS),
        timeout_seconds=min(
            _seconds(config, "timeout", LONGEST_TIMEOUT_SECONDS)
            or times.timeout_seconds
            or plain.timeout_seconds,
            LONGEST_TIMEOUT_SECONDS,
        ),
        retries=_retries(config) or times.retries or plain.retries,
        start_period_seconds=period if stated is None else stated,
        stable_seconds=plain.stable_seconds if stable is None else stable,
    )


def _seconds(config: Config, name: str, most: float = LONGEST_SECONDS) -> float | None:
    """Return the seconds a key states, None where it doesn't."""
    text = config.get(PREFIX + name, "").strip()
    if not text:
        return None
    try:
        seconds = seconds_of(text, most=most)
    except UsageError as error:
        raise HealthError(
            f"{PREFIX}{name}: {error.message}", hint="digits alone, as in 30 or 0.5"
        ) from error
    # The least, not "not stated".
    return max(seconds, _LEAST_INTERVAL_SECONDS) if name in _NEVER_NOTHING else seconds


def _retries(config: Config) -> int | None:
    text = config.get(PREFIX + "retries", "").strip()
    if not text:
        return None
    try:
        return number_of(text, least=1, most=_MOST_RETRIES)
    except UsageError as error:
        raise HealthError(f"{PREFIX}retries: {error.message}") from error


def _outside(config: Config) -> bool:
    text = config.get(HEALTH_FROM_KEY, "").strip()
    if text not in {"", "inside", "outside"}:
        raise HealthError(
            f"{HEALTH_FROM_KEY}: {quoted(text)} is neither inside nor outside",
            hint="inside asks from within the instance, which is the default",
        )
    return text == "outside"


def _target(text: str) -> Check:
    kind, _, rest = text.partition(" ")
    rest = rest.strip()
    if len(text) > _LONGEST_TEXT or "\0" in text:
        raise _wrong(text, f"it is longer than {_LONGEST_TEXT} characters, or holds a NUL")
    if text in ("", "image"):
        return Check()
    if text in ("running", "none"):
        return Check(kind=Kind.RUNNING)
    if kind == "exec" and rest:
        return Check(kind=Kind.EXEC, command=_words(text, rest))
    port, _, path = rest.partition(" ")
    path = path.strip()
    if kind not in ("tcp", "http") or (kind == "tcp" and path):
        raise _wrong(text, "it is none of the known forms")
    try:
        number = number_of(port, least=1, most=_LAST_PORT)
    except UsageError as error:
        raise _wrong(text, f"the port {error.message}") from error
    if path and not _PATH.fullmatch(path):
        raise _wrong(text, "a path begins with / and has no spaces")
    return Check(kind=Kind(kind), port=number, path=path or "/")


def _words(text: str, rest: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(rest))
    except ValueError as error:
        raise _wrong(text, str(error)) from error
    if not words or not words[0]:
        raise _wrong(text, "no program is named")
    return words


def _wrong(text: str, why: str) -> HealthError:
    return HealthError(
        f"{HEALTH_KEY}: {quoted(text)}: {why}",
        hint="exec WORDS, tcp PORT, http PORT [PATH], image, or running",
    )
