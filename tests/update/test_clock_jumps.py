"""A wall clock that is set ahead or back: nothing stops silently, nothing is dropped for a jump.

Each comparison of a stored date with now follows one of the rules in ``RULES``.
"""

import ast
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

import pytest

from lxdocker_lxd import update
from lxdocker_lxd.guest_health import Health
from lxdocker_lxd.lxd.failures import NoSpaceError
from lxdocker_lxd.lxd.records import UpdateSource
from lxdocker_lxd.update.courier import Courier
from lxdocker_lxd.update.delay import delay_of
from lxdocker_lxd.update.delivery import Delivery, Result
from lxdocker_lxd.update.enrolment import policy_of
from lxdocker_lxd.update.journal_record import Entry, Event
from lxdocker_lxd.update.liveness import Liveness, begin
from lxdocker_lxd.update.outbox import Outbox
from lxdocker_lxd.update.passed_time import MOST_AT_ONCE
from lxdocker_lxd.update.plan import Choice, plan
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.rejection import Rejection
from lxdocker_lxd.update.told import Told
from tests.harness.simulated_lxd import Call
from tests.update.messages import NOW, Clock, Inbox, message, transaction
from tests.update.records import image, instance
from tests.update.test_healing import HEALS, Clinic
from tests.update.test_plan import scene, web
from tests.update.test_polled_images import polling, serial
from tests.update.test_rounds import AUTO, SERVER, House

TEN_YEARS = timedelta(days=3650)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


# ---- health checks at run time


@pytest.mark.parametrize("jumps", [(TEN_YEARS, -TEN_YEARS), (-TEN_YEARS, TEN_YEARS), (-TEN_YEARS,)])
def test_health_checks_go_on_after_a_clock_that_jumped(jumps: tuple[timedelta, ...]) -> None:
    clinic = Clinic(HEALS)
    assert clinic.lives(100) == []
    for jump in jumps:
        clinic.lxd.clock.set_ahead(jump)
        clinic.lives(100)
    clinic.code = 1
    assert [report.healed for report in clinic.lives(300)][:1] == [("web",)]


def test_an_instance_that_was_started_ahead_of_now_isnt_starting_for_ever() -> None:
    config = HEALS | {"user.lxdocker.update.start_period": "60"}
    clinic = Clinic(config)
    clinic.lxd.clock.set_ahead(TEN_YEARS)
    clinic.lxd.user.power.stop("web")
    clinic.lxd.user.power.start("web")
    clinic.lxd.clock.set_ahead(-TEN_YEARS)
    clinic.code = 1
    assert [report.healed for report in clinic.lives(400)][:1] == [("web",)]


def test_a_start_is_noticed_though_what_is_known_is_dated_ahead() -> None:
    ill = Liveness(health=Health.UNHEALTHY, since=NOW + TEN_YEARS, failures=3)
    assert begin(ill, NOW, NOW + HOUR).health is Health.STARTING


# ---- updates


def test_an_update_that_came_to_nothing_ahead_of_now_is_tried_again() -> None:
    house = House()
    house.lxd.add_image("one", alias="app")
    house.local("web")
    house.lxd.add_image("two", alias="app")

    def refuse(call: Call) -> None:
        if call.name == "instances.create":
            raise NoSpaceError("the pool is full")

    house.lxd.log.before = refuse
    house.lxd.clock.set_ahead(TEN_YEARS)
    assert [one.act for one in house.run().outcomes] == [Act.GIVEN_UP]
    house.lxd.clock.set_ahead(-TEN_YEARS)
    # The attempt that follows is dated, and rested after, as ever.
    assert [one.act for one in house.run().outcomes] == [Act.GIVEN_UP]
    assert house.run().outcomes == ()
    house.lxd.log.before = lambda _call: None
    house.lxd.clock.advance(2 * 3600)
    assert [one.act for one in house.run().outcomes] == [Act.COMMITTED]


def test_an_outage_in_which_the_clock_went_back_has_no_known_length() -> None:
    house = House()
    house.lxd.add_image("one", alias="app")
    house.local("web")
    house.lxd.add_image("two", alias="app")

    def set_back(call: Call) -> None:
        if call.name == "instances.rename":
            house.lxd.clock.set_ahead(-DAY)

    house.lxd.log.before = set_back
    (outcome,) = house.run().outcomes
    assert (outcome.act, outcome.outage_seconds) == (Act.COMMITTED, None)


