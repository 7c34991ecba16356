"""How instances stand to their images, and how they are, on the simulated LXD."""

from dataclasses import replace

import pytest

from lxdocker_lxd.launching.listing import NO_ANSWER
from lxdocker_lxd.lxd.records import Instance, UpdateSource
from lxdocker_lxd.update.source import SOURCE_KEY
from lxdocker_lxd.update.standing import State
from lxdocker_lxd.update.transaction import REJECTED_KEY
from lxdocker_lxd.verbs.standing import Standings, health_now
from tests.harness.simulated_lxd import Behaviour
from tests.update.test_rounds import AUTO, QUICK, SERVER, House


@pytest.fixture
def house() -> House:
    house = House()
    house.lxd.add_image("one", alias="app")
    return house


def state(house: House, name: str) -> State:
    return Standings(house.lxd).of(instance(house, name)).state


def instance(house: House, name: str) -> Instance:
    return house.lxd.user.instances.get(name)


def test_an_instance_of_a_local_name_enrolled_or_not(house: House) -> None:
    house.local("web")
    house.local("quiet", QUICK)
    house.lxd.launch("plain", house.image("web"))
    assert {state(house, name) for name in ("web", "quiet", "plain")} == {State.CURRENT}
    new = house.lxd.add_image("two", alias="app")
    assert {state(house, name) for name in ("web", "quiet")} == {State.AVAILABLE}
    # Without a word about it, a name is only known as long as the image has it.
    assert state(house, "plain") is State.UNKNOWN
    tried = replace(instance(house, "web"), config={REJECTED_KEY: new, SOURCE_KEY: "local|app"})
    tried = replace(tried, config={**tried.config, "volatile.base_image": house.image("web")})
    assert Standings(house.lxd).of(tried).state is State.REJECTED


def test_an_instance_of_an_image_server(house: House) -> None:
    house.lxd.publish(SERVER, "web", "1")
    first = house.lxd.user.images.pull(UpdateSource(server=SERVER, alias="web"))
    keys = {SOURCE_KEY: f"{SERVER}|simplestreams|web"}
    house.lxd.launch("web", first, config=keys)
    assert state(house, "web") is State.CURRENT
    second = house.lxd.publish(SERVER, "web", "2")
    house.lxd.clock.advance(7 * 3600)
    house.lxd.auto_update()
    assert state(house, "web") is State.AVAILABLE
    found = Standings(house.lxd).of(instance(house, "web"))
    assert found.newest is not None
    assert found.newest.fingerprint == second


def test_copies_and_unfinished_updates_say_so(house: House) -> None:
    house.local("web")
    house.lxd.add_image("two", alias="app")
    house.run()
    names = {
        one.name: Standings(house.lxd).of(one).state for one in house.lxd.user.instances.list()
    }
    assert sorted(names.values()) == [State.COPY, State.CURRENT]


@pytest.mark.parametrize(
    ("check", "said"),
    [
        ("exec /bin/health", "healthy"),
        ("exec /bin/sick", "unhealthy"),
        ("exec", ""),
        ("running", "none"),
    ],
)
def test_health_is_asked_by_the_check_of_updates(house: House, check: str, said: str) -> None:
    behaviour = Behaviour(health=((0.0, 0),))
    house.lxd.add_image("checked", alias="checked", behaviour=behaviour)
    house.local("web", AUTO | {"user.lxdocker.update.health": check}, alias="checked")
    assert health_now(house.lxd, instance(house, "web")) == said
    assert NO_ANSWER not in said
