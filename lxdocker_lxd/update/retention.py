"""How long the copies that updates leave are kept: by proof first, then by time and number. Pure.

The last root file system of a name that was shown to work is never removed, whatever its age and
however many newer ones there are that prove nothing.
"""

import contextlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.lxd.records import Config, Instance
from lxdocker_lxd.update.holder import is_successor
from lxdocker_lxd.update.quantity import duration_of, number_of
from lxdocker_lxd.update.transaction import (
    MOST_UPDATES,
    Phase,
    Proof,
    Stamp,
    Unreadable,
    is_ours,
    parked_name,
    stamp_of,
)

KEEP_KEY = "user.lxdocker.update.keep"
COPIES_KEY = "user.lxdocker.update.keep_copies"
KEEP = timedelta(hours=72)
"""How long a copy is kept where nothing else is said."""
LEFT_BEHIND = frozenset({Phase.KEPT, Phase.REJECTED, Phase.RETIRED})
"""The phases of an instance that an update has left beside the one with the name."""
LONG_RUN = timedelta(hours=24)
"""An instance that was seen running for so long is proved, whoever made it."""
MOST_COPIES = 1000
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_PROVED = 2
_WORTH = {
    Proof.GATE: _PROVED,
    Proof.RAN: _PROVED,
    Proof.NEVER_RAN: 0,
    Proof.CRASHED: 0,
    None: 1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """For how long a copy is kept, and how many of one name, the newest ones."""

    keep: timedelta = KEEP
    copies: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionDefaults:
    """What holds for instances whose keys don't say it: by project, and everywhere else."""

    everywhere: Retention = Retention()
    projects: Mapping[str, Retention] = field(default_factory=dict)

    def of(self, project: str) -> Retention:
        """Return what holds in a project."""
        return self.projects.get(project, self.everywhere)


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """What an update left beside an instance, to go back to or because a version failed.

    ``needed`` says why it can't be removed whatever its time; ``until`` when it will be, None when a
    round would do it now. ``newer`` is how many of its name are newer, and ``dated`` when it became
    one, never later than those.
    """

    instance: Instance
    stamp: Stamp
    needed: str
    until: datetime | None
    newer: int
    dated: datetime

    @property
    def removable(self) -> bool:
        """Whether a round would remove it."""
        return not self.needed and self.until is None

    @property
    def order(self) -> tuple[bool, datetime, int]:
        """What sorts copies by how much they are missed: failed versions first, then by age."""
        return (self.stamp.phase is not Phase.REJECTED, self.dated, -self.newer)


def retention_of(config: Config, default: Retention) -> Retention:
    """Return what an instance's expanded configuration asks for; never raises.

    A value that can't be understood counts as absent here; ``retention_problems`` names it.
    """
    keep, copies = default.keep, default.copies
    if text := config.get(KEEP_KEY, ""):
        with contextlib.suppress(UsageError):
            keep = duration_of(text)
    if text := config.get(COPIES_KEY, ""):
        with contextlib.suppress(UsageError):
            copies = number_of(text, least=1, most=MOST_COPIES)
    return Retention(keep=keep, copies=copies)


def retention_problems(config: Config) -> tuple[str, ...]:
    """Return what can't be understood of the keys that ``retention_of`` reads."""
    found = []
    if text := config.get(KEEP_KEY, ""):
        try:
            duration_of(text)
        except UsageError as error:
            found.append(f"{KEEP_KEY}: {error.message}; it is a time as 12h, 3d or 2w")
    if text := config.get(COPIES_KEY, ""):
        try:
            number_of(text, least=1, most=MOST_COPIES)
        except UsageError as error:
            found.append(f"{COPIES_KEY}: {error.message}")
    return tuple(found)


# ---- proof


def proof_of(
    instance: Instance, *, crashed: bool = False, ran: bool = False
) -> tuple[Proof | None, str]:
    """Return how the root of an instance in use was shown to work, and by which check.

    ``ran``: it was seen running for a day. None is not known: nothing was written down, or it was
    installed on a stopped instance that runs now.
    """
    if crashed:
        return Proof.CRASHED, ""
    stamp = stamp_of(instance)
    held = stamp if isinstance(stamp, Stamp) and is_ours(instance) else None
    proof = held.proof if held is not None and held.phase is Phase.COMMITTED else None
    if proof in {Proof.GATE, Proof.RAN}:
        return proof, held.check if held is not None else ""
    if ran:
        return Proof.RAN, ""
    return None if proof is Proof.NEVER_RAN and instance.running else proof, ""


def unproved_holders(instances: Iterable[Instance]) -> tuple[Instance, ...]:
    """Return the instances at rest whose copies go by their time once a day of running proves them."""
    everything = tuple(instances)
    by_name = {(instance.project, instance.name): instance for instance in everything}
    found = []
    for key, group in _left_behind(everything).items():
        holder = by_name.get(key)
        if holder is None or not holder.running or not _is_successor(holder, group):
            continue
        if all(stamp.phase is Phase.REJECTED for _, stamp in group):
            continue
        stamp = stamp_of(holder)
        at_rest = stamp is None or (isinstance(stamp, Stamp) and stamp.phase is Phase.COMMITTED)
        if at_rest and _worth_of_holder(holder) < _PROVED:
            found.append(holder)
    return tuple(found)


def _worth_of_holder(holder: Instance, *, ran: bool = False) -> int:
    """How well the instance that has the name is proved; 0 while it could have crashed."""
    stamp = stamp_of(holder)
    if isinstance(stamp, Stamp) and stamp.ran and not holder.running:
        return 0
    return _WORTH[proof_of(holder, ran=ran)[0]]


# ---- copies


def copies_of(
    instances: Iterable[Instance],
    now: datetime,
    default: RetentionDefaults | None = None,
    ages: Mapping[str, timedelta] | None = None,
    ran: Collection[tuple[str, str]] = (),
) -> tuple[Copy, ...]:
    """Return the copies that updates left, each where its stamp says.

    A copy is needed while it is the last root of its name that was shown to work, while its name's
    instance is missing or in the middle of an update, and when it runs or is protected. Otherwise it
    is kept for its time, and only the newest few of a name. What has the name speaks for its copies only
    if it is their successor; else the name counts as vacant. ``ages`` are the copies' ages by the id of
    their update; without them the dates of their stamps count. ``ran`` are projects and names of
    instances that were seen running for a day.
    """
    everything = tuple(instances)
    by_name = {(instance.project, instance.name): instance for instance in everything}
    found: list[Copy] = []
    for key, group in _left_behind(everything).items():
        in_project = (default or RetentionDefaults()).of(key[0])
        found += _copies_of_name(group, by_name.get(key), now, in_project, ages, ran=key in ran)
    return tuple(sorted(found, key=lambda copy: (copy.instance.project, copy.instance.name)))


def _left_behind(
    instances: Iterable[Instance],
) -> dict[tuple[str, str], list[tuple[Instance, Stamp]]]:
    """Group what updates left, each where its stamp says, by project and name of its instance."""
    groups: dict[tuple[str, str], list[tuple[Instance, Stamp]]] = {}
    for instance in instances:
        stamp = stamp_of(instance)
        if not isinstance(stamp, Stamp) or stamp.phase not in LEFT_BEHIND:
            continue
        if instance.name == parked_name(stamp.name, stamp.role, stamp.transaction):
            groups.setdefault((instance.project, stamp.name), []).append((instance, stamp))
    return groups


def _is_successor(holder: Instance, group: list[tuple[Instance, Stamp]]) -> bool:
    return is_successor(holder, {stamp.transaction for _, stamp in group})


def _copies_of_name(
    group: list[tuple[Instance, Stamp]],
    holder: Instance | None,
    now: datetime,
    default: Retention,
    ages: Mapping[str, timedelta] | None,
    *,
    ran: bool,
) -> list[Copy]:
    if holder is not None and not _is_successor(holder, group):
        holder = None
    last = stamp_of(holder) if holder is not None else None
    newest_first = sorted(group, key=lambda one: _recency(one[1], last), reverse=True)
    config = holder.expanded_config if holder is not None else newest_first[0][0].expanded_config
    retention = retention_of(config, default)
    best = -1 if holder is None else _worth_of_holder(holder, ran=ran)
    failed, good = 0, 0
    dated = datetime.max.replace(tzinfo=UTC)
    found: list[Copy] = []
    for instance, stamp in newest_first:
        dated = min(dated, _moment(stamp))
        if stamp.phase is Phase.REJECTED:
            failed += 1
            last_proved, surplus = False, failed > 1
        else:
            good += 1
            worth = _WORTH[stamp.proof]
            # What isn't known to work never takes the place of what may.
            last_proved, surplus = worth > 0 and best < _PROVED, good > retention.copies
            best = max(best, worth)
        until = _until(stamp, retention)
        if ages is not None and until is not None:
            until = now + retention.keep - ages.get(stamp.transaction, timedelta(0))
        over = holder is not None and (surplus or until is None or now >= until)
        found.append(
            Copy(
                instance=instance,
                stamp=stamp,
                needed=_needed(instance, holder, stamp, last_proved=last_proved),
                until=None if over else until,
                newer=len(found),
                dated=dated,
            )
        )
    return found


def next_sequence(instances: Iterable[Instance], name: str, project: str) -> int:
    """Return the number of the next update of a name: beyond those of all that earlier ones left."""
    stamps = (stamp_of(one) for one in instances if one.project == project)
    known = [one.sequence for one in stamps if isinstance(one, Stamp) and one.name == name]
    return min(max(known, default=0) + 1, MOST_UPDATES)


def _recency(stamp: Stamp, last: Stamp | Unreadable | None) -> tuple[bool, int, datetime]:
    """What sorts the copies of a name from the oldest to the newest.

    The last update is the one whose stamp the instance with the name has. Clocks jump, so dates count
    only among stamps of versions that didn't number the updates, which are older than the numbered.
    """
    newest = (
        isinstance(last, Stamp)
        and last.phase is Phase.COMMITTED
        and last.transaction == stamp.transaction
    )
    return (newest, stamp.sequence, _moment(stamp))


def _moment(stamp: Stamp) -> datetime:
    return stamp.since or stamp.until or _LONG_AGO


def _until(stamp: Stamp, retention: Retention) -> datetime | None:
    """When its time is over; stamps of older versions hold that moment alone."""
    return stamp.until if stamp.since is None else stamp.since + retention.keep


def _needed(instance: Instance, holder: Instance | None, stamp: Stamp, *, last_proved: bool) -> str:
    reason = _awaited(holder, stamp)
    if reason:
        return reason
    if last_proved:
        return f"it is the last version of {stamp.name} that was shown to work"
    if instance.status != "Stopped":
        return f"it is {instance.status.lower()}"
    if instance.expanded_config.get("security.protection.delete") == "true":
        return "security.protection.delete is set"
    return ""


def _awaited(holder: Instance | None, stamp: Stamp) -> str:
    """Why nothing can be said yet: the name is vacant, or not at rest."""
    if holder is None:
        return f"{stamp.name} is gone, or isn't the instance that the copy was kept for"
    held = stamp_of(holder)
    if isinstance(held, Unreadable):
        return f"the stamp of {stamp.name} can't be read by this version"
    if held is not None and held.phase is not Phase.COMMITTED:
        return f"an update of {stamp.name} isn't finished"
    return ""
