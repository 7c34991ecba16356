"""Which instances are followed, and how: keys of an instance or of its profiles become a policy.

What isn't enrolled is never touched. A key that can't be understood keeps its instance from being
updated until somebody corrects it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import TypeVar

from lxdocker_lxd.errors import LxdockerError, UsageError
from lxdocker_lxd.lxd.records import Config, Instance
from lxdocker_lxd.update import root_disk, volume_policy
from lxdocker_lxd.update.health_check import check_of
from lxdocker_lxd.update.holder import HOLDER_KEY, holder_of
from lxdocker_lxd.update.hook import Point, names_of
from lxdocker_lxd.update.liveness import heal_of
from lxdocker_lxd.update.quantity import LONGEST_AGE, duration_of, moment_of, quoted
from lxdocker_lxd.update.rejection import RETRY_AFTER
from lxdocker_lxd.update.retention import LEFT_BEHIND, retention_problems
from lxdocker_lxd.update.source import CERTIFICATE_KEY, SOURCE_KEY, Source, source_of_text
from lxdocker_lxd.update.stop_timeout import stop_timeout_problems
from lxdocker_lxd.update.transaction import Unreadable, is_ours, stamp_of
from lxdocker_lxd.update.window import Window, windows_of

UPDATE_KEY = "user.lxdocker.update"
DEPENDS_KEY = "user.lxdocker.depends"
WINDOW_KEY = "user.lxdocker.update.window"
MINIMUM_AGE_KEY = "user.lxdocker.update.minimum_age"
PIN_KEY = "user.lxdocker.update.pin"
SKIP_KEY = "user.lxdocker.update.skip"
SNOOZE_KEY = "user.lxdocker.update.snooze"
RETRY_KEY = "user.lxdocker.update.retry_rejected"
POLL_KEY = "user.lxdocker.update.poll"
_Value = TypeVar("_Value")
_FINGERPRINT = re.compile(r"[0-9a-f]{1,64}")
_INSTANCE_NAME = re.compile(r"[A-Za-z0-9-]{1,63}")
_LONGEST_CERTIFICATE = 65536
_LONGEST_LIST = 16384
_MOST_WORDS = 200
_LEAST_RETRY = timedelta(hours=1)


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
    retry_rejected: timedelta = RETRY_AFTER
    snoozed_until: datetime | None = None
    depends: tuple[str, ...] = ()
    poll: Poll | None = None
    problems: tuple[str, ...] = ()


def policy_of(config: Config) -> Policy:
    """Return the policy that expanded configuration tells of.

    Never raises: what is wrong with any key that an update reads, those of the health check, the
    hooks and the retention among them, is a problem of the policy.
    """
    keys = _Keys(config)
    always: tuple[Window, ...] = ()
    no_names: tuple[str, ...] = ()
    nothing: datetime | None = None
    mode = keys.read(UPDATE_KEY, _mode, Mode.OFF)
    source = keys.read(SOURCE_KEY, _source, None)
    certificate = keys.read(CERTIFICATE_KEY, _certificate, "")
    windows = keys.read(WINDOW_KEY, windows_of, always)
    age = keys.read(MINIMUM_AGE_KEY, duration_of, timedelta(0))
    pin = keys.read(PIN_KEY, _fingerprint, "")
    skip = keys.read(SKIP_KEY, _fingerprints, no_names)
    retry = keys.read(RETRY_KEY, _retry, RETRY_AFTER)
    snoozed = keys.read(SNOOZE_KEY, _moment, nothing)
    depends = keys.read(DEPENDS_KEY, _instance_names, no_names)
    poll = keys.read(POLL_KEY, _poll, None)
    keys.check(check_of)
    keys.check(heal_of)
    for point in Point:
        keys.check(partial(names_of, point=point))
    keys.problems += retention_problems(config)
    keys.problems += filter(None, (root_disk.wrong_key(config), volume_policy.wrong_key(config)))
    keys.problems += stop_timeout_problems(config)
    return Policy(
        mode=mode,
        source=source,
        certificate=certificate,
        windows=windows,
        minimum_age=age,
        pin=pin,
        skip=skip,
        retry_rejected=retry,
        snoozed_until=snoozed,
        depends=depends,
        poll=poll,
        problems=tuple(keys.problems),
    )


class _Keys:
    """Reads keys one by one and collects what is wrong with them."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.problems: list[str] = []

    def read(self, key: str, parse: Callable[[str], _Value], default: _Value) -> _Value:
        """Return what the key says; the default without it, and where it can't be understood."""
        text = self._config.get(key, "")
        if not text:
            return default
        try:
            return parse(text)
        except LxdockerError as error:
            self.problems.append(f"{key}: {error.message}")
        except Exception as error:  # noqa: BLE001 - whatever a tenant writes, it ends no round
            self.problems.append(f"{key}: {quoted(text)} can't be read: {type(error).__name__}")
        return default

    def check(self, parse: Callable[[Config], object]) -> None:
        """Find out whether keys that are read later can be; their errors name them."""
        try:
            parse(self._config)
        except LxdockerError as error:
            self.problems.append(error.message)
        except Exception as error:  # noqa: BLE001 - as above
            self.problems.append(f"its keys can't be read: {type(error).__name__}")


def _mode(text: str) -> Mode:
    try:
        return Mode(text.strip())
    except ValueError as error:
        raise PolicyError(f"{quoted(text)} is neither auto, notify nor off") from error


def _poll(text: str) -> Poll | None:
    try:
        return Poll(text.strip())
    except ValueError as error:
        raise PolicyError(f"{quoted(text)} is neither remote nor lxd") from error


def _source(text: str) -> Source | None:
    return source_of_text(text)


def _certificate(text: str) -> str:
    if len(text) > _LONGEST_CERTIFICATE:
        raise PolicyError(f"it has more than {_LONGEST_CERTIFICATE} characters")
    return text


def _fingerprint(text: str) -> str:
    found = text.strip().lower()
    if not _FINGERPRINT.fullmatch(found):
        raise PolicyError(
            f"{quoted(text)} begins no fingerprint", hint="1 to 64 of the digits 0-9 and a-f"
        )
    return found


def _words(text: str) -> list[str]:
    words = text[:_LONGEST_LIST].replace(",", " ").split()
    if len(text) > _LONGEST_LIST or len(words) > _MOST_WORDS:
        raise PolicyError(f"it has more than {_MOST_WORDS} words or {_LONGEST_LIST} characters")
    return words


def _fingerprints(text: str) -> tuple[str, ...]:
    return tuple(_fingerprint(word) for word in _words(text))


def _instance_names(text: str) -> tuple[str, ...]:
    names = tuple(_words(text))
    wrong = next((name for name in names if not _INSTANCE_NAME.fullmatch(name)), None)
    if wrong is not None:
        raise PolicyError(f"{quoted(wrong)} is no name of an instance")
    return names


def _retry(text: str) -> timedelta:
    if text.strip() == "never":
        return LONGEST_AGE
    found = duration_of(text)
    if found < _LEAST_RETRY:
        # Each attempt is an outage.
        raise PolicyError(f"{quoted(text)} is less than an hour")
    return found


def _moment(text: str) -> datetime | None:
    return moment_of(text)


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


def _asks_for_updates(instance: Instance) -> bool:
    """Whether its key says something else than off; one that can't be understood is told of."""
    text = instance.expanded_config.get(UPDATE_KEY, "")
    return bool(text) and text.strip() != Mode.OFF
