"""When a new version gets its product's aliases."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.serve.staging import next_change, standing
from tests.serve.trees import made, minutes, named

HOUR = 3600


def test_without_a_delay_the_newest_stands() -> None:
    old, new = made("old"), made("new", at=minutes(1))
    assert standing(named("web", old, new), delay_seconds=0, at=minutes(1)) is new


def test_a_new_version_waits_and_then_stands() -> None:
    old, new = made("old"), made("new", at=minutes(120))
    product = named("web", old, new)
    assert standing(product, delay_seconds=HOUR, at=minutes(179)) is old
    assert next_change([product], delay_seconds=HOUR, at=minutes(179)) == minutes(180)
    assert standing(product, delay_seconds=HOUR, at=minutes(180)) is new
    assert next_change([product], delay_seconds=HOUR, at=minutes(180)) is None


def test_the_first_version_never_waits() -> None:
    product = named("web", made("first"))
    assert standing(product, delay_seconds=HOUR, at=minutes(0)) is product.newest
    assert next_change([product], delay_seconds=HOUR, at=minutes(0)) is None


def test_two_quick_versions_move_the_alias_one_by_one() -> None:
    first, second, third = (made(str(n), at=minutes(n * 10)) for n in range(3))
    product = named("web", first, second, third)
    seen = [standing(product, delay_seconds=HOUR, at=minutes(at)) for at in (20, 65, 70, 79, 80)]
    assert seen == [first, first, second, second, third]


@pytest.mark.parametrize(("ahead", "stands"), [(30, False), (600, True)])
def test_a_clock_far_in_the_future_makes_nobody_wait(ahead: int, stands: bool) -> None:
    old, new = made("old"), made("new", at=minutes(100 + ahead))
    product = named("web", old, new)
    assert (standing(product, delay_seconds=HOUR, at=minutes(100)) is new) == stands


@given(
    published=st.lists(st.integers(0, 500), min_size=1, max_size=5, unique=True),
    delay=st.integers(0, 200),
    at=st.integers(-100, 800),
)
def test_nothing_changes_before_the_moment_that_is_foretold(
    published: list[int], delay: int, at: int
) -> None:
    versions = [made(str(moment), at=minutes(moment)) for moment in sorted(published)]
    product = named("web", *versions)
    stands = standing(product, delay_seconds=delay * 60, at=minutes(at))
    change = next_change([product], delay_seconds=delay * 60, at=minutes(at))
    later = at
    while later < 1000 and (change is None or minutes(later) < change):
        assert standing(product, delay_seconds=delay * 60, at=minutes(later)) is stands
        later += 7
    if change is not None:
        just_before = change - timedelta(microseconds=1)
        assert standing(product, delay_seconds=delay * 60, at=just_before) is stands
