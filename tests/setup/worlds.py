"""A world in memory that setup can change, and be killed in at any moment."""

from collections.abc import Mapping
from typing import Any

from lxdocker_lxd.errors import LxdError
from lxdocker_lxd.setup import hand
from lxdocker_lxd.setup.item import Item, Key, Policy, Value
from lxdocker_lxd.setup.plan import plan, plan_undo
from lxdocker_lxd.setup.record import SetupState, decode, encode


class Killed(BaseException):
    """SIGKILL: nothing after it runs."""


class World:
    """Things by key, and a state file; ``moments`` before the kill, None for never."""

    def __init__(self, things: Mapping[Key, Value] | None = None) -> None:
        self.things: dict[Key, Value] = dict(things or {})
        self.text = encode(SetupState())
        self.moments: int | None = None
        self.stuck: set[str] = set()

    def moment(self) -> None:
        """Something is about to change: here the kill may come."""
        if self.moments is not None:
            if self.moments == 0:
                raise Killed
            self.moments -= 1

    # ---- the state file

    def save(self, state: SetupState) -> None:
        self.moment()
        self.text = encode(state)

    @property
    def state(self) -> SetupState:
        return decode(self.text, file="state")

    # ---- what a run of the command does

    def setup(self, items: list[Item]) -> list[str]:
        """Run once; return the actions."""
        hands = {item.kind: SimulatedHand(self, item.kind) for item in items}
        done: list[str] = []
        found = plan(items, hand.look(items, hands), self.state)
        hand.carry_out(
            found,
            hands,
            self.state,
            self,
            lambda step: done.append(f"{step.action} {step.item.name}"),
        )
        return done

    def undo(self) -> dict[str, str]:
        """Take back; return what was left by name, with the reason."""
        records = self.state.records
        hands = {record.kind: SimulatedHand(self, record.kind) for record in records}
        left: dict[str, str] = {}
        backs = plan_undo(self.state, hand.look_back(records, hands))
        hand.undo(
            backs,
            hands,
            self.state,
            self,
            lambda back, why: left.update({back.record.name: why} if why else {}),
        )
        return left


class SimulatedHand:
    """Implements the protocol ``Hand`` on a world, one moment at a time."""

    def __init__(self, world: World, kind: str) -> None:
        self._world = world
        self._kind = kind

    def look(self, name: str, wanted: Value) -> Value | None:  # noqa: ARG002 - of the protocol
        return self._world.things.get((self._kind, name))

    def make(self, name: str, wanted: Value) -> None:
        self._world.moment()
        self._world.things[self._kind, name] = dict(wanted)
        self._world.moment()

    def take_back(self, name: str, after: Value, before: Value | None) -> str:  # noqa: ARG002
        self._world.moment()
        if name in self._world.stuck:
            raise LxdError(f"{name} is stuck")
        if before is None:
            self._world.things.pop((self._kind, name), None)
        else:
            self._world.things[self._kind, name] = before
        self._world.moment()
        return ""


def item(name: str, policy: Policy = "ensure", **wanted: str) -> Item:
    """An item of kind ``thing`` that shall have these values."""
    given: dict[str, Any] = wanted or {"is": "made"}
    return Item(
        kind="thing", name=name, wanted=given, text=name, reason="", policy=policy, hint="mend it"
    )
