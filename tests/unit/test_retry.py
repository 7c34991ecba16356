"""When to try again and how long to wait."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.convert.registry.retry import (
    Patience,
    RetryPolicy,
    TemporaryError,
    parse_retry_after,
)
from lxdocker_lxd.errors import NetworkError

NOW = datetime(2025, 1, 1, tzinfo=UTC)


class SeldomPassesError(TemporaryError):
    most_attempts = 2


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0),
        (" 17 ", 17),
        ("120", 120),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("१२", None),
        (format_datetime(NOW + timedelta(seconds=30), usegmt=True), 30),
        (format_datetime(NOW + timedelta(seconds=30)).replace("+0000", "-0000"), 30),
        (format_datetime(NOW - timedelta(seconds=30), usegmt=True), None),
        ("Wed, 99 Foo 2025 00:00:00 GMT", None),
        # Seconds since 1970, which some registries send.
        (str(int(NOW.timestamp()) + 45), 45),
        (str(int(NOW.timestamp()) - 45), None),
    ],
)
def test_retry_after(text: str | None, seconds: float | None) -> None:
    assert parse_retry_after(text, now=NOW) == seconds


@given(st.text(max_size=40))
def test_no_retry_after_breaks_the_parser(text: str) -> None:
    seconds = parse_retry_after(text, now=NOW)
    assert seconds is None or seconds >= 0


def test_delays_double_up_to_a_limit_and_a_wish_is_honoured() -> None:
    policy = RetryPolicy()
    delays = [policy.delay_seconds(n, wished_seconds=None, chance=0) for n in range(1, 9)]
    assert delays == [1, 2, 4, 8, 16, 30, 30, 30]
    assert policy.delay_seconds(1, wished_seconds=50, chance=0) == 50
    assert policy.delay_seconds(1, wished_seconds=0, chance=0) == 0
    assert policy.delay_seconds(1, wished_seconds=121, chance=0) is None


@given(st.integers(1, 10_000), st.floats(0, 0.999))
def test_chance_shortens_a_delay_by_at_most_half(failures: int, chance: float) -> None:
    policy = RetryPolicy()
    full = policy.delay_seconds(failures, wished_seconds=None, chance=0)
    delay = policy.delay_seconds(failures, wished_seconds=None, chance=chance)
    assert full is not None
    assert delay is not None
    assert full / 2 < delay <= full
    wished = policy.delay_seconds(failures, wished_seconds=100, chance=chance)
    assert wished is not None
    assert 100 <= wished < 110


def quiet(_text: str) -> None:
    """Tell nobody."""


def failing(*errors: NetworkError) -> Callable[[], str]:
    left = list(errors)

    def attempt() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return attempt


def test_persisting_waits_between_attempts_and_says_so() -> None:
    slept: list[float] = []
    notices: list[str] = []
    patience = Patience(sleep=slept.append, chance=lambda: 0.0, now=lambda: NOW)
    errors = (TemporaryError("busy"), TemporaryError("busy", retry_after_seconds=7))
    assert patience.persist(failing(*errors), notice=notices.append) == "done"
    assert slept == [1, 7]
    assert notices == ["busy; trying again in 1.0 s", "busy; trying again in 7.0 s"]


def test_the_last_failure_is_raised() -> None:
    slept: list[float] = []
    patience = Patience(sleep=slept.append, chance=lambda: 0.0, now=lambda: NOW)
    errors = [TemporaryError(str(n)) for n in range(9)]
    with pytest.raises(TemporaryError, match="4"):
        patience.persist(failing(*errors), notice=quiet)
    assert len(slept) == 4
    with pytest.raises(TemporaryError, match="0"):
        patience.persist(failing(*errors), notice=quiet, attempts=1)
    with pytest.raises(TemporaryError, match="1"):
        patience.persist(failing(*[SeldomPassesError(str(n)) for n in range(9)]), notice=quiet)
    assert len(slept) == 5


def test_other_errors_and_long_wishes_are_raised_at_once() -> None:
    slept: list[float] = []
    patience = Patience(sleep=slept.append)
    with pytest.raises(NetworkError, match="final"):
        patience.persist(failing(NetworkError("final")), notice=quiet)
    with pytest.raises(TemporaryError, match="later"):
        patience.persist(failing(TemporaryError("later", retry_after_seconds=3600)), notice=quiet)
    assert slept == []
