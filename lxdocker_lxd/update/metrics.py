"""What the updater did, in Prometheus' text format (exposition format 0.0.4). Pure.

Counters begin anew at each start, as Prometheus expects. A tally is a value: whoever serves it
reads the last one and never waits for the updater.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from lxdocker_lxd.update.cause import Cause
from lxdocker_lxd.update.means import Outcome
from lxdocker_lxd.update.plan import Choice, Decision
from lxdocker_lxd.update.procedure import Act

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "lxdocker_lxd_update_"
_BUCKETS_SECONDS = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_UPDATE_ENDS = (Act.COMMITTED, Act.ROLLED_BACK, Act.GIVEN_UP, Act.USER_TOOK_OVER, Act.HOLD)
# Every reason there is from the start: a counter that isn't there can't be alarmed on.
FAILURES = ("unhealthy", "turned_back", "given_up", "user_took_over", "held", "problem", "round")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxGauge:
    """How full the outbox is for one receiver; ``oldest`` is when its first message came."""

    receiver: str
    waiting: int
    aside: int
    oldest: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What happened since the start; each ``with_`` returns a new one."""

    started: datetime
    rounds: Mapping[str, int] = field(default_factory=dict)
    ends: Mapping[str, int] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    decided: Mapping[str, int] = field(default_factory=dict)
    outages: tuple[int, ...] = (0,) * (len(_BUCKETS_SECONDS) + 1)
    outage_seconds: float = 0.0
    restarts: int = 0
    health_restarts: int = 0
    unhealthy: tuple[tuple[str, str], ...] = ()
    last_round: datetime | None = None
    last_good_round: datetime | None = None
    breakers: tuple[tuple[str, str], ...] = ()
    pending_since: Mapping[tuple[str, str, str], datetime] = field(default_factory=dict)

    def with_round(
        self,
        now: datetime,
        *,
        good: bool,
        outcomes: Iterable[Outcome] = (),
        decisions: Iterable[Decision] = (),
        restarts: int = 0,
        healed: int = 0,
        unhealthy: Iterable[tuple[str, str]] = (),
        problems: int = 0,
    ) -> "Tally":
        """Count a round that came to its end."""
        ended, decided = tuple(outcomes), tuple(decisions)
        failures = Counter(
            _failure(outcome) for outcome in ended if outcome.act is not Act.COMMITTED
        )
        failures["problem"] += problems
        outages = [one.outage_seconds for one in ended if one.outage_seconds is not None]
        counts = list(self.outages)
        for seconds in outages:
            counts[_bucket(seconds)] += 1
        done = {
            (one.transaction.project, one.transaction.name)
            for one in ended
            if one.act is Act.COMMITTED
        }
        return replace(
            self,
            rounds=_sum(self.rounds, {"good" if good else "bad": 1}),
            ends=_sum(self.ends, Counter(_slug(outcome.act) for outcome in ended)),
            failures=_sum(self.failures, failures),
            decided=Counter(str(decision.choice) for decision in decided),
            outages=tuple(counts),
            outage_seconds=self.outage_seconds + sum(outages),
            restarts=self.restarts + restarts,
            health_restarts=self.health_restarts + healed,
            unhealthy=tuple(sorted(unhealthy)),
            last_round=now,
            last_good_round=now if good else self.last_good_round,
            breakers=tuple(sorted(one.key for one in decided if is_breaker(one))),
            pending_since=_pending(self.pending_since, decided, done, now),
        )

    def with_failed_round(self, now: datetime) -> "Tally":
        """Count a round that an error ended: LXD or the journal couldn't be reached."""
        return replace(
            self,
            rounds=_sum(self.rounds, {"failed": 1}),
            failures=_sum(self.failures, {"round": 1}),
            last_round=now,
        )


def is_breaker(decision: Decision) -> bool:
    """Whether a decision says that too many versions in a row were rolled back."""
    return decision.cause is Cause.BREAKER


def _pending(
    known: Mapping[tuple[str, str, str], datetime],
    decisions: tuple[Decision, ...],
    done: set[tuple[str, str]],
    now: datetime,
) -> dict[tuple[str, str, str], datetime]:
    """Return since when each new version waits for its instance."""
    return {
        key: known.get(key, now)
        for one in decisions
        if one.fingerprint and one.fingerprint != one.running and one.key not in done
        for key in [(*one.key, one.fingerprint)]
    }


def _failure(outcome: Outcome) -> str:
    if outcome.act is Act.ROLLED_BACK:
        return "unhealthy" if outcome.blame else "turned_back"
    return "held" if outcome.act is Act.HOLD else _slug(outcome.act)


def _slug(act: Act) -> str:
    return "held" if act is Act.HOLD else str(act).replace(" ", "_")


def _bucket(seconds: float) -> int:
    limits = enumerate(_BUCKETS_SECONDS)
    return next((number for number, limit in limits if seconds <= limit), len(_BUCKETS_SECONDS))


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    total = Counter(one)
    total.update(other)
    return dict(total)


# ---- as text


