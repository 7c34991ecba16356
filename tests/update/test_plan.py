"""Decisions: one for every enrolled instance, with a reason, in an order that dependencies allow."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.lxd.records import Alias, Image, Instance
from lxdocker_lxd.update.plan import Choice, Decision, Scene, plan
from tests.update.records import NEW_IMAGE, NOW, OLD_IMAGE, image, instance

ENROLLED = {"user.lxdocker.update": "auto", "user.lxdocker.image": "local|web"}


def scene(*instances: Instance, images: tuple[Image, ...] = (image(),)) -> Scene:
    held = tuple(
        Alias(name=alias, fingerprint=one.fingerprint, project="default")
        for one in images
        for alias in one.aliases
    )
    return Scene(
        instances=instances, images={"default": images}, aliases={"default": held}, now=NOW
    )


def web(**keys: str) -> Instance:
    config = {f"user.lxdocker.{key}".replace("__", "."): value for key, value in keys.items()}
    return instance(config=ENROLLED | config)


def decide(one: Instance, **changes: object) -> Decision:
    (decision,) = plan(replace(scene(one), **changes))  # type: ignore[arg-type] # fields by name
    return decision


def test_what_isnt_enrolled_isnt_decided_about() -> None:
    others = (
        instance(),
        instance(config=ENROLLED | {"user.lxdocker.update": "off"}),
        instance(config={"user.lxdocker.image": "local|web"}),
    )
    assert plan(scene(*others)) == ()
    elsewhere = replace(scene(web()), projects=frozenset({"other"}))
    assert plan(elsewhere) == ()


def test_a_profile_enrols_its_instances() -> None:
    one = instance(profile_config=ENROLLED)
    assert decide(one).choice is Choice.UPDATE


@pytest.mark.parametrize(
    ("one", "choice", "reason"),
    [
        (web(), Choice.UPDATE, "there is a new version"),
        (web(update="notify"), Choice.NOTIFY, "only told"),
        (web(update="yes"), Choice.REFUSE, "neither auto"),
        (web(image="nothing"), Choice.REFUSE, "names no image"),
        (web(image="local|gone"), Choice.WAIT, "holds no local|gone"),
        (instance(config=ENROLLED, base_image=NEW_IMAGE), Choice.CURRENT, "newest"),
        (instance(config=ENROLLED, ephemeral=True), Choice.REFUSE, "ephemeral"),
        (instance(config=ENROLLED, status="Frozen"), Choice.WAIT, "frozen"),
        (instance(config=ENROLLED, base_image=""), Choice.REFUSE, "wasn't made of an image"),
        (instance(config=ENROLLED, kind="virtual-machine"), Choice.REFUSE, "is for a container"),
        (web(update__pin=OLD_IMAGE[:12]), Choice.WAIT, "pinned"),
        (web(update__pin=NEW_IMAGE[:12]), Choice.UPDATE, ""),
        (web(update__skip=f"ffff {NEW_IMAGE[:8]}"), Choice.WAIT, "skipped"),
        (web(update__snooze="2026-11-22T00:00Z"), Choice.WAIT, "snoozed until"),
        (web(update__snooze="2026-11-20T00:00Z"), Choice.UPDATE, ""),
        (web(update__snooze="tomorrow"), Choice.REFUSE, "is no time"),
        (web(update__minimum_age="1h"), Choice.WAIT, "rest until"),
        (web(update__minimum_age="1 h"), Choice.REFUSE, "is no duration"),
        (web(update__window="13:00-14:00"), Choice.WAIT, "opens 2026-11-21T13:00"),
        (web(update__window="11:00-14:00"), Choice.UPDATE, ""),
        (web(rejected=NEW_IMAGE), Choice.WAIT, "rolled back"),
        (web(rejected="1 2"), Choice.UPDATE, ""),
        (web(rejected="1 2 3"), Choice.REFUSE, "3 versions in a row"),
        (web(transaction="{}"), Choice.REFUSE, "can't be read by this version"),
        (web(update__of="default/web"), Choice.UPDATE, ""),
        (web(update__of="default/shop"), Choice.REFUSE, "a copy of default/shop"),
    ],
)
def test_each_case_has_its_decision(one: Instance, choice: Choice, reason: str) -> None:
    decision = decide(one)
    assert decision.choice is choice, decision
    assert reason in decision.reason


def test_a_hand_overrules_time_and_nothing_else() -> None:
    later = web(update__window="13:00-14:00", update__minimum_age="2d", update__snooze="2027-01-01")
    assert decide(later).choice is Choice.WAIT
    assert decide(later, by_hand=True).choice is Choice.UPDATE
    assert decide(web(rejected=NEW_IMAGE), by_hand=True).choice is Choice.WAIT


def test_age_counts_from_the_arrival_in_the_store() -> None:
    one = web(update__minimum_age="1h")
    for hours, choice in ((2, Choice.UPDATE), (0.5, Choice.WAIT), (-1, Choice.WAIT)):
        arrived = (image(uploaded_at=NOW - timedelta(hours=hours)),)
        (decision,) = plan(scene(one, images=arrived))
        assert decision.choice is choice
    (unknown,) = plan(scene(one, images=(image(uploaded_at=None),)))
    assert "nobody knows how old" in unknown.reason


def test_what_lxd_is_at_work_on_or_cant_reach_waits() -> None:
    assert "at work" in decide(web(), busy=frozenset({("default", "web")})).reason
    member = instance(config=ENROLLED, location="n2")
    assert "n2 isn't online" in decide(member, absent_members=frozenset({"n2"})).reason


def test_an_image_of_another_architecture_is_refused() -> None:
    (decision,) = plan(scene(web(), images=(image(architecture="aarch64"),)))
    assert decision.choice is Choice.REFUSE


def dependent(name: str, *needs: str, base: str = OLD_IMAGE) -> Instance:
    config = ENROLLED | ({"user.lxdocker.depends": ",".join(needs)} if needs else {})
    return instance(name, config=config, base_image=base)


def test_dependencies_come_first_and_their_dependants_restart() -> None:
    decisions = plan(
        scene(dependent("app", "db", base=NEW_IMAGE), dependent("db"), dependent("www", "app"))
    )
    assert [(one.name, one.choice) for one in decisions] == [
        ("db", Choice.UPDATE),
        ("app", Choice.RESTART),
        ("www", Choice.UPDATE),
    ]


def test_a_cycle_is_refused_and_the_rest_goes_on() -> None:
    decisions = plan(
        scene(dependent("a", "b"), dependent("b", "a"), dependent("c"), dependent("d", "d"))
    )
    choices = {one.name: one.choice for one in decisions}
    refused = Choice.REFUSE
    assert choices == {"a": refused, "b": refused, "c": Choice.UPDATE, "d": refused}
    assert "form a cycle" in decisions[-1].reason


@given(
    st.dictionaries(
        st.sampled_from("abcdefg"), st.lists(st.sampled_from("abcdefgx"), max_size=3), max_size=7
    )
)
def test_any_graph_gives_every_instance_one_decision_in_order(
    graph: Mapping[str, list[str]],
) -> None:
    decisions = plan(scene(*(dependent(name, *needs) for name, needs in graph.items())))
    names = [one.name for one in decisions]
    assert sorted(names) == sorted(graph)
    acting = [one.name for one in decisions if one.choice is Choice.UPDATE]
    for first, second in pairwise(acting):
        assert second not in graph[first] or first in graph[second]
