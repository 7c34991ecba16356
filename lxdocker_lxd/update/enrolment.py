"""Which instances are followed, and how: keys of an instance or of its profiles become a policy.

What isn't enrolled is never touched. A key that can't be understood keeps its instance from being
updated until somebody corrects it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from lxdocker_lxd.errors import LxdockerError, UsageError
from lxdocker_lxd.lxd.records import Config, Instance
from lxdocker_lxd.update.retention import LEFT_BEHIND
from lxdocker_lxd.update.source import CERTIFICATE_KEY, SOURCE_KEY, Source, source_of_text
from lxdocker_lxd.update.transaction import Unreadable, is_ours, stamp_of
from lxdocker_lxd.update.window import Window, windows_of

UPDATE_KEY = "user.lxdocker.update"
HOLDER_KEY = "user.lxdocker.update.of"
"""Which instance was enrolled, as PROJECT/NAME: LXD copies the other keys with an instance."""
DEPENDS_KEY = "user.lxdocker.depends"
WINDOW_KEY = "user.lxdocker.update.window"
MINIMUM_AGE_KEY = "user.lxdocker.update.minimum_age"
PIN_KEY = "user.lxdocker.update.pin"
SKIP_KEY = "user.lxdocker.update.skip"
SNOOZE_KEY = "user.lxdocker.update.snooze"
POLL_KEY = "user.lxdocker.update.poll"
_Value = TypeVar("_Value")
_DURATION = re.compile(r"(\d+)([smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class PolicyError(UsageError):
    """A key of the update policy that can't be understood."""


class Mode(StrEnum):
    """What happens when there is a newer image."""

    AUTO = "auto"
    NOTIFY = "notify"
    OFF = "off"


class Enrolment(StrEnum):
    """Whether an instance is followed, and if not, why.

    ``COPY``: its keys name another instance, which it was copied from, restored from a backup of,
    or renamed from. ``UNREADABLE``: its stamp was written by another version. ``OUTSIDE``: it is in
    a project that isn't followed, or isn't enrolled, or is what an update left.
    """

    FOLLOWED = "followed"
    COPY = "copy"
    UNREADABLE = "unreadable"
    OUTSIDE = "outside"


class Poll(StrEnum):
    """Who looks at the image server."""

    LXD = "lxd"
    REMOTE = "remote"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How an instance is followed; ``problems`` are keys that can't be understood.

    ``poll`` is None where the settings decide.
    """

    mode: Mode = Mode.OFF
    source: Source | None = None
    certificate: str = ""
    windows: tuple[Window, ...] = ()
    minimum_age: timedelta = timedelta(0)
    pin: str = ""
    skip: tuple[str, ...] = ()
    snoozed_until: datetime | None = None
    depends: tuple[str, ...] = ()
    poll: Poll | None = None
    problems: tuple[str, ...] = ()


def duration_of(text: str) -> timedelta:
    """Return the length ``90s``, ``30m``, ``12h``, ``3d`` or ``1w`` names; raise PolicyError."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise PolicyError(f"{text!r} is no duration", hint="as in 90s, 30m, 12h, 3d or 1w")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


def policy_of(config: Config) -> Policy:
    """Return the policy that expanded configuration tells of; never raises."""
    mode, wrong_mode = _read(config, UPDATE_KEY, _mode, Mode.OFF)
    source, wrong_source = _read(config, SOURCE_KEY, _source, None)
    always: tuple[Window, ...] = ()
    windows, wrong_windows = _read(config, WINDOW_KEY, windows_of, always)
    age, wrong_age = _read(config, MINIMUM_AGE_KEY, duration_of, timedelta(0))
    snoozed, wrong_snooze = _read(config, SNOOZE_KEY, _moment, None)
    poll, wrong_poll = _read(config, POLL_KEY, _poll, None)
    return Policy(
        mode=mode,
        source=source,
        certificate=config.get(CERTIFICATE_KEY, ""),
        windows=windows,
        minimum_age=age,
        pin=config.get(PIN_KEY, "").strip().lower(),
        skip=tuple(config.get(SKIP_KEY, "").lower().replace(",", " ").split()),
        snoozed_until=snoozed,
        depends=tuple(config.get(DEPENDS_KEY, "").replace(",", " ").split()),
        poll=poll,
        problems=(
            *(*wrong_mode, *wrong_source, *wrong_windows),
            *(*wrong_age, *wrong_snooze, *wrong_poll),
        ),
    )


def _read(
    config: Config, key: str, parse: Callable[[str], _Value], default: _Value
) -> tuple[_Value, tuple[str, ...]]:
    text = config.get(key, "")
    if not text:
        return default, ()
    try:
        return parse(text), ()
    except LxdockerError as error:
        return default, (f"{key}: {error.message}",)


def _mode(text: str) -> Mode:
    try:
        return Mode(text.strip())
    except ValueError as error:
        raise PolicyError(f"{text!r} is neither auto, notify nor off") from error


def _poll(text: str) -> Poll | None:
    try:
        return Poll(text.strip())
    except ValueError as error:
        raise PolicyError(f"{text!r} is neither remote nor lxd") from error


def _source(text: str) -> Source | None:
    return source_of_text(text)


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise PolicyError(f"{text!r} is no time", hint="as in 2026-12-24T18:00Z") from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def is_enrolled(instance: Instance, projects: frozenset[str]) -> bool:
    """Whether the instance is to be followed; an empty set allows every project."""
    return enrolment_of(instance, projects) is Enrolment.FOLLOWED


def enrolment_of(instance: Instance, projects: frozenset[str]) -> Enrolment:
    """Return whether an instance is followed: asked for, in an allowed project, and no copy.

    An instance whose keys don't say whom they were meant for, as those of a profile don't, is
    followed unless its stamp tells of another name. Never raises.
    """
    allowed = not projects or instance.project in projects
    if not allowed or not _asks_for_updates(instance):
        return Enrolment.OUTSIDE
    stamp = stamp_of(instance)
    if isinstance(stamp, Unreadable):
        return Enrolment.UNREADABLE
    if stamp is not None and stamp.phase in LEFT_BEHIND and instance.name != stamp.name:
        return Enrolment.OUTSIDE
    # In the middle of an update its two instances have other names, and their stamps fit these.
    ours = stamp is not None and is_ours(instance)
    held = instance.config.get(HOLDER_KEY, "")
    fits = held == holder_of(instance) if held else stamp is None
    return Enrolment.FOLLOWED if fits or ours else Enrolment.COPY


def holder_of(instance: Instance) -> str:
    """Return the value of ``HOLDER_KEY`` that fits the instance."""
    return f"{instance.project}/{instance.name}"


def _asks_for_updates(instance: Instance) -> bool:
    policy = policy_of(instance.expanded_config)
    return policy.mode is not Mode.OFF or any(
        problem.startswith(f"{UPDATE_KEY}:") for problem in policy.problems
    )
