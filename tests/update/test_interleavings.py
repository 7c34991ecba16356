"""Any order of crashes, lost answers, a user's actions and recoveries: nothing is lost.

The user acts at any call and the updater dies at any call, several times. What is promised then:
the root file system of before, or a committed new one, is there at every instant; bystanders are
untouched; after one recovery nothing is half-done, and every key that was set still holds.
"""

import os
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from lxdocker_lxd.errors import LxdError, NotFoundError
from lxdocker_lxd.lxd.failures import UnknownOutcomeError
from lxdocker_lxd.update.procedure import Act
from tests.update.story import KilledError, World

FULL = os.environ.get("LXDOCKER_TEST_FULL") == "1"


@dataclass(frozen=True)
class Mishap:
    """At which call of the story, counted from its beginning, what happens."""

    call: int
    kind: str
    done: bool


mishaps = st.builds(
    Mishap,
    call=st.integers(1, 60),
    kind=st.sampled_from(["kill", "kill", "lose", "set", "snapshot", "describe", "forget"]),
    done=st.booleans(),
)


class Fate:
    """Makes the mishaps come at their calls."""

    def __init__(self, world: World, planned: list[Mishap]) -> None:
        self._world = world
        self._planned = {(one.call, one.done): one for one in planned}
        self._calls = 0
        self._busy = False
        self.keys: dict[str, str] = {}
        self.snapshots = 0
        self._check = world.lxd.after
        world.lxd.before, world.lxd.after = self._before, self._after

    def end(self) -> None:
        """Let everything go well from now on."""
        self._planned = {}

    def _before(self, call: str) -> None:
        if not self._busy:
            self._calls += 1
            self._strike(call, done=False)

    def _after(self, call: str) -> None:
        if not self._busy:
            self._check(call)
            self._strike(call, done=True)

    def _strike(self, call: str, *, done: bool) -> None:
        mishap = self._planned.get((self._calls, done))
        if mishap is None:
            return
        self._world.calls.append(f"{mishap.kind} at {self._calls}")
        if mishap.kind == "kill":
            raise KilledError(call)
        if mishap.kind == "lose":
            raise UnknownOutcomeError(call)
        if mishap.kind == "forget":
            self._world.journal.lose()
            return
        self._busy = True
        try:
            self._act(mishap)
        except (LxdError, NotFoundError):
            pass
        finally:
            self._busy = False

    def _act(self, mishap: Mishap) -> None:
        key, value = f"user.mark{mishap.call % 3}", str(mishap.call)
        if mishap.kind == "set":
            self._world.set_key("web", key, value)
            self.keys[key] = value
        elif mishap.kind == "snapshot":
            self._world.lxd.snap("web")
            self.snapshots += 1
        else:
            box = self._world.lxd.box("web")
            box.version += 1


@settings(max_examples=2500 if FULL else 150)
@given(
    st.lists(mishaps, max_size=5),
    st.sampled_from(["good", "good", "ends", "refuses", "sick"]),
    st.booleans(),
)
def test_no_order_of_mishaps_loses_anything(
    planned: list[Mishap], behaviour: str, running: bool
) -> None:
    world = World(behaviour, running)
    fate = Fate(world, planned)
    for attempt in range(8):
        try:
            if attempt == 0:
                world.update()
            else:
                world.recover()
        except (KilledError, UnknownOutcomeError):
            continue
        break
    fate.end()
    outcomes = world.recover()
    assert all(outcome.act is not Act.HOLD for outcome in outcomes), (outcomes, world.calls)
    world.saved.config.update(fate.keys)  # type: ignore[attr-defined] # a dict in fact
    world.settled()
    kept = sum(len(box.snapshots) for box in world.lxd.boxes.values())
    assert kept == fate.snapshots, world.calls
    world.reap(100)
    assert sum(len(box.snapshots) for box in world.lxd.boxes.values()) == fate.snapshots
    assert world.recover() == ()
