"""Hooks: what else has to be done, or agree, around an update. Pure.

An instance's keys hold names of hooks, never commands or URLs. What a name stands for is defined by
root's configuration, and else by the program of that name in the instance's own hook directory.

Exit code 0 goes on, 75 puts the update off (EX_TEMPFAIL of sysexits.h), anything else forbids it,
and so do a missing program and one that takes too long.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from lxdocker_lxd.errors import LxdError, UsageError
from lxdocker_lxd.lxd.records import DEFAULT_PROJECT, Config
from lxdocker_lxd.update.means import PutOffError
from lxdocker_lxd.update.quantity import quoted
from lxdocker_lxd.update.redaction import cleaned

KEY_PREFIX = "user.lxdocker.update.hook."
GUEST_DIRECTORY = "/etc/lxdocker-lxd/hooks"
DEFER = 75
MOST_HOOKS = 16
DEFAULT_TIMEOUT_SECONDS = 60.0
_LONGEST_TEXT = 4096
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class HookError(UsageError):
    """A hook that isn't named or defined as one."""


class HookRefusedError(LxdError):
    """A hook didn't let the update go on, before anything was changed."""


class HookDeferredError(HookRefusedError, PutOffError):
    """A hook put the update off; it will be asked again."""


class Point(StrEnum):
    """When hooks are run.

    ``before``: the new version lies ready, the old one still runs. ``after``: the new version runs
    and is healthy; a hook that forbids turns back. ``back``: the old version is back; nothing
    depends on what its hooks say.
    """

    BEFORE = "before"
    AFTER = "after"
    BACK = "back"

    @property
    def key(self) -> str:
        """The instance key with the names of its hooks."""
        return KEY_PREFIX + self


class Choice(StrEnum):
    """What a hook says of the update."""

    GO = "go"
    DEFER = "defer"
    ABORT = "abort"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """What a name stands for. On the host only for instances of ``projects``.

    ``user_id`` and ``group_id`` count inside the instance; on the host hooks run as the updater.
    """

    name: str
    where: Literal["instance", "host"] = "instance"
    words: tuple[str, ...] = ()
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    user_id: int = 0
    group_id: int = 0
    projects: frozenset[str] = frozenset({DEFAULT_PROJECT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """What hooks are told of the update; ``running`` and ``fingerprint`` are its two versions.

    ``early`` says that nothing was made of the new version yet, and that they are asked again.
    """

    point: Point
    project: str
    name: str
    running: str = ""
    fingerprint: str = ""
    transaction: str = ""
    reason: str = ""
    early: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What the hooks of one point say together, and which of them why."""

    choice: Choice = Choice.GO
    reason: str = ""


def is_hook_name(text: str) -> bool:
    """Whether ``text`` can name a hook: lower case letters, digits, ``-`` and ``_``."""
    return _NAME.fullmatch(text) is not None


def names_of(config: Config, point: Point) -> tuple[str, ...]:
    """Return the hooks' names in an instance's expanded configuration; raise HookError."""
    text = config.get(point.key, "")
    if len(text) > _LONGEST_TEXT:
        raise HookError(f"{point.key}: it has more than {_LONGEST_TEXT} characters")
    names = tuple(dict.fromkeys(text.replace(",", " ").split()))
    wrong = [name for name in names if not is_hook_name(name)]
    if wrong:
        raise HookError(
            f"{point.key}: {quoted(wrong[0])} is no name of a hook",
            hint="names have lower case letters, digits, - and _; commands belong to root's "
            "configuration, or into the instance",
        )
    if len(names) > MOST_HOOKS:
        raise HookError(f"{point.key}: more than {MOST_HOOKS} hooks")
    return names


def hooks_of(
    config: Config, point: Point, defined: Mapping[str, Hook], *, project: str
) -> tuple[Hook, ...]:
    """Return the hooks that apply, in order; raise HookError.

    A host's hook that isn't meant for the project is an error and not one of the instance, lest the
    same name mean two things.
    """
    found = []
    for name in names_of(config, point):
        hook = defined.get(name)
        if hook is None:
            hook = Hook(name=name, words=(f"{GUEST_DIRECTORY}/{name}",))
        elif hook.where == "host" and project not in hook.projects:
            raise HookError(
                f"{point.key}: the hook {name} of the host isn't for the project {project}",
                hint=f"root can add it: update: hooks: {name}: projects",
            )
        found.append(hook)
    return tuple(found)


def environment_of(occasion: Occasion, hook: Hook) -> dict[str, str]:
    """Return what a hook finds in its environment; on the host beside PATH, and nothing else."""
    stage = "early" if occasion.early else "late"
    return {
        "LXDOCKER_HOOK": hook.name,
        "LXDOCKER_POINT": str(occasion.point),
        "LXDOCKER_PROJECT": occasion.project,
        "LXDOCKER_INSTANCE": occasion.name,
        "LXDOCKER_FROM": occasion.running,
        "LXDOCKER_TO": occasion.fingerprint,
        "LXDOCKER_TRANSACTION": occasion.transaction,
        "LXDOCKER_REASON": cleaned(occasion.reason),
        "LXDOCKER_STAGE": stage if occasion.point is Point.BEFORE else "",
    }


def said_by(hook: Hook, exit_code: int, output: bytes, *, timed_out: bool = False) -> Said:
    """Return what an ended hook says; ``output`` explains it."""
    if timed_out:
        return Said(
            choice=Choice.ABORT,
            reason=f"the hook {hook.name} didn't end within {hook.timeout_seconds:g} s",
        )
    if exit_code == 0:
        return Said()
    words = cleaned(output.decode("utf-8", "replace"))
    because = f": {words}" if words else ""
    if exit_code == DEFER:
        return Said(choice=Choice.DEFER, reason=f"the hook {hook.name} puts it off{because}")
    missing = " (no such program)" if exit_code == 127 else ""  # noqa: PLR2004 - as shells say it
    return Said(
        choice=Choice.ABORT,
        reason=f"the hook {hook.name} ended with {exit_code}{missing}{because}",
    )
