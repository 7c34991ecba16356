"""The time an instance has to stop is the one it was promised, whoever stops it; a kill is told."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.lxd.calls import GuestFile
from lxdocker_lxd.lxd.records import Config
from lxdocker_lxd.update.journal_record import entries, line_of
from lxdocker_lxd.update.notification import Severity, of_outcome
from lxdocker_lxd.update.plan import Choice
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.stop_timeout import (
    LONGEST_SECONDS,
    MARGIN_SECONDS,
    stop_timeout_seconds,
)
from tests.harness.simulated_lxd import GOOD, Behaviour
from tests.update.simulated_scene import Scene
from tests.update.test_rounds import AUTO, House

GUEST, HOST = "user.lxdocker.stop_timeout", "boot.host_shutdown_timeout"
SLOW = replace(GOOD, stop_seconds=45.0)
DEAF = replace(GOOD, stops=False)


# ---- which time counts


@pytest.mark.parametrize(
    ("config", "image_seconds", "seconds"),
    [
        ({}, None, 30),
        ({GUEST: "120"}, 20, 120),
        ({GUEST: "120", HOST: "60"}, None, 120),
        ({HOST: "60"}, 20, 20),
        ({HOST: "60"}, None, 60),
        ({GUEST: "0"}, 20, 0),
        ({GUEST: "soon", HOST: "60"}, None, 60),
        ({GUEST: "soon", HOST: "60"}, 20, 20),
        ({GUEST: "007", HOST: "-1"}, None, 30),
        ({GUEST: "9" * 5000}, None, 30),
        ({GUEST: "86400"}, None, LONGEST_SECONDS),
        ({}, 10**12, LONGEST_SECONDS),
    ],
)
def test_the_first_that_says_something_counts(
    config: Config, image_seconds: int | None, seconds: int
) -> None:
    assert stop_timeout_seconds(config, image_seconds) == seconds + MARGIN_SECONDS


@given(
    st.dictionaries(st.sampled_from([GUEST, HOST]), st.text(max_size=40)), st.none() | st.integers()
)
def test_no_value_makes_it_fail_or_wait_for_ever(config: Config, image: int | None) -> None:
    assert MARGIN_SECONDS <= stop_timeout_seconds(config, image) <= LONGEST_SECONDS + MARGIN_SECONDS


@pytest.mark.parametrize(("text", "refused"), [("3600", False), ("3601", True), ("soon", False)])
def test_a_time_that_no_update_could_give_refuses_it(text: str, refused: bool) -> None:
    house = House()
    house.lxd.add_image("one", alias="app")
    house.local("web", AUTO | {GUEST: text})
    house.lxd.add_image("two", alias="app")
    (decision,) = [one for one in house.rounds().plan() if one.name == "web"]
    assert (decision.choice is Choice.REFUSE) is refused
    assert ("longer than an update waits" in decision.reason) is refused


# ---- updates


def scene_of(old: Behaviour, new: Behaviour = GOOD, keys: Config | None = None) -> Scene:
    """An instance whose versions stop as told, with further keys."""
    scene = Scene(new)
    scene.lxd.box("web").guest.behaviour = old
    if keys:
        scene.lxd.user.instances.patch("web", config=keys)
    scene.saved = replace(scene.saved, config={**scene.saved.config, **(keys or {})})
    scene.lxd.log.restart_count()
    return scene


def kills(scene: Scene) -> list[str]:
    return [call.subject for call in scene.lxd.log.calls if call.name == "power.kill"]


def test_a_database_that_needs_45_seconds_and_was_given_60_isnt_killed() -> None:
    scene = scene_of(SLOW, keys={GUEST: "60"})
    outcome = scene.update()
    assert (outcome.act, outcome.killed) == (Act.COMMITTED, "")
    assert "web" not in kills(scene)
    scene.settled()


def test_the_images_own_time_counts_where_no_key_says_one() -> None:
    scene = scene_of(SLOW)
    facts = {"config": {"StopTimeout": 60}}
    file = GuestFile(content=json.dumps(facts).encode())
    scene.lxd.box("web").guest.files["/lxd-image.json"] = file
    assert scene.update().act is Act.COMMITTED
    assert "web" not in kills(scene)


def test_one_that_doesnt_stop_in_its_time_is_killed_and_that_is_told() -> None:
    scene = scene_of(SLOW, keys={GUEST: "20"})
    outcome = scene.update()
    assert outcome.act is Act.COMMITTED
    assert outcome.killed == "web didn't stop within 30 s and was killed"
    assert kills(scene)[0] == "web"
    message = of_outcome(outcome, host="h", at=scene.lxd.clock())
    assert (message.severity, message.reason) == (Severity.WARNING, outcome.killed)
    (ended,) = [one for one in scene.journal.entries if one.killed]
    assert entries(line_of(ended)) == (ended,)
    assert ended.explanation == outcome.killed


def test_a_version_that_fails_its_gate_may_end_in_its_time() -> None:
    sick = Behaviour(health=((0.0, 1),), stop_seconds=45.0)
    keys = {GUEST: "60", "user.lxdocker.update.health": "exec /bin/health"}
    scene = scene_of(GOOD, sick, keys)
    outcome = scene.update()
    assert (outcome.act, outcome.killed) == (Act.ROLLED_BACK, "")
    assert "web" not in kills(scene)
    scene.settled()


def test_a_good_version_that_a_user_goes_back_from_may_end_in_its_time() -> None:
    scene = scene_of(GOOD, SLOW, keys={GUEST: "60"})
    assert scene.update().act is Act.COMMITTED
    scene.lxd.log.restart_count()
    outcome = scene.turn_back()
    assert (outcome.act, outcome.killed) == (Act.ROLLED_BACK, "")
    assert kills(scene) == []


# ---- dependants


@pytest.mark.parametrize(("timeout", "killed"), [("60", []), ("20", ["web"])])
def test_a_dependant_that_is_restarted_has_its_time_too(timeout: str, killed: list[str]) -> None:
    house = House()
    house.lxd.add_image("one", alias="app")
    house.lxd.add_image("slow", alias="slow", behaviour=SLOW)
    house.local("db")
    house.local("web", AUTO | {"user.lxdocker.depends": "db", GUEST: timeout}, alias="slow")
    house.run()
    house.lxd.add_image("two", alias="app")
    house.lxd.log.restart_count()
    report = house.run()
    assert report.restarted == ("web",)
    calls = [call.subject for call in house.lxd.log.calls if call.name == "power.kill"]
    assert [name for name in calls if name == "web"] == killed
    told = " ".join(str(problem) for problem in (*report.problems, *report.remarks))
    assert ("was killed" in told) is bool(killed)
