"""Whatever a tenant writes into a key: it is understood or refused, at once, and harms that one only."""

import os
import random
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.errors import LxdockerError, UsageError
from lxdocker_lxd.instance_keys import INSTANCE_KEYS
from lxdocker_lxd.lxd.records import Alias, Config, Instance
from lxdocker_lxd.update import claim
from lxdocker_lxd.update.bounded_json import DEEPEST, json_object_of, json_of
from lxdocker_lxd.update.cause import Cause
from lxdocker_lxd.update.enrolment import policy_of
from lxdocker_lxd.update.health_check import check_of
from lxdocker_lxd.update.hook import Point, names_of
from lxdocker_lxd.update.plan import Choice, Scene, plan
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.quantity import duration_of, moment_of, number_of, seconds_of
from lxdocker_lxd.update.source import SOURCE_KEY, source_of_text
from lxdocker_lxd.update.transaction import (
    REJECTED_KEY,
    STAMP_KEY,
    Phase,
    Role,
    Stamp,
    Unreadable,
    encoded,
    stamp_of,
)
from lxdocker_lxd.update.window import is_open, next_opening, windows_of
from tests.harness.simulated_lxd import SimulatedLxd
from tests.update.hostile_text import EVIL, hostile_json, hostile_text
from tests.update.records import NEW_IMAGE, NOW, image, instance
from tests.update.test_rounds import AUTO, House

FULL = os.environ.get("LXDOCKER_TEST_FULL") == "1"
VALUES = 100_000 if FULL else 400
BATCH = 200
ENROLLED = {"user.lxdocker.update": "auto", SOURCE_KEY: "local|web"}
KEYS = sorted(key.name for key in INSTANCE_KEYS if key.read_by == "updater")
STAMP = encoded(
    Stamp(
        transaction="0000000a",
        role=Role.OLD,
        phase=Phase.KEPT,
        name="web",
        fingerprint=NEW_IMAGE,
        until=datetime(2026, 12, 1, tzinfo=UTC),
    )
)
CLAIM = '{"owner": "here:/var", "at": "2026-11-21T12:00:00+00:00"}'


def draws(what: str) -> random.Random:
    """The same values in every run, other ones for each key."""
    return random.Random(zlib.crc32(what.encode()))


def scene(*instances: Instance) -> Scene:
    return Scene(
        instances=instances,
        images={"default": (image(),)},
        aliases={"default": (Alias(name="web", fingerprint=NEW_IMAGE, project="default"),)},
        now=NOW,
    )


@pytest.mark.parametrize("key", KEYS)
def test_no_value_of_a_key_raises_hangs_or_keeps_another_instance_from_its_update(
    key: str,
) -> None:
    draw = draws(key)

    def value() -> str:
        return hostile_json(draw, STAMP) if key == STAMP_KEY else hostile_text(draw)

    for _ in range(0, VALUES, BATCH):
        tried = [
            instance(f"n{number}", config=ENROLLED | {key: value()}) for number in range(BATCH)
        ]
        began = time.monotonic()
        decisions = plan(scene(*tried, instance("zeta", config=ENROLLED)))
        assert time.monotonic() - began < 20
        mine = next(one for one in decisions if one.name == "zeta")
        assert (mine.choice, mine.fingerprint) == (Choice.UPDATE, NEW_IMAGE)
        # What nobody foresaw is a refusal, too; here all of it is to be foreseen.
        unforeseen = [one for one in decisions if one.cause is Cause.INTERNAL_ERROR]
        assert not unforeseen
        assert not [one for one in decisions if "can't be read: " in one.reason]


@pytest.mark.parametrize("key", KEYS)
def test_a_round_goes_on_whatever_the_keys_of_some_instances_say(key: str) -> None:
    """From reading LXD to the last report."""
    house = House()
    house.lxd.add_image("one", alias="app")
    draw = draws(f"round {key}")
    for number in range(60 if FULL else 6):
        value = hostile_json(draw, STAMP) if key == STAMP_KEY else hostile_text(draw)
        house.local(f"aaa{number}", AUTO | {key: value})
    house.lxd.add_image("base", alias="base")
    house.local("zeta", alias="base")
    new = house.lxd.add_image("base two", alias="base")
    house.lxd.add_image("two", alias="app")
    report = house.run()
    assert house.image("zeta") == new
    assert not [one for one in report.problems if "internal error" in str(one)]
    # A check of another port than the program has is a good value, and fails.
    assert {one.act for one in report.outcomes} <= {Act.COMMITTED, Act.ROLLED_BACK}


@pytest.mark.parametrize("text", EVIL)
def test_a_claim_that_cant_be_understood_is_nobodys(text: str) -> None:
    lxd = SimulatedLxd()
    lxd.server.configure({claim.KEY: text})
    mine = claim.Claim(lambda: lxd.server, "here:/var", lxd.clock)
    mine.take()
    assert "here:/var" in lxd.server.info().config[claim.KEY]


def understood(parse: Callable[[str], object], text: str) -> bool:
    try:
        parse(text)
    except UsageError as error:
        message = error.message
    else:
        return True
    # It can be told: it is text, and short.
    assert len(message.encode()) < 1000
    return False


def of_config(parse: Callable[[Config], object], key: str) -> Callable[[str], object]:
    return lambda text: parse({key: text})


def with_stamp(text: str) -> Stamp | Unreadable | None:
    return stamp_of(instance(config={STAMP_KEY: text}))


def seen_windows(text: str) -> bool:
    windows = windows_of(text)
    opening = next_opening(windows, NOW)
    return opening is None or is_open(windows, opening)


