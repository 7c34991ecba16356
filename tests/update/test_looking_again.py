"""The service looks again soon after a round that left something open, and ever later."""

from collections.abc import Callable
from itertools import pairwise

import pytest

from lxdocker_lxd.lxd.failures import RefusedError, StartFailedError
from lxdocker_lxd.update.plan import Key
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.watch import Rhythm, Watch
from tests.harness.simulated_lxd import EXITS_AT_ONCE, Call, SimulatedLxd
from tests.update.test_rounds import AUTO, House, watching


@pytest.fixture
def house() -> House:
    house = House()
    house.lxd.add_image("one", alias="app")
    return house


def refuse_for(
    house: House, seconds: float, spoils: Callable[[Call], bool], error: Exception
) -> None:
    """Refuse what ``spoils`` says from its first time on, for so many seconds."""
    clock, until = house.lxd.clock, list[float]()

    def before(call: Call) -> None:
        if spoils(call):
            until[:] = until or [clock.monotonic() + seconds]
            if clock.monotonic() < until[0]:
                raise error

    house.lxd.log.before = before


def down_seconds(house: House, name: str) -> Callable[[], float]:
    """Count the seconds in which the instance doesn't run."""
    clock, total = house.lxd.clock, [0.0]
    last = [clock.monotonic(), True]
    inner = house.lxd.log.before

    def before(call: Call) -> None:
        now = clock.monotonic()
        total[0] += 0.0 if last[1] else now - last[0]
        last[:] = now, any(box.name == name and box.runs for box in house.lxd.store.boxes.values())
        inner(call)

    house.lxd.log.before = before
    return lambda: total[0]


@pytest.mark.parametrize(
    ("name", "subject", "error"),
    [
        ("instances.rename", "web-old-00000001", RefusedError("status 500, no reason given")),
        ("power.start", "web", StartFailedError("a device is missing")),
        ("instances.get", "web", RefusedError("status 500, no reason given")),
    ],
)
def test_a_held_return_is_taken_up_again_within_seconds(
    house: House, name: str, subject: str, error: Exception
) -> None:
    house.local("web")
    old = house.image("web")
    house.lxd.add_image("two", alias="app", behaviour=EXITS_AT_ONCE)
    started: list[str] = []

    def spoils(call: Call) -> bool:
        started.extend([call.name] if (call.name, call.subject) == ("power.start", "web") else [])
        return bool(started) and (call.name, call.subject) == (name, subject)

    if name == "power.start":
        # The new version starts, and ends.
        started_before = spoils

        def spoils(call: Call) -> bool:
            return started_before(call) and len(started) > 1

    refuse_for(house, 45, spoils, error)
    down = down_seconds(house, "web")
    watching(house, 290, iter([]))
    web = house.lxd.user.instances.get("web")
    assert (web.running, web.base_image) == (True, old)
    assert house.ends == [Act.ROLLED_BACK]
    # As long as it was refused, and the wait that had doubled by then.
    assert down() < 45 + 45


def test_a_dependant_that_doesnt_start_again_is_started_within_seconds(house: House) -> None:
    house.local("db")
    house.lxd.add_image("web one", alias="web")
    house.local("web", AUTO | {"user.lxdocker.depends": "db"}, alias="web")
    house.lxd.add_image("two", alias="app")
    error = StartFailedError("a device is missing")
    refuse_for(house, 45, lambda call: (call.name, call.subject) == ("power.start", "web"), error)
    down = down_seconds(house, "web")
    watching(house, 290, iter([]))
    assert house.lxd.user.instances.get("web").running
    assert 45 <= down() < 45 + 45


def test_a_round_that_failed_is_done_again_soon(house: House) -> None:
    house.local("web")
    house.lxd.add_image("two", alias="app")
    refused = RefusedError("status 500, no reason given")
    refuse_for(house, 10, lambda call: call.name == "instances.list", refused)
    _, told = watching(house, 60, iter([]))
    assert house.ends == [Act.COMMITTED]
    assert 1 <= len(told) <= 5


# ---- how soon


def gaps(work: Callable[[float], frozenset[Key]], seconds: float) -> list[float]:
    """Return the seconds between the rounds of a service, where a round takes no time."""
    lxd, began = SimulatedLxd(), list[float]()
    clock = lxd.clock
    start = clock.monotonic()

    def round_() -> frozenset[Key]:
        began.append(clock.monotonic() - start)
        return work(began[-1])

    def pause(wanted: float) -> bool:
        clock.advance(wanted)
        return clock.monotonic() - start >= seconds

    Watch(
        lxd.events.subscribe,
        round_,
        clock=clock.monotonic,
        pause=pause,
        tell=lambda _error: None,
        rhythm=Rhythm(interval_seconds=300),
    ).run()
    return [round(after - before) for before, after in pairwise(began)]


WEB, DB = ("default", "web"), ("default", "db")


def test_what_stays_is_looked_at_ever_more_rarely_up_to_the_interval() -> None:
    found = gaps(lambda _now: frozenset({WEB}), 3600)
    assert found[:9] == [2, 4, 8, 16, 32, 64, 128, 256, 300]
    assert set(found[9:]) == {300}


def test_what_is_new_is_looked_at_soon_whatever_else_stays() -> None:
    found = gaps(lambda now: frozenset({WEB, DB} if now > 3600 else {WEB}), 2 * 3600)
    assert found.count(2) == 2
    assert found.count(300) > 15


def test_two_that_come_and_go_in_turn_cause_no_endless_rounds() -> None:
    turn = [0]

    def work(_now: float) -> frozenset[Key]:
        turn[0] += 1
        return frozenset({WEB if turn[0] % 2 else DB})

    assert len(gaps(work, 6 * 3600)) < 12 * 6 + 20
