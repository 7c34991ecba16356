"""The simulation's own means: faults at any call, late effects, time, clusters, behaviour."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.lxd.calls import Command, NewInstance
from lxdocker_lxd.lxd.failures import (
    AbsentError,
    BusyError,
    ConnectionLostError,
    EventsLostError,
    NoSpaceError,
    NotRunningError,
    OperationGoneError,
    RefusedError,
    StartFailedError,
    WrongStateError,
)
from lxdocker_lxd.lxd.ports import Lxd
from tests.harness.simulated_lxd import (
    EXITS_AT_ONCE,
    Behaviour,
    Call,
    Fault,
    KilledError,
    SimulatedLxd,
    crashes_after,
)
from tests.lxd_port.site import settings


def world() -> tuple[SimulatedLxd, str]:
    """A LXD with an image and a running instance of it."""
    lxd = SimulatedLxd()
    image = lxd.add_image("1", alias="web")
    lxd.launch("web", image)
    return lxd, image


def test_it_has_every_port() -> None:
    lxd: Lxd = SimulatedLxd()
    user: Lxd = SimulatedLxd().user
    assert lxd.server.info().product == user.server.info().product == "lxd"


# ---- faults


@pytest.mark.parametrize(
    ("fault", "failure", "stopped"),
    [
        (Fault.KILLED_BEFORE, KilledError, False),
        (Fault.KILLED_AFTER, KilledError, True),
        (Fault.KILLED_LATE, KilledError, False),
        (Fault.REQUEST_LOST, ConnectionLostError, False),
        (Fault.ANSWER_LOST, ConnectionLostError, True),
        (Fault.ANSWER_LATE, ConnectionLostError, False),
        (Fault.BUSY, BusyError, False),
        (Fault.REFUSED, RefusedError, False),
        (Fault.LXD_RESTARTED, OperationGoneError, True),
        (Fault.LXD_KILLED, OperationGoneError, False),
    ],
)
def test_a_fault_spoils_one_call(fault: Fault, failure: type[BaseException], stopped: bool) -> None:
    lxd, _ = world()
    lxd.log.faults[2] = fault
    assert lxd.instances.get("web").running
    with pytest.raises(failure):
        lxd.power.stop("web")
    assert (lxd.box("web").status == "Stopped") is stopped
    lxd.finish()
    lxd.instances.get("web")


def test_a_kill_is_no_exception_that_code_could_handle() -> None:
    assert not issubclass(KilledError, Exception)


def test_a_late_effect_keeps_the_instance_busy_until_it_comes() -> None:
    lxd, _ = world()
    lxd.log.faults[1] = Fault.KILLED_LATE
    with pytest.raises(KilledError):
        lxd.power.stop("web")
    with pytest.raises(BusyError):
        lxd.instances.patch("web", config={"user.a": "1"})
    assert lxd.instances.get("web").running
    assert not lxd.instances.get("web").running


def test_lxd_killed_while_it_creates_leaves_a_ruin() -> None:
    lxd, image = world()
    lxd.log.faults[1] = Fault.LXD_KILLED
    with pytest.raises(OperationGoneError):
        lxd.instances.create(NewInstance(name="new", image=image, settings=settings()))
    assert not lxd.box("new").whole
    with pytest.raises(StartFailedError):
        lxd.power.start("new")
    lxd.instances.delete("new")


def test_a_daemon_that_is_down_answers_nothing_until_it_is_up() -> None:
    lxd, _ = world()
    stream = lxd.events.subscribe()
    lxd.log.faults[2] = Fault.LXD_DOWN
    for _ in range(2):
        with pytest.raises(NotRunningError):
            lxd.instances.list()
    with pytest.raises(EventsLostError):
        stream.take(1)
    lxd.come_up()
    assert lxd.instances.get("web").running


def test_a_user_acts_between_two_calls() -> None:
    lxd, _ = world()

    def act(call: Call) -> None:
        if call.name == "power.stop":
            lxd.user.instances.rename("web", "mine")

    lxd.log.after = act
    lxd.power.stop("web")
    with pytest.raises(AbsentError):
        lxd.power.start("web")
    assert [str(call) for call in lxd.log.calls] == ["1: power.stop web", "2: power.start web"]
    assert [call.writes for call in lxd.log.calls] == [True, True]


@given(st.lists(st.tuples(st.integers(1, 8), st.sampled_from(list(Fault))), max_size=4))
def test_the_same_faults_give_the_same_world(faults: list[tuple[int, Fault]]) -> None:
    def story() -> str:
        lxd, image = world()
        lxd.log.faults = dict(faults)
        new = NewInstance(name="new", image=image, settings=settings({"user.a": "1"}))
        acts: list[Callable[[], None]] = [
            lambda: lxd.instances.create(new),
            lambda: lxd.power.start("new"),
            lambda: lxd.power.stop("new"),
            lambda: lxd.instances.rename("new", "newer"),
            lambda: lxd.instances.delete("newer"),
        ]
        for act in acts:
            try:
                act()
            except (LxdockerError, KilledError):
                lxd.come_up()
        lxd.finish()
        return repr(lxd.user.instances.list())

    assert story() == story()


# ---- time and behaviour


def test_an_image_that_crashes_does_so_while_somebody_waits() -> None:
    lxd = SimulatedLxd()
    lxd.launch("web", lxd.add_image("1", behaviour=crashes_after(30)))
    stream = lxd.events.subscribe()
    began = lxd.clock()
    event = stream.take(100)
    assert event is not None
    assert (event.action, event.by) == ("instance-shutdown", "")
    assert (lxd.clock() - began).total_seconds() == 30
    assert not lxd.instances.get("web").running
    assert stream.take(5) is None
    assert (lxd.clock() - began).total_seconds() == 35


def test_health_changes_with_time() -> None:
    lxd = SimulatedLxd()
    behaviour = Behaviour(health=((0.0, 1), (10.0, 0), (20.0, 1)))
    lxd.launch("web", lxd.add_image("1", behaviour=behaviour))
    codes = []
    for _ in range(3):
        codes.append(lxd.guests.execute("web", Command(words=("/bin/health",))).exit_code)
        lxd.sleep(10)
    assert codes == [1, 0, 1]


def test_an_image_that_exits_at_once_is_stopped_after_its_start() -> None:
    lxd = SimulatedLxd()
    box = lxd.launch("web", lxd.add_image("1", behaviour=EXITS_AT_ONCE))
    assert box.status == "Stopped"


def test_silent_connections_are_noticed_after_lxds_pings_stay_out() -> None:
    lxd, _ = world()
    stream = lxd.events.subscribe()
    lxd.events.go_silent()
    lxd.power.stop("web")
    assert stream.take(30) is None
    with pytest.raises(EventsLostError):
        stream.take(30)


def test_dropped_events_are_gone() -> None:
    lxd, _ = world()
    stream = lxd.events.subscribe()
    lxd.events.drop_next = 1
    lxd.power.stop("web")
    lxd.power.start("web")
    event = stream.take(1)
    assert event is not None
    assert event.action == "instance-started"


def test_cached_images_are_pruned_ten_days_after_their_last_use() -> None:
    lxd = SimulatedLxd()
    image = lxd.add_image("1")
    held = lxd.store.images["default", image]
    lxd.store.images["default", image] = replace(held, cached=True)
    lxd.clock.advance(9 * 86400)
    lxd.launch("web", image)
    lxd.clock.advance(9 * 86400)
    lxd.prune()
    assert lxd.images.list() != ()
    lxd.clock.advance(2 * 86400)
    lxd.prune()
    assert lxd.images.list() == ()
    assert lxd.instances.get("web").base_image == image


# ---- what can be represented


def test_members_of_a_cluster() -> None:
    lxd = SimulatedLxd()
    lxd.set_members("n1", "n2")
    image = lxd.add_image("1")
    assert lxd.launch("a", image).location == "n1"
    assert lxd.launch("b", image, target="n2").location == "n2"
    lxd.set_member_status("n2", "Offline")
    with pytest.raises(RefusedError):
        lxd.launch("c", image, target="n2")
    assert [one.status for one in lxd.server.members()] == ["Online", "Offline"]
    assert lxd.server.info().clustered


def test_virtual_machines_are_of_images_of_their_own() -> None:
    lxd = SimulatedLxd()
    lxd.launch("vm", lxd.add_image("1", kind="virtual-machine"), kind="virtual-machine")
    assert lxd.instances.get("vm").type == "virtual-machine"
    with pytest.raises(RefusedError):
        lxd.launch("vm2", lxd.add_image("2"), kind="virtual-machine")


def test_a_pool_is_full_once() -> None:
    lxd = SimulatedLxd()
    big = lxd.add_image("big", behaviour=Behaviour(size_bytes=3 << 30))
    lxd.store.pool_bytes["default"] = 5 << 30
    lxd.launch("a", big)
    with pytest.raises(NoSpaceError):
        lxd.launch("b", big)
    assert lxd.pools.space("default").free_bytes == 2 << 30


def test_work_in_the_background_shows() -> None:
    lxd, _ = world()
    name = lxd.add_operation("Executing command", "/1.0/instances/web")
    assert [one.id for one in lxd.server.operations()] == [name]
    lxd.end_operations()
    assert lxd.server.operations() == ()


def test_a_refused_start_leaves_it_stopped() -> None:
    lxd = SimulatedLxd()
    image = lxd.add_image("1", behaviour=Behaviour(starts=False))
    with pytest.raises(StartFailedError):
        lxd.launch("web", image)
    with pytest.raises(WrongStateError):
        lxd.power.stop("web")
