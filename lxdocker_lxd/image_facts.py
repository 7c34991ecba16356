"""What an image asks of its instances, from the ``/lxd-image.json`` that every one of ours has."""

import json
import math
from dataclasses import dataclass

from lxdocker_lxd.errors import LxdockerError, VerificationError
from lxdocker_lxd.lxd.failures import AbsentError
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.spec_values import volume

PATH = "/lxd-image.json"
_MOST_BYTES = 8 << 20
_NANOSECONDS_PER_SECOND = 1_000_000_000
_LONGEST_SECONDS = 86_400.0
_MOST_RETRIES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthcheckTimes:
    """When the image's health check is to be asked, and how often; None for what it doesn't state.

    All in seconds, more than 0 and at most a day. ``start_interval_seconds`` counts during the start
    period.
    """

    interval_seconds: float | None = None
    timeout_seconds: float | None = None
    start_period_seconds: float | None = None
    start_interval_seconds: float | None = None
    retries: int | None = None


# An instance may hold any file there.
_MOST_VOLUMES = 1000
_MOST_SAID = 300
_LONGEST_PATH = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """Paths it declares as volumes, ports it exposes (``80/tcp``), its health check if it has one.

    ``stop_timeout_seconds`` is how long its command may take to end; None when it doesn't say.
    """

    volumes: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    healthcheck: HealthcheckTimes | None = None
    stop_timeout_seconds: int | None = None

    @property
    def health(self) -> bool:
        """Whether it has a health check."""
        return self.healthcheck is not None


def facts_of(lxd: Lxd, instance: str, *, project: str) -> ImageFacts:
    """Return what the image of an instance says; raise VerificationError when it isn't ours."""
    facts = facts_or_none(lxd, instance, project=project)
    if facts is None:
        raise VerificationError(
            f"the image of {instance} was not made by lxdocker-lxd: it has no {PATH}",
            hint="use `lxc launch` for other images",
        )
    return facts


def facts_or_none(lxd: Lxd, instance: str, *, project: str) -> ImageFacts | None:
    """Return what the image of an instance says, None when it isn't ours; raise VerificationError."""
    try:
        file = lxd.guests.read_file(instance, PATH, project=project, most_bytes=_MOST_BYTES)
    except AbsentError:
        return None
    return parse_facts(file.content)


def parse_facts(content: bytes) -> ImageFacts:
    """Return the facts in the file's content; raise VerificationError."""
    try:
        document = json.loads(content)
        volumes = _bounded(
            tuple(dict.fromkeys(_path(text) for text in document.get("volumes") or ()))
        )
        ports = tuple(str(text) for text in document.get("ports") or ())
        healthcheck = _healthcheck(document.get("healthcheck"))
        config = document.get("config")
        stop = config.get("StopTimeout") if isinstance(config, dict) else None
    except (ValueError, AttributeError, TypeError, RecursionError, LxdockerError) as error:
        said = str(error)[:_MOST_SAID]
        raise VerificationError(f"{PATH} of the image can't be understood: {said}") from error
    return ImageFacts(
        volumes=volumes,
        ports=ports,
        healthcheck=healthcheck,
        stop_timeout_seconds=stop if type(stop) is int and stop >= 0 else None,
    )


def _healthcheck(check: object) -> HealthcheckTimes | None:
    """Return the times of a check in Docker's form; what makes no sense counts as not stated."""
    if not isinstance(check, dict):
        return None
    test = check.get("Test")
    if not isinstance(test, list) or not test or test[0] == "NONE":
        return None
    retries = check.get("Retries")
    return HealthcheckTimes(
        interval_seconds=_seconds(check.get("Interval")),
        timeout_seconds=_seconds(check.get("Timeout")),
        start_period_seconds=_seconds(check.get("StartPeriod")),
        start_interval_seconds=_seconds(check.get("StartInterval")),
        retries=min(retries, _MOST_RETRIES) if isinstance(retries, int) and retries > 0 else None,
    )


def _seconds(nanoseconds: object) -> float | None:
    if isinstance(nanoseconds, bool) or not isinstance(nanoseconds, int | float):
        return None
    # Compared before it is divided: a long number has no value as a float.
    if isinstance(nanoseconds, float) and not math.isfinite(nanoseconds):
        return None
    if nanoseconds <= 0:
        return None
    return min(nanoseconds, _LONGEST_SECONDS * _NANOSECONDS_PER_SECOND) / _NANOSECONDS_PER_SECOND


def _bounded(texts: tuple[str, ...]) -> tuple[str, ...]:
    if len(texts) > _MOST_VOLUMES:
        raise ValueError(f"it names {len(texts)} volumes")
    return texts


def _path(text: object) -> str:
    written = str(text)
    if len(written) > _LONGEST_PATH:
        raise ValueError(f"the path of a volume has {len(written)} letters")
    return volume(written)
