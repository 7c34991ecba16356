"""Who peers are, and how they share places and turns."""

import asyncio
import contextlib
import time

import pytest

from lxdocker_lxd.serve.peer import LEAST_BYTES_A_SECOND, Peer, Places, Turns, pace

FAST = 100.0 * LEAST_BYTES_A_SECOND


class Visit:
    """Something a peer does, at a pace that a test gives; below zero it is idle."""

    def __init__(self, host: str, at_pace: float = FAST) -> None:
        self.peer = Peer.of(host)
        self.at_pace = at_pace
        self.is_displaced = False

    def pace(self, now: float, /) -> float:
        assert now <= time.monotonic()
        return self.at_pace

    def displace(self) -> None:
        self.is_displaced = True


def taken(most: int, *visits: Visit) -> Places[Visit]:
    places: Places[Visit] = Places(most)
    for visit in visits:
        assert places.take(visit)
    return places


@pytest.mark.parametrize(
    ("host", "address", "network"),
    [
        ("192.0.2.7", "192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::1", "fe80::/64"),
        (None, "", ""),
        ("", "", ""),
        ("no address", "", ""),
    ],
)
def test_a_peer_is_an_address_in_a_network(host: str | None, address: str, network: str) -> None:
    assert Peer.of(host) == Peer(address, network)


@pytest.mark.parametrize(
    ("host", "is_so"),
    [("127.0.0.2", True), ("::1", True), ("::ffff:127.0.0.1", True), ("::", False), (None, False)],
)
def test_the_machines_own_addresses_are_known(host: str | None, is_so: bool) -> None:
    assert Peer.of(host).is_loopback is is_so


def test_one_address_may_have_all_places_while_nobody_else_wants_one() -> None:
    """Behind a proxy all clients have one."""
    places = taken(8, *(Visit("127.0.0.1") for _ in range(8)))
    assert places.count == 8
    assert not places.take(Visit("127.0.0.1"))


def test_whoever_has_the_most_makes_room_with_its_slowest() -> None:
    many = [Visit("192.0.2.1", FAST + number) for number in range(6)]
    few = [Visit("192.0.2.2", 0), Visit("192.0.2.3", 0)]
    places = taken(8, *many, *few)
    assert places.take(Visit("192.0.2.4"))
    assert [visit.is_displaced for visit in (*many, *few)] == [True] + [False] * 7
    assert places.count == 8


def test_in_the_end_everybody_has_the_same_and_nobody_displaces_anybody() -> None:
    places = taken(8, *(Visit("192.0.2.1") for _ in range(8)))
    asked = [Visit("192.0.2.2") for _ in range(8)]
    assert [places.take(visit) for visit in asked] == [True] * 4 + [False] * 4
    assert not places.take(Visit("192.0.2.1"))


def test_who_is_slow_makes_room_for_anybody_when_all_places_are_taken() -> None:
    slow, slower = Visit("192.0.2.1", LEAST_BYTES_A_SECOND - 1), Visit("192.0.2.2", 10)
    places = taken(3, slow, slower, Visit("192.0.2.3"))
    assert places.take(Visit("192.0.2.4"))
    assert (slow.is_displaced, slower.is_displaced) == (False, True)
    assert places.take(Visit("192.0.2.5"))
    assert slow.is_displaced
    assert not places.take(Visit("192.0.2.6"))


def test_who_has_the_most_makes_room_for_itself_only_with_what_is_idle() -> None:
    busy, idle, others_idle = Visit("192.0.2.1"), Visit("192.0.2.1", -1), Visit("192.0.2.2", -9)
    places = taken(3, busy, idle, others_idle)
    assert places.take(Visit("192.0.2.1"))
    assert (busy.is_displaced, idle.is_displaced, others_idle.is_displaced) == (False, True, False)
    assert not places.take(Visit("192.0.2.1"))


