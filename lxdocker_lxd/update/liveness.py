"""The liveness of followed instances at run time: what checks say, and what is done about it. Pure.

An instance whose health check fails for its retries is unhealthy. It may be restarted, a few times an
hour and ever more slowly; when that doesn't help it is told of, and left. A check that can't be
asked says nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.guest_health import Health
from lxdocker_lxd.lxd.records import Config

HEAL_KEY = "user.lxdocker.heal"
BUDGET = 3
"""So many restarts within ``BUDGET_TIME``; then the instance is left until it is healthy again."""
BUDGET_TIME = timedelta(hours=1)
_FIRST_REST = timedelta(minutes=1)
_FORMAT = 1
_MOST_FAILURES = 1 << 20

Key = tuple[str, str]
"""Project and name."""


class HealError(UsageError):
    """A value of ``HEAL_KEY`` that can't be understood."""


class Heal(StrEnum):
    """What is done with an unhealthy instance."""

    RESTART = "restart"
    NOTIFY = "notify"
    OFF = "off"


class Remedy(StrEnum):
    """What is to be done now."""

    NOTHING = "nothing"
    TELL = "tell"
    RESTART = "restart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Liveness:
    """What is known of one instance's health.

    ``since`` is when ``health`` became what it is; ``failures`` count in a row. ``restarts`` are the
    moments of those that the updater made for it, ``told`` that its state was announced.
    """

    health: Health = Health.UNKNOWN
    since: datetime | None = None
    checked_at: datetime | None = None
    failures: int = 0
    restarts: tuple[datetime, ...] = ()
    told: bool = False


def heal_of(config: Config) -> Heal:
    """Return what an instance's expanded configuration asks for; raise HealError."""
    text = config.get(HEAL_KEY, "").strip()
    try:
        return Heal(text) if text else Heal.NOTIFY
    except ValueError as error:
        raise HealError(f"{HEAL_KEY}: {text[:40]!r} is neither restart, notify nor off") from error


def begin(known: Liveness, started_at: datetime | None, now: datetime) -> Liveness:
    """Return what is known of an instance that was started at ``started_at``.

    A new start makes what older checks said meaningless; the restarts still count. What is known
    since a moment that hasn't come yet is of a clock that was ahead, and may be older than the start.
    """
    if started_at is None or started_at > now:
        return known
    if known.since is not None and started_at <= known.since <= now:
        return known
    return Liveness(health=Health.STARTING, since=started_at, restarts=known.restarts)


def observe(
    known: Liveness, answer: Health, now: datetime, *, retries: int, in_start_period: bool
) -> Liveness:
    """Return what is known after one check; what is neither healthy nor unhealthy says nothing."""
    if answer not in {Health.HEALTHY, Health.UNHEALTHY}:
        return replace(known, checked_at=now)
    if answer is Health.HEALTHY:
        if known.health is Health.HEALTHY:
            return replace(known, failures=0, checked_at=now)
        return Liveness(health=Health.HEALTHY, since=now, checked_at=now, restarts=known.restarts)
    if in_start_period and known.health is not Health.HEALTHY:
        since = known.since or now
        return replace(known, health=Health.STARTING, since=since, checked_at=now)
    failures = min(known.failures + 1, _MOST_FAILURES)
    if failures < retries or known.health is Health.UNHEALTHY:
        return replace(known, failures=failures, checked_at=now)
    return replace(
        known,
        health=Health.UNHEALTHY,
        since=now,
        checked_at=now,
        failures=failures,
        told=False,
    )


def remedy_for(known: Liveness, heal: Heal, now: datetime) -> Remedy:
    """Return what is to be done about an instance now."""
    if known.health is not Health.UNHEALTHY or heal is Heal.OFF:
        return Remedy.NOTHING
    if heal is Heal.NOTIFY or is_exhausted(known, now):
        return Remedy.NOTHING if known.told else Remedy.TELL
    recent = _recent(known, now)
    # The first time at once, then after 1, 4, 16 minutes.
    rest = _FIRST_REST * (1 << 2 * (len(recent) - 1)) if recent else timedelta(0)
    due = recent[-1] + rest if recent else now
    return Remedy.RESTART if now >= due else Remedy.NOTHING


def is_exhausted(known: Liveness, now: datetime) -> bool:
    """Whether restarts didn't help, and there are to be no more for now."""
    return len(_recent(known, now)) >= BUDGET


def restarted(known: Liveness, now: datetime) -> Liveness:
    """Return what is known right after the updater restarted the instance."""
    return Liveness(
        health=Health.STARTING, since=now, restarts=(*_recent(known, now), now)[-BUDGET:]
    )


def _recent(known: Liveness, now: datetime) -> tuple[datetime, ...]:
    return tuple(moment for moment in known.restarts if timedelta(0) <= now - moment < BUDGET_TIME)


# ---- as a document


def encode_liveness(known: Mapping[Key, Liveness]) -> dict[str, object]:
    """Return what is known of all as plain values for JSON."""
    return {
        "format": _FORMAT,
        "instances": [
            {
                "project": project,
                "name": name,
                "health": one.health,
                "since": _text(one.since),
                "checked_at": _text(one.checked_at),
                "failures": one.failures,
                "restarts": [_text(moment) for moment in one.restarts],
                "told": one.told,
            }
            for (project, name), one in sorted(known.items())
        ],
    }


def decode_liveness(document: object) -> dict[Key, Liveness]:
    """Return what a document holds; nothing for one that isn't understood. Never raises.

    It is no more than a memory: without it, the next checks tell.
    """
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        return {}
    found: dict[Key, Liveness] = {}
    items = document.get("instances")
    for item in items if isinstance(items, list) else []:
        try:
            found[str(item["project"]), str(item["name"])] = Liveness(
                health=Health(item["health"]),
                since=_moment(item["since"]),
                checked_at=_moment(item["checked_at"]),
                failures=min(max(int(item["failures"]), 0), _MOST_FAILURES),
                restarts=tuple(
                    moment for text in item["restarts"][-BUDGET:] if (moment := _moment(text))
                ),
                told=item["told"] is True,
            )
        except (ValueError, KeyError, TypeError, OverflowError):
            continue
    return found


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()


def _moment(text: object) -> datetime | None:
    if text is None:
        return None
    moment = datetime.fromisoformat(str(text))
    if moment.tzinfo is None:
        raise ValueError("a moment without a time zone")
    return moment
