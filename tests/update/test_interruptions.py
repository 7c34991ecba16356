"""What an updater that is killed again and again leaves for its next start to do."""

import contextlib
from datetime import timedelta

import pytest

from lxdocker_lxd.lxd.failures import RefusedError
from lxdocker_lxd.lxd.server_records import Operation
from lxdocker_lxd.update.journal_record import entries, line_of
from lxdocker_lxd.update.procedure import Act
from tests.harness.simulated_lxd import Call, Fault, KilledError
from tests.update.test_rounds import House, watching

LEASE = ("instances.replace", "web")


@pytest.fixture
def house() -> House:
    house = House()
    house.lxd.add_image("one", alias="app")
    house.local("web")
    return house


def killed_before_the_outage(house: House) -> None:
    """Let the updater die at the creation of the successor."""
    house.lxd.log.keeps_calls = True
    house.lxd.log.restart_count()

    def kill(call: object) -> None:
        if "instances.create" in str(call):
            house.lxd.log.faults[house.lxd.log.number] = Fault.KILLED_AFTER

    house.lxd.log.before = kill
    with contextlib.suppress(KilledError):
        house.run()
        pytest.fail("it was to be killed")
    house.lxd.log.before = lambda _call: None


def test_the_newest_version_comes_at_once_though_the_updater_was_killed_with_it(
    house: House,
) -> None:
    """A dead updater is no failed version: nothing rests."""
    for version in ("two", "three", "four"):
        newest = house.lxd.add_image(version, alias="app")
        killed_before_the_outage(house)
    report = house.run()
    assert [one.act for one in (*report.recovered, *report.outcomes)] == [
        Act.GIVEN_UP,
        Act.COMMITTED,
    ]
    assert house.image("web") == newest


def test_a_version_that_the_updater_dies_of_each_time_rests(house: House) -> None:
    newest = house.lxd.add_image("two", alias="app")
    for _ in range(4):
        killed_before_the_outage(house)
    # The fourth time it was given up.
    assert [one.act for one in house.run().outcomes] == []
    house.lxd.clock.advance(timedelta(minutes=11).total_seconds())
    assert [one.act for one in house.run().outcomes] == [Act.COMMITTED]
    assert house.image("web") == newest


def test_the_journal_tells_an_interruption_from_a_failure(house: House) -> None:
    house.lxd.add_image("two", alias="app")
    killed_before_the_outage(house)
    house.run()
    lines = b"".join(line_of(entry) for entry in house.journal.entries)
    assert [one.interrupted for one in entries(lines) if one.result] == [True, False]


def test_an_update_that_was_held_has_failed_though_another_run_gives_it_up(house: House) -> None:
    house.lxd.add_image("two", alias="app")

    def refuse(call: Call) -> None:
        if call.name == "instances.delete" or (call.name, call.subject) == LEASE:
            raise RefusedError(f"could not {call}: not now")

    house.lxd.log.before = refuse
    assert [one.act for one in house.run().outcomes] == [Act.HOLD]
    house.lxd.log.before = lambda _call: None
    report = house.run()
    assert [one.act for one in (*report.recovered, *report.outcomes)] == [Act.GIVEN_UP]
    assert not any(entry.interrupted for entry in house.journal.entries)


COMMAND = Operation(
    id="11111111-2222-4333-8444-555555555555",
    location="none",
    may_cancel=False,
    description="Executing command",
    status="Running",
    resources=("/1.0/instances/web",),
    project="default",
)


def test_a_command_that_a_dead_updater_left_delays_the_newest_version_by_seconds(
    house: House,
) -> None:
    """LXD tells of no end of it; the next look on the timer would be minutes away."""
    clock, operations = house.lxd.clock, house.lxd.store.operations
    operations[COMMAND.id] = COMMAND
    house.lxd.add_image("two", alias="app")
    ended: list[float] = []

    def end() -> None:
        operations.clear()
        ended.append(clock.monotonic())
        house.lxd.log.before = lambda call: (
            ended.append(clock.monotonic()) if call.name == "instances.create" else None
        )

    watching(house, 100, iter([(10.0, end)]))
    assert house.ends == ["committed"]
    assert ended[1] - ended[0] < 10


def test_what_stays_is_looked_at_ever_more_seldom(house: House) -> None:
    house.lxd.store.operations[COMMAND.id] = COMMAND
    house.lxd.add_image("two", alias="app")
    rounds, told = watching(house, 3600, iter(()))
    assert house.ends == []
    assert told == []
    # In the first five minutes eight; then those of the timer.
    assert rounds <= 8 + 3600 / 300