def test_a_polled_version_is_fetched_though_the_clock_went_back() -> None:
    house = House()
    house.lxd.publish(SERVER, "web", serial(1))
    first = house.lxd.user.images.pull(UpdateSource(server=SERVER, alias="web"))
    house.lxd.launch("web", first, config=AUTO)
    polling(house)
    house.run()
    second = house.lxd.publish(SERVER, "web", serial(2))

    def refuse(call: Call) -> None:
        if call.name == "images.pull":
            raise NoSpaceError("the pool is full")

    house.lxd.log.before = refuse
    house.lxd.clock.set_ahead(TEN_YEARS)
    house.run(refresh=True)
    house.lxd.log.before = lambda _call: None
    house.lxd.clock.set_ahead(-TEN_YEARS)
    house.lxd.clock.advance(1800)
    house.run()
    assert house.image("web") == second


def test_images_are_read_again_after_a_clock_that_went_back() -> None:
    house = House()
    house.lxd.add_image("one", alias="app")
    house.local("web")
    house.local("zweb")
    house.lxd.add_image("two", alias="app")
    newest: list[str] = []

    def move(call: Call) -> None:
        if call.name == "instances.create" and not newest:
            house.lxd.clock.set_ahead(-TEN_YEARS)
            newest.append(house.lxd.add_image("three", alias="app"))

    house.lxd.log.before = move
    house.run()
    assert house.image("zweb") == newest[0]


def test_the_age_of_an_image_that_is_dated_ahead_is_unknown_and_that_is_told() -> None:
    policy = policy_of(AUTO | {"user.lxdocker.update.minimum_age": "1h"})
    new = image(uploaded_at=NOW + TEN_YEARS)
    delay = delay_of(policy, instance(), new, None, NOW)
    assert delay is not None
    assert "ahead of this machine's clock" in delay[1]
    assert "lxdocker-lxd update now web" in delay[1]


# ---- messages


def given_up(box: Outbox) -> int:
    box.head("ops")
    return box.dropped


def test_a_jump_ahead_drops_no_message(tmp_path: Path) -> None:
    clock = Clock()
    box = Outbox(tmp_path / "outbox", clock)
    for number in range(3):
        box.put("ops", message(number))
    clock.now += TEN_YEARS
    assert given_up(box) == 0
    # The same for a service that starts with another clock.
    clock.now += TEN_YEARS
    assert given_up(Outbox(tmp_path / "outbox", clock)) == 0
    clock.now -= 3 * TEN_YEARS
    assert given_up(Outbox(tmp_path / "outbox", clock)) == 0
    assert box.fill("ops").waiting == 3


def test_a_message_waits_seven_days_that_passed(tmp_path: Path) -> None:
    clock = Clock()
    Outbox(tmp_path / "outbox", clock).put("ops", message())
    clock.now += TEN_YEARS
    hours = 0
    while given_up(box := Outbox(tmp_path / "outbox", clock)) == 0:
        waiting = box.head("ops")
        assert waiting is not None
        box.settle(waiting, Delivery(result=Result.LATER))
        clock.now += HOUR
        hours += 1
    assert hours == pytest.approx((7 * DAY - MOST_AT_ONCE) / HOUR, abs=2)


def test_a_message_of_an_older_version_waits_its_days_from_now(tmp_path: Path) -> None:
    """Its file doesn't say how long it has waited, and its date may be of another clock."""
    clock = Clock()
    box = Outbox(tmp_path / "outbox", clock)
    box.put("ops", message())
    clock.now += HOUR
    (path,) = (tmp_path / "outbox/ops").iterdir()
    path.write_text(path.read_text().replace('"put_seconds": 0.0', '"by": "an older version"'))
    (tmp_path / "outbox" / "passed.json").unlink()
    clock.now += TEN_YEARS
    box = Outbox(tmp_path / "outbox", clock)
    assert given_up(box) == 0
    for _ in range(8):
        clock.now += DAY
        box.head("ops")
    assert box.dropped == 1


