"""Room for the second instance of an update: limits of projects, copies that give way, pools."""

from dataclasses import replace

import pytest

from lxdocker_lxd.lxd.records import Config
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.recovery import parked_copy
from tests.harness.simulated_lxd import EXITS_AT_ONCE, Call
from tests.update.test_rounds import AUTO, House

NAMES = ("a", "b", "c", "d")


@pytest.fixture
def house() -> House:
    house = House()
    house.lxd.add_image("one", alias="app")
    for name in NAMES:
        house.local(name)
    return house


def limit(house: House, **limits: str) -> None:
    project = house.lxd.store.projects["default"]
    config: Config = {f"limits.{key}": value for key, value in limits.items()}
    house.lxd.store.projects["default"] = replace(project, config=config)


def test_a_wave_fits_into_a_project_with_room_for_one_more(house: House) -> None:
    limit(house, instances="5")
    new = house.lxd.add_image("two", alias="app")
    report = house.run()
    assert [one.act for one in report.outcomes] == [Act.COMMITTED] * 4
    assert [house.image(name) for name in NAMES] == [new] * 4
    assert (len(report.removed), report.problems) == (3, ())
    # The last one keeps its way back, and the limit was never exceeded.
    assert parked_copy(house.lxd.user.instances.list(), "d", "default") is not None
    assert len(house.lxd.user.instances.list()) == 5


def test_without_a_limit_copies_keep_their_time(house: House) -> None:
    house.lxd.add_image("two", alias="app")
    assert house.run().removed == ()
    assert len(house.lxd.user.instances.list()) == 8


def test_the_last_version_that_was_shown_to_work_makes_no_room(house: House) -> None:
    """Of a stopped instance, whose new version never ran, the copy is the only one that did."""
    house.lxd.user.power.stop("a")
    house.lxd.add_image("two", alias="app")
    limit(house, instances="5")
    report = house.run()
    assert [one.transaction.name for one in report.outcomes] == ["a"]
    assert {one.name for one in report.problems} == {"b", "c", "d"}
    assert parked_copy(house.lxd.user.instances.list(), "a", "default") is not None


def test_a_failed_version_goes_first(house: House) -> None:
    house.lxd.add_image("base", alias="base")
    house.local("base", alias="base")
    house.lxd.add_image("base2", alias="base", behaviour=EXITS_AT_ONCE)
    house.run()
    house.lxd.add_image("two", alias="app")
    house.run("a")
    limit(house, instances="7")
    report = house.run("b")
    assert [name.startswith("base-new") for name in report.removed] == [True]
    assert parked_copy(house.lxd.user.instances.list(), "a", "default") is not None


def test_a_limit_of_memory_counts_both_versions(house: House) -> None:
    house.local("big", AUTO | {"limits.memory": "2GiB"})
    house.lxd.add_image("two", alias="app")
    limit(house, memory=str(3 << 30))
    report = house.run("big")
    assert report.outcomes == ()
    assert [one.name for one in report.problems] == ["big"]
    assert "memory" in report.problems[0].text
    limit(house, memory=str(4 << 30))
    assert [one.act for one in house.run("big").outcomes] == [Act.COMMITTED]
    # Now the copy is in the way of the next version, and goes.
    house.lxd.add_image("three", alias="app")
    report = house.run("big")
    assert ([one.act for one in report.outcomes], len(report.removed)) == ([Act.COMMITTED], 1)


def test_projects_without_limits_and_pools_with_room_are_asked_once(house: House) -> None:
    house.lxd.add_image("two", alias="app")
    asked: list[str] = []

    def note(call: Call) -> None:
        asked.append(call.name)

    house.lxd.log.before = note
    house.run()
    assert "projects.usage" not in asked
    assert asked.count("pools.space") <= 2


def test_copies_that_stay_for_their_snapshots_are_told_of(house: House) -> None:
    house.lxd.add_image("two", alias="app")
    house.run()
    copy = next(one.name for one in house.lxd.user.instances.list() if one.name.startswith("a-old"))
    house.lxd.snapshot(copy, "weekly")
    for _ in range(2):
        house.lxd.clock.advance(80 * 3600)
        report = house.run()
        (remark,) = report.remarks
        assert copy in remark
        assert "has snapshots" in remark
        assert not report.bad
