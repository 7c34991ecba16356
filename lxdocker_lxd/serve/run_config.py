"""What a version's ``config`` says, in the types it should have. Pure.

The catalogue keeps an image's configuration as OCI writes it, and readers of the catalogue may not count on
more than JSON. So what has another type than it should isn't there.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from lxdocker_lxd.catalogue import Json
from lxdocker_lxd.exposed_port import ExposedPort
from lxdocker_lxd.secret_value import HIDDEN

_NO_CHECK = "NONE"
_NANOSECONDS_PER_SECOND = 1_000_000_000
_MOST_NANOSECONDS = (1 << 63) - 1
_DURATIONS = (
    ("interval", "Interval"),
    ("timeout", "Timeout"),
    ("start period", "StartPeriod"),
    ("start interval", "StartInterval"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """``test`` begins with ``CMD`` or ``CMD-SHELL``; durations in seconds by what they are for."""

    test: tuple[str, ...]
    seconds: Mapping[str, float]
    retries: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """What an image runs, and how. Environment and labels hold each name once, sorted by name.

    Variables whose values the catalogue doesn't tell have HIDDEN instead.
    """

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    shell: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    stop_signal: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    health_check: HealthCheck | None = None

    @classmethod
    def read(cls, config: Mapping[str, Json]) -> Self:
        """Return what ``config`` (an OCI image's) says; never raises."""
        entries = (entry.partition("=") for entry in _texts(config.get("Env")))
        environment = {name: value if equals else HIDDEN for name, equals, value in entries if name}
        labels = _mapping(config.get("Labels"))
        return cls(
            entrypoint=_texts(config.get("Entrypoint")),
            command=_texts(config.get("Cmd")),
            shell=_texts(config.get("Shell")),
            user=_text(config.get("User")),
            working_dir=_text(config.get("WorkingDir")),
            stop_signal=_text(config.get("StopSignal")),
            environment=dict(sorted(environment.items())),
            labels={
                name: value for name, value in sorted(labels.items()) if isinstance(value, str)
            },
            ports=_ports(_mapping(config.get("ExposedPorts"))),
            volumes=tuple(sorted(_mapping(config.get("Volumes")))),
            health_check=_health_check(_mapping(config.get("Healthcheck"))),
        )


def _health_check(check: Mapping[str, Json]) -> HealthCheck | None:
    test = _texts(check.get("Test"))
    if not test or test[0] == _NO_CHECK:
        return None
    durations = {name: _number(check.get(key)) for name, key in _DURATIONS}
    retries = check.get("Retries")
    return HealthCheck(
        test=test,
        seconds={
            name: value / _NANOSECONDS_PER_SECOND for name, value in durations.items() if value
        },
        retries=retries if isinstance(retries, int) and retries else None,
    )


def _ports(exposed: Iterable[str]) -> tuple[str, ...]:
    """Return the ports in order of their numbers, without what is none."""
    found = filter(None, map(ExposedPort.parse, exposed))
    ordered = sorted(found, key=lambda port: (port.first, port.last, port.protocol))
    return tuple(dict.fromkeys(map(str, ordered)))


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Json) -> tuple[str, ...]:
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}


def _number(value: Json) -> float:
    """Return a number of nanoseconds, 0 for what is none: a text, true, or beyond all sense."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    return value if 0 < value <= _MOST_NANOSECONDS else 0
