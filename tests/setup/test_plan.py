"""What becomes of things that are there, different, changed by others, or half made."""

import pytest

from lxdocker_lxd.errors import LxdError
from lxdocker_lxd.setup.item import DAMAGE
from lxdocker_lxd.setup.plan import TakenError
from tests.setup.worlds import World, item

ITEMS = [item("a"), item("b", "keep"), item("c", "insist"), item("d", "claim")]


def test_a_second_run_has_nothing_to_do() -> None:
    world = World()
    assert world.setup(ITEMS) == ["create a", "create b", "create c", "create d"]
    text = world.text
    assert world.setup(ITEMS) == []
    assert world.text == text


def test_undo_brings_back_what_was_there_before() -> None:
    before = {("thing", "a"): {"is": "old"}, ("thing", "other"): {"is": "mine"}}
    world = World(before)
    assert "change a" in world.setup(ITEMS)
    assert world.undo() == {}
    assert world.things == before
    assert world.state.records == ()


def test_what_was_as_wanted_before_setup_is_not_taken_away() -> None:
    before = {("thing", "a"): {"is": "made"}, ("thing", "b"): {"is": "somebody's own"}}
    world = World(before)
    assert world.setup(ITEMS) == ["create c", "create d"]
    world.undo()
    assert world.things == before


def test_a_place_that_is_taken_stops_everything_before_anything_is_done() -> None:
    world = World({("thing", "d"): {"is": "a stranger's"}})
    with pytest.raises(TakenError, match="is a stranger's") as caught:
        world.setup(ITEMS)
    assert caught.value.hint == "mend it"
    assert len(world.things) == 1


def test_what_somebody_changed_since_stays_and_is_told() -> None:
    world = World()
    world.setup(ITEMS)
    for name in "abcd":
        world.things["thing", name] = {"is": "changed"}
    # What must be right, as a certificate, is made right again.
    assert world.setup(ITEMS) == ["change c"]
    assert set(world.undo()) == {"a", "b", "d"}
    assert set(world.things) == {("thing", name) for name in "abd"}


def test_a_newer_version_changes_what_an_older_one_wrote_and_undo_goes_back_to_the_start() -> None:
    before = {("thing", "a"): {"is": "before both"}}
    world = World(before)
    world.setup([item("a", text="of version 1")])
    assert world.setup([item("a", text="of version 2")]) == ["change a"]
    world.undo()
    assert world.things == before


def test_what_somebody_took_away_is_made_again() -> None:
    world = World()
    world.setup(ITEMS)
    del world.things["thing", "b"]
    assert world.setup(ITEMS) == ["create b"]


def test_what_cannot_be_taken_back_stops_nothing_else_and_is_tried_again() -> None:
    """LXD may fail to delete a network whose firewall rules are busy."""
    world = World()
    world.setup(ITEMS)
    world.stuck = {"b", "c"}
    with pytest.raises(LxdError, match="c is stuck"):
        world.undo()
    assert set(world.things) == {("thing", "b"), ("thing", "c")}
    world.stuck = set()
    assert world.undo() == {}
    assert world.things == {}


def test_what_failed_or_grew_old_is_mended_and_taken_back_as_setups_own() -> None:
    """A failed unit, or a certificate near its end, isn't somebody's wish."""
    world = World()
    world.setup(ITEMS)
    world.things["thing", "a"] = {"is": "made", DAMAGE: "failed"}
    assert world.setup(ITEMS) == ["change a"]
    world.things["thing", "a"] = {DAMAGE: "due for renewal"}
    assert world.undo() == {}
    assert world.things == {}


def test_undo_of_what_is_gone_already_is_quiet() -> None:
    world = World()
    world.setup(ITEMS)
    world.things.clear()
    assert world.undo() == {}
    assert world.state.records == ()
