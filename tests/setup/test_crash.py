"""Killed at any moment, on the way there or back, setup reaches the same end when it is run again."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from tests.setup.worlds import Killed, World, item

BEFORE = {("thing", "b"): {"is": "before"}, ("thing", "kept"): {"is": "somebody's"}}
ITEMS = [item("a"), item("b"), item("kept", "keep"), item("c", "insist"), item("d", "claim")]


def killed_at_each_moment(
    prepare: Callable[[], World], work: Callable[[World], object]
) -> list[World]:
    """One world for each moment at which ``work`` can be killed, and one where it wasn't."""
    found: list[World] = []
    while True:
        world = prepare()
        world.moments = len(found)
        found.append(world)
        try:
            work(world)
        except Killed:
            world.moments = None
            continue
        world.moments = None
        return found


def ready() -> World:
    world = World(BEFORE)
    world.setup(ITEMS)
    return world


def test_a_killed_setup_is_completed_by_the_next_run() -> None:
    whole = ready()
    worlds = killed_at_each_moment(lambda: World(BEFORE), lambda world: world.setup(ITEMS))
    assert len(worlds) > 3 * 4
    for world in worlds:
        world.setup(ITEMS)
        assert world.things == whole.things
        assert world.text == whole.text
        assert world.setup(ITEMS) == []


def test_a_killed_setup_is_taken_back_whole() -> None:
    for world in killed_at_each_moment(lambda: World(BEFORE), lambda world: world.setup(ITEMS)):
        world.undo()
        assert world.things == BEFORE


def test_a_killed_undo_is_completed_by_the_next_one() -> None:
    for world in killed_at_each_moment(ready, World.undo):
        world.undo()
        assert world.things == BEFORE
        assert world.state.records == ()


def test_a_killed_undo_can_be_followed_by_setup() -> None:
    for world in killed_at_each_moment(ready, World.undo):
        world.setup(ITEMS)
        assert world.things == ready().things
        world.undo()
        assert world.things == BEFORE


@given(kills=st.lists(st.integers(0, 9), max_size=6), undo=st.booleans())
def test_many_kills_in_a_row(kills: list[int], *, undo: bool) -> None:
    world = World(BEFORE)
    for at in kills:
        world.moments = at
        try:
            if undo and at % 2:
                world.undo()
            else:
                world.setup(ITEMS)
        except Killed:
            pass
        world.moments = None
    world.setup(ITEMS)
    assert world.things == ready().things
    world.undo()
    assert world.things == BEFORE