PARSERS: dict[str, Callable[[str], object]] = {
    "policy": of_config(policy_of, "user.lxdocker.update.minimum_age"),
    "check": of_config(check_of, "user.lxdocker.update.health"),
    **{
        f"check {name}": of_config(check_of, f"user.lxdocker.update.{name}")
        for name in ("interval", "timeout", "start_period", "stable", "retries")
    },
    "hooks": of_config(lambda config: names_of(config, Point.AFTER), Point.AFTER.key),
    "source": source_of_text,
    "windows": seen_windows,
    "stamp": with_stamp,
    "claim": claim._held,
    "duration": duration_of,
    "moment": moment_of,
    "seconds": seconds_of,
    "number": lambda text: number_of(text, most=10**9),
    "json": json_of,
}


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_understands_or_refuses_and_never_raises_anything_else(name: str) -> None:
    draw, parse = draws(name), PARSERS[name]
    began = time.monotonic()
    for _ in range(VALUES):
        understood(parse, hostile_text(draw))
    for _ in range(VALUES // 4):
        understood(parse, hostile_json(draw, draw.choice((STAMP, CLAIM))))
    assert time.monotonic() - began < 20 + VALUES / 500


@given(st.text(max_size=200), st.sampled_from(sorted(PARSERS)))
def test_any_text_is_understood_or_refused(text: str, name: str) -> None:
    understood(PARSERS[name], text)


@given(st.dictionaries(st.sampled_from(KEYS), st.text(max_size=60)))
def test_any_keys_together_give_one_decision_at_most(config: Config) -> None:
    decisions = plan(scene(instance(config=config), instance("zeta", config=ENROLLED)))
    assert [one.name for one in decisions].count("zeta") == 1
    assert len(decisions) <= 2
    assert all(one.cause is not Cause.INTERNAL_ERROR for one in decisions)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("minimum_age", "9999999d"),
        ("minimum_age", "99999999999d"),
        ("minimum_age", "9" * 5000 + "d"),
        ("stable", "nan"),
        ("stable", "1e18"),
        ("stable", "10s"),
        ("start_period", "inf"),
        ("start_period", "86401"),
        ("timeout", "inf"),
        ("retries", "9" * 5000),
        ("retries", "0"),
        ("health", "htp 80"),
        ("health", "http 8080/health"),
        ("health", f"tcp {'9' * 5000}"),
        ("hook.after", "Purge-Cache"),
        ("hook.before", "../../bin/sh"),
        ("pin", "v1.2"),
        ("skip", "the-bad-one"),
        ("keep", "for ever"),
        ("root_disk", "yes"),
        ("volumes", "snapshots"),
        ("snooze", "0001-01-01T00:00+23:00"),
    ],
)
def test_a_key_that_a_later_step_needs_is_refused_before_an_update_begins(
    key: str, value: str
) -> None:
    full = f"user.lxdocker.update.{key}"
    (decision,) = plan(scene(instance(config=ENROLLED | {full: value})))
    assert (decision.choice, decision.cause) == (Choice.REFUSE, Cause.PROBLEM)
    assert full in decision.reason
    assert len(decision.reason) < 400


class Poisoned(dict[str, str]):
    """Keys of which one can't be read, as by a fault that nobody has found yet."""

    def get(self, key: str, default: str = "") -> str:  # type: ignore[override] # narrower
        if key == REJECTED_KEY:
            raise RecursionError("too deep")
        return super().get(key, default)


def test_what_nobody_foresaw_about_one_instance_is_told_of_that_one() -> None:
    bad, good = instance(config=ENROLLED), instance("zeta", config=ENROLLED)
    decisions = {
        one.name: one for one in plan(scene(replace(bad, config=Poisoned(bad.config)), good))
    }
    assert (decisions["web"].choice, decisions["web"].cause) == (
        Choice.REFUSE,
        Cause.INTERNAL_ERROR,
    )
    assert "RecursionError" in decisions["web"].reason
    assert decisions["zeta"].choice is Choice.UPDATE


def test_numbers_and_times_have_bounds() -> None:
    assert seconds_of("0.5") == 0.5
    assert seconds_of("86400") == 86400
    assert duration_of("520w") < timedelta(days=3653)
    for wrong in ("86401", "-1", "", "1e3", "nan", "\u0663"):
        with pytest.raises(UsageError):
            seconds_of(wrong)
    with pytest.raises(UsageError, match="more than 3653 days"):
        duration_of("3654d")
    assert moment_of("2026-12-24") == datetime(2026, 12, 24, tzinfo=UTC)
    with pytest.raises(UsageError, match="no time"):
        moment_of("2026-12-24", zone_needed=True)


def test_json_has_bounds() -> None:
    assert json_object_of('{"a": [1, 2.5, "x", null]}') == {"a": [1, 2.5, "x", None]}
    deep = "[" * DEEPEST + "]" * DEEPEST
    assert json_of(deep)
    brackets = '"' + "[" * 1000 + '"'
    assert json_of(brackets) == "[" * 1000
    for wrong in (f"[{deep}]", "NaN", "1e999", "9" * 41, r'"\ud800"', "{", '{"a":1} x', "\ud800"):
        with pytest.raises(LxdockerError):
            json_of(wrong)
    with pytest.raises(UsageError, match="no JSON object"):
        json_object_of("[]")
    with pytest.raises(UsageError, match="more than 5 characters"):
        json_of("[1, 2]", most_characters=5)


def test_a_value_that_json_has_no_text_for_leaves_the_updaters_own_stamp_readable() -> None:
    house = House()
    house.lxd.add_image("one", alias="app")
    house.local("web", AUTO | {"user.lxdocker.image.certificate": "a\ud800b"})
    new = house.lxd.add_image("two", alias="app")
    assert [one.act for one in house.run().outcomes] == [Act.COMMITTED]
    assert house.image("web") == new