def test_an_end_nobody_was_told_of_is_told_though_the_clock_jumped_ahead(tmp_path: Path) -> None:
    clock, inbox = Clock(), Inbox()

    def courier() -> Courier:
        return Courier(Outbox(tmp_path / "outbox", clock), Told(tmp_path), [inbox], clock)

    def ended(id_: str, at: datetime) -> Entry:
        return Entry(
            at=at, event=Event.ENDED, transaction=transaction(id=id_), result=Act.COMMITTED
        )

    courier().catch_up([ended("before", NOW)], host="h")
    clock.now += TEN_YEARS
    teller = courier()
    entries = [ended("old", NOW - 30 * DAY), ended("before", NOW), ended("t2", NOW + HOUR)]
    teller.catch_up(entries, host="h")
    teller.work_off(inbox)
    assert inbox.given == ["t2-updated"]


def test_what_was_told_last_is_forgotten_last_whatever_its_date(tmp_path: Path) -> None:
    told = Told(tmp_path, most_bytes=100_000)
    told.add((f"ahead-{number}" for number in range(5000)), NOW + TEN_YEARS)
    told.add([f"now-{number}-{'y' * 100}" for number in range(1000)], NOW)
    told.add(["again"], NOW)
    kept = set(Told(tmp_path).when)
    assert "again" in kept
    assert sum(one.startswith("now-") for one in kept) == 1000


# ---- every comparison with now


class Rule(StrEnum):
    """What a module does about a clock that was set ahead or back."""

    MONOTONIC = "seconds of a monotonic clock: no jump is seen"
    PASSED = "time that passed while somebody looked, a day at most for each look"
    UNKNOWN = "a date ahead of now says nothing: what it would hold up is done at once"
    BOTH_WAYS = "a date far ahead counts as one as far back"
    TOLD = "a date ahead of now holds a version back; the plan says so, with the way on"
    ASKED = "a moment that a user named: it is meant by the wall clock"
    SHOWN = "shown to people, never below 0; nothing depends on it"


RULES = {
    "attempt": Rule.UNKNOWN,  # how long an outage was: not known
    "claim": Rule.BOTH_WAYS,
    "courier": Rule.UNKNOWN,
    "delay": Rule.TOLD,  # also ASKED: user.lxdocker.update.snooze
    "delivery": Rule.UNKNOWN,  # a receiver's Retry-After: an hour at most
    "gate": Rule.MONOTONIC,
    "health": Rule.MONOTONIC,
    "host_program": Rule.MONOTONIC,
    "image_server_poll": Rule.MONOTONIC,
    "journal": Rule.MONOTONIC,
    "liveness": Rule.UNKNOWN,
    "liveness_monitor": Rule.MONOTONIC,
    "metrics": Rule.SHOWN,
    "notification": Rule.UNKNOWN,
    "outbox": Rule.PASSED,  # a due time: UNKNOWN
    "passed_time": Rule.PASSED,
    "polled_images": Rule.MONOTONIC,
    "rejection": Rule.TOLD,
    "release": Rule.UNKNOWN,
    "retention": Rule.PASSED,  # copy_ages
    "rounds": Rule.UNKNOWN,
    "scene": Rule.UNKNOWN,
    "stage_room": Rule.UNKNOWN,
    "telling": Rule.MONOTONIC,
    "watch": Rule.MONOTONIC,
    "window": Rule.ASKED,
}
_CLOCKS = frozenset({"clock", "monotonic", "now"})
_ORDERS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)


def is_now(node: ast.AST) -> bool:
    """Whether an expression is the present moment."""
    if isinstance(node, ast.Call):
        node = node.func
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return name.strip("_") in _CLOCKS


def compares_with_now(file: Path) -> bool:
    """Whether a module orders, or subtracts, something and now."""
    return any(
        any(map(is_now, ast.walk(node)))
        for node in ast.walk(ast.parse(file.read_text()))
        if (isinstance(node, ast.Compare) and isinstance(node.ops[0], _ORDERS))
        or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub))
    )


def test_each_comparison_with_now_has_its_rule() -> None:
    files = Path(update.__file__).parent.glob("*.py")
    assert {file.stem for file in files if compares_with_now(file)} - set(RULES) == set()


def test_a_rejection_that_is_dated_ahead_is_told_and_newer_versions_pass() -> None:
    ahead = Rejection(fingerprint="b" * 64, at=NOW + TEN_YEARS)
    held = web(rejected=str(ahead))
    (decision,) = plan(scene(held, images=(image("b" * 64),)))
    assert (decision.choice, "tried and rolled back" in decision.reason) == (Choice.WAIT, True)
    (decision,) = plan(scene(held, images=(image("c" * 64),)))
    assert decision.choice is Choice.UPDATE
