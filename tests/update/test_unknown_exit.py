"""Commands of which LXD doesn't know how they ended: a check that says nothing, a hook nobody heard."""

import pytest

from lxdocker_lxd.lxd.failures import UnknownOutcomeError
from lxdocker_lxd.update.hook import Hook, Occasion, Point
from lxdocker_lxd.update.hook_run import HookRunner
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.transaction import REJECTED_KEY
from tests.harness.simulated_lxd import Behaviour
from tests.update.test_rounds import AUTO, House

UNREACHED = Behaviour(attaches_for_seconds=0, health=((0.0, 0),))


def test_a_version_whose_check_nobody_can_ask_is_neither_kept_nor_blamed() -> None:
    house = House()
    old = house.lxd.add_image("one", alias="app")
    house.local("web", AUTO | {"user.lxdocker.update.health": "exec /bin/health"})
    house.lxd.add_image("two", alias="app", behaviour=UNREACHED)
    (outcome,) = house.run().outcomes
    assert (outcome.act, outcome.blame) == (Act.ROLLED_BACK, False)
    assert "could not be asked" in outcome.reason
    assert house.image("web") == old
    assert REJECTED_KEY not in house.lxd.user.instances.get("web").config


def test_a_hook_of_which_nobody_knows_the_end_has_not_refused() -> None:
    house = House()
    image = house.lxd.add_image("one", alias="app", behaviour=UNREACHED)
    house.lxd.launch("web", image)
    hook = Hook(name="flush", where="instance", words=("/bin/flush",))
    occasion = Occasion(point=Point.BEFORE, project="default", name="web")
    with pytest.raises(UnknownOutcomeError):
        HookRunner(house.lxd.guests, {"flush": hook}).run(
            occasion, {Point.BEFORE.key: "flush"}, running=True
        )
