"""What users do between the start of a new version and the first look at it counts as well."""

from collections.abc import Callable

import pytest

from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.transaction import REJECTED_KEY
from tests.harness.simulated_lxd import Behaviour, Call, SimulatedLxd
from tests.update.test_rounds import House


def with_news(behaviour: Behaviour | None = None) -> House:
    house = House()
    house.lxd.add_image("one", alias="app")
    house.local("web")
    house.lxd.add_image("two", alias="app", behaviour=behaviour or Behaviour())
    return house


def after_the_start(house: House, act: Callable[[SimulatedLxd], None]) -> None:
    """Do it right after LXD has answered the start of the new version."""

    def after(call: Call) -> None:
        if (call.name, call.subject) == ("power.start", "web"):
            house.lxd.log.after = lambda _call: None
            act(house.lxd)

    house.lxd.log.after = after


def stop(lxd: SimulatedLxd) -> None:
    lxd.user.power.stop("web")


def restart(lxd: SimulatedLxd) -> None:
    stop(lxd)
    lxd.user.power.start("web")


def test_a_users_stop_right_after_the_start_is_respected() -> None:
    house = with_news()
    old = house.image("web")
    after_the_start(house, stop)
    (outcome,) = house.run().outcomes
    assert (outcome.act, outcome.blame, outcome.reason) == (
        *(Act.ROLLED_BACK, False, "somebody stopped it"),
    )
    web = house.lxd.user.instances.get("web")
    assert (web.status, web.base_image) == ("Stopped", old)


def test_a_version_that_a_user_restarted_before_the_first_look_can_be_good() -> None:
    house = with_news()
    after_the_start(house, restart)
    assert [one.act for one in house.run().outcomes] == [Act.COMMITTED]
    assert house.lxd.user.instances.get("web").running


@pytest.mark.parametrize("act", [lambda _lxd: None, restart])
def test_a_version_that_ends_by_itself_later_is_bad_whoever_restarted_it_before(
    act: Callable[[SimulatedLxd], None],
) -> None:
    house = with_news(Behaviour(ends_after_seconds=0.5))
    old = house.image("web")
    after_the_start(house, act)
    (outcome,) = house.run().outcomes
    assert (outcome.act, outcome.blame) == (Act.ROLLED_BACK, True), outcome
    web = house.lxd.user.instances.get("web")
    assert (web.running, web.base_image, REJECTED_KEY in web.config) == (True, old, True)
