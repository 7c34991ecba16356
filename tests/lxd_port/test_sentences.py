"""LXD's own sentences, as LXD 5.0.2 says them, and the failure each one is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.lxd.failures import (
    AbsentError,
    AddressTakenError,
    BusyError,
    ChangedMeanwhileError,
    FingerprintMismatchError,
    InUseError,
    LimitReachedError,
    NameTakenError,
    NoSpaceError,
    NotRunningError,
    PermissionRefusedError,
    RefusedError,
    StopTimedOutError,
    UnknownOutcomeError,
    WrongStateError,
)
from lxdocker_lxd.lxd.refusal import refusal

SAID = [
    (404, "Instance not found", AbsentError),
    (404, "Failed loading project: Project not found", AbsentError),
    (400, "Image not provided for instance creation", AbsentError),
    (400, 'Requested profile "nope" doesn\'t exist', RefusedError),
    (400, "Unknown configuration key: nope.x", RefusedError),
    (400, 'This "instances" entry already exists', NameTakenError),
    (409, 'Name "t1" already in use', NameTakenError),
    (412, "ETag doesn't match: a vs b", ChangedMeanwhileError),
    (400, "fingerprints don't match, got a expected b", FingerprintMismatchError),
    (400, 'MAC address "00:16:3e:a8:7d:43" already defined on another NIC', AddressTakenError),
    (400, 'IP address "10.75.4.70" already defined on another NIC', AddressTakenError),
    (400, 'Instance is busy running a "stop" operation', BusyError),
    (400, 'Reached maximum number of instances in project "p2"', LimitReachedError),
    (400, "The storage volume is still in use", InUseError),
    (400, "Only empty projects can be removed", InUseError),
    (500, "Cannot restore custom volume used by running instances", InUseError),
    (409, 'Snapshot "s1" already in use', NameTakenError),
    (400, 'Snapshot "s1" already in use', NameTakenError),
    (
        500,
        'Snapshot "s1" cannot be restored due to subsequent snapshot(s). Set x to override',
        WrongStateError,
    ),
    (
        500,
        'Snapshot "s1" cannot be restored due to subsequent internal snapshot(s) (from a copy)',
        WrongStateError,
    ),
    (403, 'The "default" profile cannot be deleted', WrongStateError),
    (400, "The instance is already running", WrongStateError),
    (400, "Renaming of running container not allowed", WrongStateError),
    (400, "Instance is frozen", WrongStateError),
    (400, "Container is protected", WrongStateError),
    (400, 'Failed shutting down instance, status is "Running"', StopTimedOutError),
    (500, "write /x: no space left on device", NoSpaceError),
    (403, "not authorized", PermissionRefusedError),
    (503, "LXD daemon is shutting down", NotRunningError),
    # What a LXD says that ends, or has just begun: read again.
    (500, "Failed to begin transaction: sql: database is closed", UnknownOutcomeError),
    (500, "Failed to fetch instance: driver: bad connection", UnknownOutcomeError),
    (
        500,
        "Failed to begin transaction: no available dqlite leader server found",
        UnknownOutcomeError,
    ),
    (500, "a sentence nobody knows", RefusedError),
    (500, "", RefusedError),
]


@pytest.mark.parametrize(("status", "text", "kind"), SAID)
def test_a_sentence_is_one_kind_of_failure(
    status: int, text: str, kind: type[LxdockerError]
) -> None:
    failure = refusal(status, text, "do it")
    assert type(failure) is kind
    assert failure.message.startswith("could not do it: ")
    assert text in failure.message
    assert failure.hint


@given(st.integers(400, 599), st.text())
def test_any_sentence_is_one_line_with_a_next_step(status: int, text: str) -> None:
    failure = refusal(status, text, "do it")
    assert "\n" not in failure.message
    assert failure.hint