def test_a_network_of_ipv6_is_one_holder_of_places_and_its_addresses_share_them() -> None:
    """Whoever has a /64 has all of its addresses; the containers of a bridge have one together."""
    crowd = [Visit(f"2001:db8::{number:x}") for number in range(1, 7)]
    greedy = [Visit("2001:db8::aaaa") for _ in range(2)]
    places = taken(8, *crowd, *greedy)
    assert places.take(Visit("2001:db8:0:1::1"))
    assert sum(visit.is_displaced for visit in greedy) == 1
    assert not any(visit.is_displaced for visit in crowd)
    # Inside of the network nobody has more than one now.
    assert not places.take(Visit("2001:db8::bbbb"))
    places.give_back(crowd[0])
    assert places.take(Visit("2001:db8::1"))
    assert not places.take(Visit("2001:db8::1"))


def test_a_neighbour_in_the_network_makes_room_for_another() -> None:
    greedy = [Visit("2001:db8::1") for _ in range(8)]
    places = taken(8, *greedy)
    assert places.take(Visit("2001:db8::2"))
    assert sum(visit.is_displaced for visit in greedy) == 1


def test_a_place_is_given_back_once() -> None:
    displaced = Visit("192.0.2.1")
    places = taken(2, displaced, Visit("192.0.2.1"))
    assert places.take(Visit("192.0.2.2"))
    places.give_back(displaced)
    assert places.count == 2


def test_who_just_began_is_not_slow() -> None:
    assert pace(0, since=100.0, now=101.0) > LEAST_BYTES_A_SECOND
    assert pace(0, since=100.0, now=140.0) < LEAST_BYTES_A_SECOND
    assert pace(10 << 20, since=100.0, now=140.0) > LEAST_BYTES_A_SECOND


# ---- turns


def test_a_peer_has_one_turn_at_a_time_and_nobody_waits_for_its_line() -> None:
    done: list[str] = []

    async def story() -> None:
        turns = Turns()

        async def piece(name: str, host: str) -> None:
            async def work() -> None:
                await asyncio.sleep(0.001)
                done.append(name)

            await turns.do(Peer.of(host), work)

        async with asyncio.TaskGroup() as all_of_them:
            for number in range(20):
                all_of_them.create_task(piece(f"one {number}", "192.0.2.1"))
            for number in range(20):
                all_of_them.create_task(piece(f"neighbour {number}", "2001:db8::1"))
            all_of_them.create_task(piece("other", "192.0.2.2"))
            all_of_them.create_task(piece("in the same network", "2001:db8::2"))

    asyncio.run(story())
    assert done.index("other") <= 3
    assert done.index("in the same network") <= 6
    assert [name for name in done if name.startswith("one")] == [f"one {n}" for n in range(20)]


def test_who_leaves_the_line_costs_nothing_and_who_is_under_way_keeps_the_turn() -> None:
    begun: list[str] = []

    async def story() -> None:
        turns, gate = Turns(), asyncio.Event()

        def piece(name: str) -> asyncio.Task[None]:
            async def work() -> None:
                begun.append(name)
                await gate.wait()

            return asyncio.create_task(turns.do(Peer.of("192.0.2.1"), work))

        gone = [piece(f"gone {number}") for number in range(10)]
        await asyncio.sleep(0.001)
        for task in gone:
            task.cancel()
        stays = piece("stays")
        await asyncio.sleep(0.001)
        assert begun == ["gone 0"]
        gate.set()
        await stays
        assert begun == ["gone 0", "stays"]
        assert not turns._lines
        assert not turns._users

    asyncio.run(story())


def test_work_that_fails_gives_its_turn_back() -> None:
    async def story() -> None:
        turns = Turns()

        async def fails() -> None:
            raise KeyError

        for _ in range(2):
            with contextlib.suppress(KeyError):
                await turns.do(Peer.of("192.0.2.1"), fails)
                raise AssertionError

    asyncio.run(asyncio.wait_for(story(), 5))
