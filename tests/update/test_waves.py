"""What ends a round, and what doesn't: failures, deferrals, users."""

import pytest

from lxdocker_lxd.lxd.failures import NoSpaceError
from lxdocker_lxd.update.hook import HookDeferredError, HookRefusedError
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.transaction import Transaction
from tests.benchmarks.bench_update_requests import idle_requests, update_requests
from tests.harness.simulated_lxd import Call
from tests.update.test_rounds import AUTO, House


@pytest.fixture
def house() -> House:
    house = House()
    house.lxd.add_image("one", alias="app")
    return house


def test_a_deferral_of_one_doesnt_end_the_round_of_the_others(house: House) -> None:
    house.lxd.add_image("base", alias="base")
    house.local("db", alias="base")
    house.lxd.add_image("idle", alias="idle")
    house.local("front", AUTO | {"user.lxdocker.depends": "db"}, alias="idle")
    house.local("web")
    house.lxd.add_image("base2", alias="base")
    house.lxd.add_image("two", alias="app")

    def busy(transaction: Transaction) -> None:
        if transaction.name == "db":
            raise HookDeferredError("the hook backup puts it off")

    house.before_outage = busy
    report = house.run()
    assert {one.transaction.name: one.act for one in report.outcomes} == {
        "db": Act.GIVEN_UP,
        "web": Act.COMMITTED,
    }
    # Nothing is wrong, and what depends on the one that stayed isn't restarted.
    assert (report.bad, report.restarted) == (False, ())


def test_a_hook_that_forbids_and_a_version_that_cant_be_staged_end_the_round(house: House) -> None:
    house.local("app1")
    house.local("app2")
    house.lxd.add_image("two", alias="app")

    def forbid(_transaction: Transaction) -> None:
        raise HookRefusedError("the hook check ended with 1")

    house.before_outage = forbid
    report = house.run()
    assert [(one.transaction.name, one.act) for one in report.outcomes] == [("app1", Act.GIVEN_UP)]
    assert report.bad
    house.lxd.log.before = full_at_create
    report = house.run("app1", "app2")
    assert [(one.transaction.name, one.act) for one in report.outcomes] == [("app1", Act.GIVEN_UP)]
    assert report.bad


def full_at_create(call: Call) -> None:
    if call.name == "instances.create":
        raise NoSpaceError("the pool is full")


def test_what_a_user_did_meanwhile_doesnt_end_the_round(house: House) -> None:
    house.local("app1")
    house.local("app2")
    house.local("app3")
    house.lxd.add_image("two", alias="app")

    def act(call: Call) -> None:
        # One is stopped between its lease and the outage, one is deleted while its successor is made.
        if (call.name, call.subject) == ("instances.replace", "app1") and not acted:
            acted.append("app1")
            house.lxd.user.power.kill("app1")
        if call.name == "instances.create" and call.subject.startswith("app2"):
            house.lxd.user.power.kill("app2")
            house.lxd.user.instances.delete("app2")

    acted: list[str] = []
    house.lxd.log.after = act
    report = house.run()
    ends = {one.transaction.name: one.act for one in report.outcomes}
    assert ends["app3"] is Act.COMMITTED
    assert ends["app1"] is Act.GIVEN_UP
    assert house.lxd.user.instances.get("app1").status == "Stopped"
    assert not report.bad


def test_what_rounds_ask_of_lxd_stays_within_bounds() -> None:
    """On a small scale; the benchmark of requests counts the same for hundreds."""
    assert idle_requests(20, 10).total() <= 12
    each = update_requests(10).total() / 10
    # Sixteen of them are the steps themselves.
    assert each <= 70
