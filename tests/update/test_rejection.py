"""Versions that were rolled back stay rejected for a time, whatever their alias stood for meanwhile."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.update.cause import Cause
from lxdocker_lxd.update.enrolment import policy_of
from lxdocker_lxd.update.plan import Choice, Decision
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.recovery import parked_copy
from lxdocker_lxd.update.rejection import (
    MOST_PAST,
    Rejection,
    after_good_update,
    rejected_value,
    rejection_now,
    rejections_of,
    series_of,
    with_rejection,
)
from lxdocker_lxd.update.transaction import REJECTED_KEY
from tests.harness.simulated_lxd import EXITS_AT_ONCE
from tests.update.records import NOW
from tests.update.test_rounds import House

MONTH = timedelta(days=30)


@pytest.fixture
def house() -> House:
    """An instance of version one, whose alias stands for version two, which ends at once."""
    house = House()
    house.lxd.add_image("one", alias="app")
    house.local("web")
    house.lxd.add_image("two", alias="app", behaviour=EXITS_AT_ONCE)
    assert [one.act for one in house.run().outcomes] == [Act.ROLLED_BACK]
    return house


def follow(house: House, version: str) -> None:
    """Let the alias stand for a version that the store may hold already."""
    alias = house.lxd.user.aliases.get("app")
    fingerprint = next(
        one.fingerprint
        for one in house.lxd.user.images.list()
        if one.properties["version"] == version
    )
    house.lxd.user.aliases.move(alias, fingerprint)


def decided(house: House) -> Decision:
    (decision,) = house.rounds().plan()
    return decision


def test_an_alias_that_flips_back_to_a_bad_version_makes_no_second_outage(house: House) -> None:
    three = house.lxd.add_image("three", alias="app")
    assert [one.act for one in house.run().outcomes] == [Act.COMMITTED]
    for _ in range(3):
        follow(house, "two")
        house.lxd.clock.advance(8 * 3600)
        report = house.run()
        assert report.outcomes == ()
        assert report.decisions[0].cause is Cause.REJECTED
        follow(house, "three")
        house.run()
    assert house.image("web") == three


def test_after_its_time_a_rejected_version_is_tried_again(house: House) -> None:
    house.lxd.add_image("three", alias="app")
    house.run()
    follow(house, "two")
    assert "isn't tried again before" in decided(house).reason
    house.lxd.clock.advance(MONTH.total_seconds() - 86400)
    assert decided(house).choice is Choice.WAIT
    house.lxd.clock.advance(2 * 86400)
    assert decided(house).choice is Choice.UPDATE
    # It fails again, and rests again.
    assert [one.act for one in house.run().outcomes] == [Act.ROLLED_BACK]
    assert decided(house).cause is Cause.REJECTED
    assert len(rejections_of(house.lxd.user.instances.get("web").config)) == 1


@pytest.mark.parametrize(
    ("text", "days", "choice"),
    [("2d", 3, Choice.UPDATE), ("2d", 1, Choice.WAIT), ("never", 3000, Choice.WAIT)],
)
def test_a_key_says_how_long(house: House, text: str, days: int, choice: Choice) -> None:
    box = house.lxd.user.instances.get("web")
    house.lxd.user.instances.patch(
        "web", config={"user.lxdocker.update.retry_rejected": text}, etag=box.etag
    )
    house.lxd.clock.advance(days * 86400)
    assert decided(house).choice is choice


@pytest.mark.parametrize("text", ["0s", "59m", "always", "9999999d"])
def test_a_time_that_would_make_outage_after_outage_is_refused(text: str) -> None:
    policy = policy_of({"user.lxdocker.update.retry_rejected": text})
    assert "retry_rejected" in policy.problems[0]
    assert policy.retry_rejected == MONTH


def test_a_good_version_ends_the_series_and_the_breaker_counts_anew(house: House) -> None:
    for round_ in range(2):
        for version in ("a", "b"):
            house.lxd.add_image(f"bad {version} {round_}", alias="app", behaviour=EXITS_AT_ONCE)
            house.run()
        house.lxd.add_image(f"good {round_}", alias="app")
        outcomes = [one.act for one in house.run().outcomes]
        # Two, a and b of the first time are three in a row.
        assert outcomes == ([] if round_ == 0 else [Act.COMMITTED])
        if round_ == 0:
            assert decided(house).cause is Cause.BREAKER
            box = house.lxd.user.instances.get("web")
            house.lxd.user.instances.patch("web", config={REJECTED_KEY: ""}, etag=box.etag)
            assert [one.act for one in house.run().outcomes] == [Act.COMMITTED]
    rejections = rejections_of(house.lxd.user.instances.get("web").config)
    assert (len(rejections), series_of(rejections)) == (2, ())


def test_going_back_by_hand_forgets_no_rejection(house: House) -> None:
    house.lxd.add_image("three", alias="app")
    house.run()
    bad = house.lxd.add_image("four", alias="app", behaviour=EXITS_AT_ONCE)
    house.run()
    transaction = parked_copy(house.lxd.instances.list(), "web", "default")
    assert transaction is not None
    three = house.image("web")
    house.updater().turn_back(transaction)
    found = {one.fingerprint for one in rejections_of(house.lxd.user.instances.get("web").config)}
    assert found >= {bad, three}
    assert len(found) == 3


def test_entries_of_older_versions_are_understood() -> None:
    rejections = rejections_of({REJECTED_KEY: "aa bb@2026-11-01T10:00Z cc@2026-11-02T10:00Z/past"})
    assert [one.fingerprint for one in rejections] == ["aa", "bb", "cc"]
    assert [one.fingerprint for one in series_of(rejections)] == ["aa", "bb"]
    # One without a time stays until a good update gives it one.
    assert rejection_now(rejections, "aa", datetime(2036, 1, 1, tzinfo=UTC), MONTH) is not None
    past = after_good_update(rejections, NOW)
    assert rejection_now(past, "aa", NOW + MONTH, MONTH) is None
    assert series_of(past) == ()


@given(st.text(max_size=300))
def test_whatever_the_key_says_it_is_read(text: str) -> None:
    rejections = rejections_of({REJECTED_KEY: text})
    assert len(rejections) <= 300
    for one in rejections:
        rejection_now(rejections, one.fingerprint, NOW, MONTH)


fingerprints = st.text("0123456789abcdef", min_size=64, max_size=64)
times = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants naive bounds


@given(
    st.lists(
        st.builds(
            Rejection,
            fingerprint=fingerprints,
            at=st.none() | times.map(lambda at: at.replace(second=0, microsecond=0)),
            past=st.booleans(),
        ),
        max_size=100,
    )
)
def test_what_is_written_is_read_again(found: list[Rejection]) -> None:
    assert rejections_of({REJECTED_KEY: rejected_value(found)}) == tuple(found)
    assert len(after_good_update(found, NOW)) <= MOST_PAST
    again = with_rejection(found, "ab", NOW)
    assert with_rejection(again, "ab", NOW) == again