def rendered(
    tally: Tally, now: datetime, *, outbox: Iterable[OutboxGauge] = (), dropped: int = 0
) -> bytes:
    """Return all of it as text, in a fixed order."""
    lines = (*_counters(tally), *_gauges(tally, now), *_outbox(outbox, dropped, now))
    return "".join(f"{line}\n" for line in lines).encode()


def _counters(tally: Tally) -> Iterator[str]:
    yield from _family("rounds_total", "counter", "Rounds by how they went.")
    yield from _counted("rounds_total", "result", tally.rounds, ("good", "bad", "failed"))
    yield from _family("updates_total", "counter", "Updates by how they ended.")
    ends = tuple(_slug(act) for act in _UPDATE_ENDS)
    yield from _counted("updates_total", "result", tally.ends, ends)
    yield from _family("rollbacks_total", "counter", "Updates that went back to the old version.")
    yield _line("rollbacks_total", tally.ends.get("rolled_back", 0))
    yield from _family("failures_total", "counter", "What didn't go well, by reason.")
    yield from _counted("failures_total", "reason", tally.failures, FAILURES)
    yield from _family("restarts_total", "counter", "Dependants that were restarted.")
    yield _line("restarts_total", tally.restarts)
    yield from _family(
        "health_restarts_total", "counter", "Instances that were restarted for their health."
    )
    yield _line("health_restarts_total", tally.health_restarts)
    yield from _family("outage_seconds", "histogram", "From the old version's end to a new start.")
    count = 0
    shown = (*(f"{limit:g}" for limit in _BUCKETS_SECONDS), "+Inf")
    for limit, number in zip(shown, tally.outages, strict=True):
        count += number
        yield _line("outage_seconds_bucket", count, le=limit)
    yield _line("outage_seconds_sum", round(tally.outage_seconds, 6))
    yield _line("outage_seconds_count", count)


def _gauges(tally: Tally, now: datetime) -> Iterator[str]:
    yield from _family("start_time_seconds", "gauge", "When the updater started.")
    yield _line("start_time_seconds", tally.started.timestamp())
    if tally.last_round is not None:
        yield from _family("last_round_time_seconds", "gauge", "When the last round ended.")
        yield _line("last_round_time_seconds", tally.last_round.timestamp())
    good = tally.last_good_round
    yield from _family(
        "good_round_age_seconds", "gauge", "Since the last good round, or the start."
    )
    yield _line("good_round_age_seconds", _age(good or tally.started, now))
    yield from _family("decisions", "gauge", "Enrolled instances by what is done with them.")
    yield from _counted("decisions", "choice", tally.decided, tuple(str(one) for one in Choice))
    yield from _family("breakers_open", "gauge", "Instances whose versions failed too often.")
    yield _line("breakers_open", len(tally.breakers))
    yield from _family("breaker_open", "gauge", "1 for each of these instances.")
    for project, name in tally.breakers:
        yield _line("breaker_open", 1, project=project, name=name)
    yield from _family("unhealthy", "gauge", "Followed instances whose health check fails.")
    yield _line("unhealthy", len(tally.unhealthy))
    yield from _family("instance_unhealthy", "gauge", "1 for each of these instances.")
    for project, name in tally.unhealthy:
        yield _line("instance_unhealthy", 1, project=project, name=name)
    oldest = min(tally.pending_since.values(), default=now)
    yield from _family(
        "oldest_pending_seconds", "gauge", "Since when a new version waits; 0: none."
    )
    yield _line("oldest_pending_seconds", _age(oldest, now))


def _outbox(gauges: Iterable[OutboxGauge], dropped: int, now: datetime) -> Iterator[str]:
    found = sorted(gauges, key=lambda gauge: gauge.receiver)
    yield from _family("messages_waiting", "gauge", "Messages that wait to be delivered.")
    for one in found:
        yield _line("messages_waiting", one.waiting, receiver=one.receiver)
    yield from _family("messages_aside", "gauge", "Messages that receivers refused.")
    for one in found:
        yield _line("messages_aside", one.aside, receiver=one.receiver)
    yield from _family("oldest_message_seconds", "gauge", "Age of the first waiting message.")
    for one in found:
        yield _line("oldest_message_seconds", _age(one.oldest or now, now), receiver=one.receiver)
    yield from _family("messages_dropped_total", "counter", "Messages given up undelivered.")
    yield _line("messages_dropped_total", dropped)


def _age(since: datetime, now: datetime) -> float:
    return max(0.0, round((now - since).total_seconds(), 3))


def _counted(
    name: str, label: str, counts: Mapping[str, int], always: tuple[str, ...]
) -> Iterator[str]:
    for value in sorted({*counts, *always}):
        yield _line(name, counts.get(value, 0), **{label: value})


def _family(name: str, kind: str, meaning: str) -> Iterator[str]:
    yield f"# HELP {_PREFIX}{name} {meaning}"
    yield f"# TYPE {_PREFIX}{name} {kind}"


def _line(metric: str, value: float, /, **labels: str) -> str:
    inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{_PREFIX}{metric}{{{inside}}} {value!r}" if inside else f"{_PREFIX}{metric} {value!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
