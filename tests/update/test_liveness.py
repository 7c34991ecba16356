"""Unhealthy instances: when they are called so, when they are restarted, and when they are left."""

import itertools
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.guest_health import Health
from lxdocker_lxd.update.liveness import (
    BUDGET,
    HEAL_KEY,
    Heal,
    HealError,
    Liveness,
    Remedy,
    begin,
    decode_liveness,
    encode_liveness,
    heal_of,
    is_exhausted,
    observe,
    remedy_for,
    restarted,
)

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
GOOD, BAD, NO_ANSWER = Health.HEALTHY, Health.UNHEALTHY, Health.UNKNOWN


def after(*answers: Health, known: Liveness | None = None, start: bool = False) -> Liveness:
    """What is known after checks, one a second."""
    found = known or Liveness(health=Health.HEALTHY, since=NOW - SECOND)
    for number, answer in enumerate(answers):
        found = observe(found, answer, NOW + number * SECOND, retries=3, in_start_period=start)
    return found


@pytest.mark.parametrize(
    ("answers", "health"),
    [
        ((BAD, BAD), Health.HEALTHY),
        ((BAD, BAD, BAD), Health.UNHEALTHY),
        ((BAD, BAD, GOOD, BAD, BAD), Health.HEALTHY),
        ((BAD, BAD, NO_ANSWER, NO_ANSWER, BAD), Health.UNHEALTHY),
        ((NO_ANSWER,) * 100, Health.HEALTHY),
        ((BAD,) * 50 + (GOOD,), Health.HEALTHY),
    ],
)
def test_so_many_failures_in_a_row_are_unhealthy_and_no_answer_is_neither(
    answers: tuple[Health, ...], health: Health
) -> None:
    assert after(*answers).health is health


def test_failures_while_it_starts_dont_count() -> None:
    starting = Liveness(health=Health.STARTING, since=NOW)
    assert after(*[BAD] * 20, known=starting, start=True).health is Health.STARTING
    # What was healthy isn't starting any more.
    assert after(BAD, BAD, BAD, start=True).health is Health.UNHEALTHY


def test_a_new_start_begins_anew() -> None:
    ill = after(BAD, BAD, BAD)
    assert begin(ill, NOW - SECOND, NOW + 3 * SECOND).health is Health.UNHEALTHY
    later = begin(ill, NOW + 60 * SECOND, NOW + 61 * SECOND)
    assert (later.health, later.failures) == (Health.STARTING, 0)
    # A clock that was set back makes no start that is still to come.
    assert begin(ill, NOW + 60 * SECOND, NOW) == ill
    assert begin(Liveness(), NOW, NOW).health is Health.STARTING


def test_an_unhealthy_one_is_restarted_ever_more_slowly_and_then_left() -> None:
    known, now, made = after(BAD, BAD, BAD), NOW + 3 * SECOND, []
    for _ in range(3600):
        remedy = remedy_for(known, Heal.RESTART, now)
        if remedy is Remedy.RESTART:
            made.append(now)
            known = restarted(known, now)
        elif remedy is Remedy.TELL:
            break
        now += SECOND
        known = observe(known, BAD, now, retries=3, in_start_period=False)
    assert len(made) == BUDGET
    gaps = [later - earlier for earlier, later in itertools.pairwise(made)]
    assert gaps == [timedelta(minutes=1), timedelta(minutes=4)]
    assert is_exhausted(known, now)
    assert remedy_for(known, Heal.RESTART, now + timedelta(minutes=10)) is Remedy.TELL
    # An hour later it has another chance.
    assert remedy_for(known, Heal.RESTART, now + timedelta(hours=2)) is Remedy.RESTART


def test_it_is_told_of_once_and_never_restarted_without_a_word() -> None:
    ill = after(BAD, BAD, BAD)
    assert remedy_for(ill, Heal.NOTIFY, NOW) is Remedy.TELL
    assert remedy_for(ill, Heal.OFF, NOW) is Remedy.NOTHING
    told = Liveness(health=Health.UNHEALTHY, since=NOW, told=True)
    assert remedy_for(told, Heal.NOTIFY, NOW) is Remedy.NOTHING
    for health in set(Health) - {Health.UNHEALTHY}:
        assert remedy_for(Liveness(health=health), Heal.RESTART, NOW) is Remedy.NOTHING


def test_the_default_is_to_tell_and_nonsense_is_an_error() -> None:
    assert heal_of({}) is Heal.NOTIFY
    assert heal_of({HEAL_KEY: " restart "}) is Heal.RESTART
    with pytest.raises(HealError, match="neither restart, notify nor off"):
        heal_of({HEAL_KEY: "reboot"})


past = st.integers(0, 100 * 365 * 86400).map(lambda age: NOW - age * SECOND)
moments = st.none() | past
records = st.builds(
    Liveness,
    health=st.sampled_from(Health),
    since=moments,
    checked_at=moments,
    failures=st.integers(0, 1000),
    restarts=st.lists(past, max_size=BUDGET).map(tuple),
    told=st.booleans(),
)


@given(st.dictionaries(st.tuples(st.text(), st.text()), records, max_size=4))
def test_what_is_known_survives_a_restart(known: dict[tuple[str, str], Liveness]) -> None:
    text = json.dumps(encode_liveness(known))
    assert decode_liveness(json.loads(text)) == known


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ).map(lambda inside: {"format": 1, "instances": inside})
    | st.fixed_dictionaries(
        {
            "format": st.just(1),
            "instances": st.lists(
                st.dictionaries(
                    st.sampled_from(["project", "name", "health", "since", "restarts", "failures"]),
                    st.none() | st.text() | st.floats() | st.lists(st.text()),
                )
            ),
        }
    )
)
def test_a_spoilt_memory_is_no_memory(document: object) -> None:
    decode_liveness(document)


@given(records, st.sampled_from(Heal), st.lists(st.sampled_from(Health), max_size=30))
def test_no_history_makes_more_restarts_than_the_budget(
    known: Liveness, heal: Heal, answers: list[Health]
) -> None:
    now, made = NOW, 0
    for answer in answers * 20:
        now += 5 * SECOND
        known = observe(known, answer, now, retries=3, in_start_period=False)
        if remedy_for(known, heal, now) is Remedy.RESTART:
            made += 1
            known = restarted(known, now)
    assert made <= (BUDGET if heal is Heal.RESTART else 0)
