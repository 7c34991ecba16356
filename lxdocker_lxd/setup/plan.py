"""From what is there and what shall be to what has to be done. Pure.

The comparison is one for all kinds of things; what a thing's state file record says decides whether a
difference is a crash half-way, an older version's work, or somebody's wish.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lxdocker_lxd.errors import LxdockerError, UsageError
from lxdocker_lxd.setup.item import DAMAGE, Item, Key, Value
from lxdocker_lxd.setup.record import Record, SetupState

Action = Literal["already", "create", "change", "confirm", "leave"]
"""``confirm``: it was made, and the record of that was lost in a crash. ``leave``: others changed it."""

Looked = Mapping[Key, Value | None]
"""How each thing is now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """A thing that can't be looked at, and why; ``ownerless`` when it was of a user who is gone."""

    error: LxdockerError
    ownerless: bool = False


class TakenError(UsageError):
    """Something of somebody else's is where setup wants to put its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One item and what is to be done about it; ``before`` is what taking back would restore."""

    item: Item
    action: Action
    before: Value | None

    @property
    def changes(self) -> bool:
        """Whether doing it changes anything outside of the state file."""
        return self.action in {"create", "change"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All steps in order, and what a person should know beside them."""

    steps: tuple[Step, ...]
    remarks: tuple[str, ...] = ()

    @property
    def nothing(self) -> bool:
        """Whether everything is as wanted."""
        return all(step.action in {"already", "leave"} for step in self.steps)


def plan(
    items: Iterable[Item], looked: Looked, state: SetupState, remarks: Iterable[str] = ()
) -> Plan:
    """Return what to do; raise TakenError when an item's place is taken by somebody else's thing."""
    steps = tuple(_step(item, looked.get(item.key), state.get(item.key)) for item in items)
    left = tuple(
        f"{step.item.name}: changed by somebody since setup wrote it; left as it is"
        for step in steps
        if step.action == "leave"
    )
    return Plan(steps=steps, remarks=(*remarks, *left))


def _step(item: Item, now: Value | None, record: Record | None) -> Step:
    if record is None:
        return _fresh_step(item, now)
    before = record.before
    if now == item.wanted:
        action: Action = "already" if record.done and record.after == item.wanted else "confirm"
    elif now is None:
        action = "create"
    elif _may_change(item, now, record):
        action = "change"
    else:
        action = "already" if item.policy == "keep" else "leave"
    return Step(item=item, action=action, before=before)


def _may_change(item: Item, now: Value, record: Record) -> bool:
    """Whether what differs is setup's own or half done, not somebody's wish."""
    if item.policy == "insist" or not record.done or DAMAGE in now:
        return True
    return item.policy != "keep" and now in (record.after, record.before)


def _fresh_step(item: Item, now: Value | None) -> Step:
    if now is None:
        return Step(item=item, action="create", before=None)
    if now == item.wanted or item.policy == "keep":
        return Step(item=item, action="already", before=now)
    if item.policy == "claim":
        found = ", ".join(f"{key} {value}" for key, value in sorted(now.items()))
        raise TakenError(f"{item.text}: {item.name} is there already ({found})", hint=item.hint)
    return Step(item=item, action="change", before=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeBack:
    """What undo will do about one record.

    ``take``; ``gone``: it is away already; ``leave``: others changed it; ``drop``: its user is gone;
    ``keep``: it can't be looked at, and the next undo tries again. ``unseen`` says why for the last two.
    """

    record: Record
    action: Literal["take", "gone", "leave", "drop", "keep"]
    unseen: Unseen | None = None


def plan_undo(
    state: SetupState, looked: Mapping[Key, Value | Unseen | None]
) -> tuple[TakeBack, ...]:
    """Return what undo will do, last made first."""
    return tuple(_take_back(record, looked.get(record.key)) for record in reversed(state.records))


def _take_back(record: Record, now: Value | Unseen | None) -> TakeBack:
    if isinstance(now, Unseen):
        return TakeBack(record=record, action="drop" if now.ownerless else "keep", unseen=now)
    # What was killed may have left something beside the thing, too.
    if record.done and now == record.before:
        return TakeBack(record=record, action="gone")
    if not record.done or now == record.after or (now is not None and DAMAGE in now):
        return TakeBack(record=record, action="take")
    return TakeBack(record=record, action="leave")


def renewals(state: SetupState, kinds: Sequence[str]) -> tuple[Item, ...]:
    """Return recorded things of some ``kinds`` as items that shall be as they were made.

    In the order of ``kinds``, whatever the records' is.
    """
    found = sorted(
        (record for record in state.records if record.kind in kinds),
        key=lambda record: kinds.index(record.kind),
    )
    return tuple(
        Item(
            kind=record.kind,
            name=record.name,
            wanted=record.after,
            text=record.text,
            reason="made by setup",
            policy="insist",
        )
        for record in found
    )
