"""What does things: one hand for each kind of thing, and the two loops that use them.

A hand's methods may be repeated at any time: what is as asked for is left alone. So a run that was
killed anywhere is completed by the next one.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from lxdocker_lxd.errors import InternalError, LxdockerError
from lxdocker_lxd.setup.item import Item, Key, UserGoneError, Value
from lxdocker_lxd.setup.plan import Looked, Plan, Step, TakeBack, Unseen, plan
from lxdocker_lxd.setup.record import Record, SetupState


class Hand(Protocol):
    """Looks at, makes and takes back things of one kind."""

    def look(self, name: str, wanted: Value) -> Value | None:
        """Return how the thing is now, in the words of ``wanted``; None when it isn't there."""
        ...

    def make(self, name: str, wanted: Value) -> None:
        """Bring the thing to ``wanted``; raise LxdockerError with nothing half-made."""
        ...

    def take_back(self, name: str, after: Value, before: Value | None) -> str:
        """Bring the thing from ``after`` back to ``before``.

        Returns why something was left, or an empty text.
        """
        ...


class StateKeeper(Protocol):
    """Where the state lives; what was saved survives a crash."""

    def save(self, state: SetupState) -> None:
        """Keep ``state``, on disk before this returns."""
        ...


Hands = Mapping[str, Hand]
OnStep = Callable[[Step], None]
OnLeft = Callable[[Item, Unseen], None]


def hand_for(hands: Hands, kind: str) -> Hand:
    """Return the hand for a kind; InternalError for one that a later version recorded."""
    found = hands.get(kind)
    if found is None:
        raise InternalError(
            f"setup knows nothing of the kind {kind!r}",
            hint="its state file comes from another version: use that one",
        )
    return found


def look(items: Iterable[Item], hands: Hands) -> Looked:
    """Return how each item's thing is now."""
    return {item.key: hand_for(hands, item.kind).look(item.name, item.wanted) for item in items}


def look_back(records: Iterable[Record], hands: Hands) -> Mapping[Key, Value | Unseen | None]:
    """Return how each recorded thing is now, or why that can't be seen."""
    return {record.key: _seen(record, hand_for(hands, record.kind)) for record in records}


def _seen(record: Record, hand: Hand) -> Value | Unseen | None:
    try:
        return hand.look(record.name, record.after)
    except UserGoneError as error:
        return Unseen(error=error, ownerless=True)
    except LxdockerError as error:
        return Unseen(error=error)


def carry_out(
    plan: Plan, hands: Hands, state: SetupState, keeper: StateKeeper, on_step: OnStep
) -> SetupState:
    """Do a plan's steps in order and return the new state; each is recorded before and after."""
    for step in plan.steps:
        if step.action in {"already", "leave"}:
            continue
        state = state.begun(step.item, step.before)
        if step.changes:
            keeper.save(state)
            hand_for(hands, step.item.kind).make(step.item.name, step.item.wanted)
        state = state.finished(step.item.key)
        keeper.save(state)
        on_step(step)
    return state


def renew(
    items: Iterable[Item],
    hands: Hands,
    state: SetupState,
    keeper: StateKeeper,
    *,
    essential: Collection[str],
    on_step: OnStep,
    on_left: OnLeft,
) -> SetupState:
    """Bring each item to what it shall be, one after the other, and return the new state.

    Later ones may be copies of earlier ones. Only what fails of an ``essential`` kind is raised; of
    others ``on_left`` hears why, and they are tried again the next time. What belonged to a user who is
    gone loses its record.
    """
    for item in items:
        try:
            steps = plan((item,), look((item,), hands), state)
            state = carry_out(steps, hands, state, keeper, on_step)
        except UserGoneError as error:
            # Nothing that the self-test looked at is changed by that.
            state = replace(state.without(item.key), proven=state.proven)
            keeper.save(state)
            on_left(item, Unseen(error=error, ownerless=True))
        except LxdockerError as error:
            if item.kind in essential:
                raise
            on_left(item, Unseen(error=error))
    return state


def proven(state: SetupState, keeper: StateKeeper) -> SetupState:
    """Record that the self-test passed."""
    state = replace(state, proven=True)
    keeper.save(state)
    return state


def undo(
    backs: Iterable[TakeBack],
    hands: Hands,
    state: SetupState,
    keeper: StateKeeper,
    on_back: Callable[[TakeBack, str], None],
) -> SetupState:
    """Take back what a plan of undo says; return what is left of the state, normally nothing.

    ``on_back`` hears of each and why something was left there. What fails keeps its record for the
    next time and stops nothing else; the first such error is raised at the end.
    """
    failed: list[LxdockerError] = []
    for back in backs:
        record = back.record
        left = ""
        if back.action == "keep" and back.unseen:
            failed.append(back.unseen.error)
            on_back(back, _again(back.unseen.error))
            continue
        if back.action == "drop" and back.unseen:
            left = back.unseen.error.message
        elif back.action == "leave":
            left = "changed by somebody since"
        elif back.action == "take":
            hand = hand_for(hands, record.kind)
            try:
                left = hand.take_back(record.name, record.after, record.before)
            except LxdockerError as error:
                failed.append(error)
                on_back(back, _again(error))
                continue
        state = state.without(record.key)
        keeper.save(state)
        on_back(back, left)
    if failed:
        raise failed[0]
    return state


def _again(error: LxdockerError) -> str:
    return f"{error.message}; the next --undo tries again"
