"""What an answer means for a message, and how long to wait."""

from datetime import timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.update.delivery import (
    LONGEST_WAIT,
    Result,
    backoff,
    delivery_of_status,
    wait_of,
)
from tests.update.messages import NOW


@pytest.mark.parametrize(
    ("statuses", "result"),
    [
        ((200, 201, 202, 204, 299), Result.DELIVERED),
        ((301, 302, 307, 308, 401, 403, 404, 408, 410, 429, 502, 503, 504), Result.LATER),
        ((400, 406, 411, 413, 415, 422, 431, 499), Result.REFUSED),
        ((500, 501, 507, 599, 199, 600, 0), Result.FAILED),
    ],
)
def test_a_status_tells_whose_fault_it_is(statuses: tuple[int, ...], result: Result) -> None:
    assert {delivery_of_status(status, "", NOW).result for status in statuses} == {result}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        ("999999999", 3600),
        ("99999999999999999999", None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("٣", None),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0),
        ("Mon, 99 Foo 2026 00:00:00 GMT", None),
    ],
)
def test_a_receiver_may_ask_for_patience(text: str, seconds: int | None) -> None:
    expected = None if seconds is None else timedelta(seconds=seconds)
    assert wait_of(text, NOW) == expected
    assert delivery_of_status(503, text, NOW).wait == expected


@given(st.text(max_size=60))
def test_whatever_stands_in_the_header(text: str) -> None:
    wait = wait_of(text, NOW)
    assert wait is None or timedelta(0) <= wait <= LONGEST_WAIT


def test_waits_grow_and_stay_bounded() -> None:
    waits = [backoff(attempts) for attempts in range(1, 100)]
    assert waits[0] == timedelta(seconds=10)
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_WAIT
