"""Volumes in an update that snapshots them: a turn-back gives them what they held at the stop."""

import pytest

from lxdocker_lxd.lxd.failures import InUseError
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.transaction import VolumeSnapshots, readable_stamp
from tests.update.story import NEW, OLD, THIRD, World, ends_well
from tests.update.test_crashes import every_kill

SNAPSHOT = ("data", "lxdocker-00000001")


def make(behaviour: str = "good", *, running: bool = True) -> World:
    return World(behaviour, running, snapshots_volumes=True)


@pytest.mark.parametrize("behaviour", ["sick", "ends"])
def test_a_failed_version_leaves_nothing_in_the_volumes(behaviour: str) -> None:
    world = make(behaviour)
    assert world.update().act is Act.ROLLED_BACK
    world.settled()
    assert world.data == {OLD}
    assert world.lxd.kept_data == {}


def test_without_it_the_new_versions_writes_stay() -> None:
    world = World("sick")
    world.update()
    assert world.data == {OLD, NEW}


def test_the_snapshots_live_as_long_as_the_copy() -> None:
    world = make()
    assert world.update().act is Act.COMMITTED
    assert world.data == {OLD, NEW}
    assert world.lxd.kept_data == {SNAPSHOT: frozenset({OLD})}
    assert world.reap(71) == ()
    assert world.lxd.kept_data != {}
    assert len(world.reap(2)) == 1
    assert world.lxd.kept_data == {}


@pytest.mark.parametrize("restore", [False, True])
def test_what_was_written_since_a_good_update_is_undone_on_demand_alone(*, restore: bool) -> None:
    world = make()
    world.update()
    assert world.turn_back(restore_volumes=restore).act is Act.ROLLED_BACK
    world.settled()
    assert world.root == OLD
    assert (NEW in world.data) is not restore
    # What isn't used stays for its user; what was, isn't needed any more.
    assert (SNAPSHOT in world.lxd.kept_data) is not restore


def test_a_stopped_instance_needs_no_snapshot() -> None:
    world = make(running=False)
    world.update()
    assert world.lxd.kept_data == {}


def test_a_volume_that_is_used_elsewhere_isnt_undone_below_its_user() -> None:
    world = make("sick")
    world.lxd.launch("reader", THIRD, {}, {})
    attached = world.lxd.box("reader")

    def attach(call: str) -> None:
        if call == "start web":
            devices = world.lxd.box("web").settings.devices
            world.lxd.write(
                attached,
                type(attached.settings)(
                    architecture="x86_64",
                    config=attached.settings.config,
                    devices={"data": devices["data"]},
                    profiles=(),
                ),
            )

    world.lxd.before, world.lxd.after = attach, lambda _call: None
    outcome = world.update()
    assert (outcome.act, "runs with data" in outcome.reason) == (Act.HOLD, True)
    assert not world.lxd.box("web").running
    # Once its user is gone, it goes on by itself.
    world.lxd.before = lambda _call: None
    attached.running = False
    ends_well(world.recover())
    assert world.data == {OLD}
    assert world.lxd.box("web").running


def test_a_user_who_runs_the_old_version_in_between_loses_nothing() -> None:
    """What it wrote after the snapshot was made is in the one that counts."""
    world = make("sick")

    def start(call: str) -> None:
        if call == "snapshot volume data" and not world.acted:
            world.acted = True
            world.lxd.power.start("web")
            world.lxd.data["data"] |= {"written by hand"}

    world.lxd.after = start
    assert world.update().act is Act.ROLLED_BACK
    assert world.data == {OLD, "written by hand"}


@pytest.mark.parametrize("behaviour", ["good", "sick", "ends", "refuses"])
def test_killed_at_any_call_the_rows_are_those_of_the_version_that_runs(behaviour: str) -> None:
    def check(world: World) -> None:
        world.settled()
        assert world.data == ({OLD, NEW} if world.root == NEW else {OLD}), world.calls
        held = [readable_stamp(world.lxd.record(box)) for box in world.lxd.boxes.values()]
        kept = [one for one in held if one is not None and one.snapshots is not None]
        assert all(one.snapshots is VolumeSnapshots.TAKEN for one in kept)
        assert len(world.lxd.kept_data) <= len(kept), world.calls
        world.reap(73)
        assert world.lxd.kept_data == {}, world.calls

    every_kill(lambda: make(behaviour), World.update, check, least=40)


@pytest.mark.parametrize("restore", [False, True])
def test_a_return_killed_at_any_call_undoes_nothing_by_accident(*, restore: bool) -> None:
    def updated() -> World:
        world = make()
        world.update()
        world.set_key("web", "limits.memory", "2GiB")
        world.saved = world.story()
        return world

    def check(world: World) -> None:
        world.settled()
        if not restore or world.root == NEW:
            assert NEW in world.data, world.calls
        else:
            # Killed between the wish and the first write that holds it, it is safe, not done.
            assert OLD in world.data
        world.reap(73)
        # What the return didn't need goes with the version that it left.
        left = [readable_stamp(world.lxd.record(box)) for box in world.lxd.boxes.values()]
        needed = any(one is not None and one.volumes for one in left)
        assert (world.lxd.kept_data != {}) is needed, world.calls

    work = lambda world: world.turn_back(restore_volumes=restore)  # noqa: E731 - a story of a line
    every_kill(updated, work, check, least=40)


def test_a_volume_that_cant_be_snapshotted_turns_the_update_back_without_blame() -> None:
    world = make()

    def refuse(call: str) -> None:
        if call == "snapshot volume data":
            raise InUseError("the pool is full")

    world.lxd.before = refuse
    outcome = world.update()
    assert (outcome.act, outcome.blame) == (Act.ROLLED_BACK, False)
    world.settled()
    assert world.root == OLD
