"""What a guest says of its command: a stranger's word, and a hint at most."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.guest_state import UNKNOWN_STATE, GuestState, parse_guest_state


def test_what_init_writes() -> None:
    said = {"status": "exited", "exit_code": 3, "restarts": 2, "stop_requested": False}
    found = parse_guest_state(json.dumps({**said, "problem": "x"}).encode())
    assert found == GuestState(
        status="exited", exit_code=3, restarts=2, stop_requested=False, problem="x"
    )


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"[]", b"7", b"[" * 60_000, b'{"a":' * 10_000, b'{"status": {}}']
)
def test_what_is_no_state_is_unknown(content: bytes) -> None:
    assert parse_guest_state(content) == UNKNOWN_STATE


@given(
    st.dictionaries(
        st.sampled_from(["status", "exit_code", "restarts", "stop_requested", "problem"]),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text()
        | st.lists(st.none(), max_size=1)
        | st.dictionaries(st.text(max_size=1), st.none(), max_size=1),
    )
)
def test_each_value_is_known_or_not(said: dict[str, object]) -> None:
    found = parse_guest_state(json.dumps(said).encode())
    assert found.exit_code is None or 0 <= found.exit_code <= 255
    assert len(found.problem) <= 200
