"""The state file's text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.errors import VerificationError
from lxdocker_lxd.setup.record import Record, SetupState, decode, encode

TEXTS = st.text(st.characters(codec=None), max_size=20)
VALUES = st.dictionaries(TEXTS, TEXTS, max_size=3)
RECORDS = st.builds(
    Record,
    kind=TEXTS,
    name=TEXTS,
    text=TEXTS,
    before=st.none() | VALUES,
    after=VALUES,
    done=st.booleans(),
)
STATES = st.builds(
    SetupState,
    records=st.lists(RECORDS, max_size=3).map(tuple),
    directories=st.lists(TEXTS, max_size=3).map(tuple),
    proven=st.booleans(),
)


@given(STATES)
def test_what_is_written_is_read_back(state: SetupState) -> None:
    assert decode(encode(state).encode("ascii").decode(), file="f") == state


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "null", "{}", '{"version": 2}', '{"version": 1}', "{", "[" * 100_000),
        '{"version": 1, "records": [1], "directories": [], "proven": false}',
        '{"version": 1, "records": [], "directories": [1], "proven": false}',
        '{"version": 1, "records": [{"kind": "a"}], "directories": [], "proven": true}',
    ],
)
def test_a_damaged_file_is_told_and_not_guessed_at(text: str) -> None:
    with pytest.raises(VerificationError, match="/var/lib/x is damaged") as caught:
        decode(text, file="/var/lib/x")
    assert "--undo" in caught.value.hint
