"""LXD's refusals, from status and text to the failure a caller can tell apart.

LXD answers most failures with 400 or 500 and a sentence, so the sentence decides; a sentence nobody
knows stays a RefusedError that quotes it, which a caller who knows more may narrow. Sentences are those of LXD 5.0 to 6.x. The table's order
matters: the first match wins.
"""

import re

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
    UnsupportedError,
    WrongStateError,
)

_CONFLICT, _PRECONDITION_FAILED, _NOT_FOUND, _FORBIDDEN = 409, 412, 404, 403
_UNAVAILABLE = 503
_QUOTED_CHARACTERS = 2000

_Rule = tuple[tuple[str, ...], type[LxdockerError], str]

_SENTENCES: tuple[_Rule, ...] = (
    (
        (
            r"sql: database is closed",
            r"driver: bad connection",
            r"no available dqlite leader",
        ),
        UnknownOutcomeError,
        "LXD was starting or ending; look what is there before trying again",
    ),
    (
        (
            r"no space left",
            r"disk quota exceeded",
            r"not enough (free )?space",
            r"out of (disk )?space",
        ),
        NoSpaceError,
        "make room: `lxc storage info POOL` shows what is left; old images and instances use it",
    ),
    (
        (
            r"already defined on another NIC",
            r"IP address .*already (defined|in use|allocated)",
            r"DNS name .*already",
            r"hwaddr .*already",
        ),
        AddressTakenError,
        "each MAC, address and name may be on a network once, stopped instances included",
    ),
    (
        (
            r"is busy running",
            r"Failed to create instance .*operation",
            r"operation .* is already running",
        ),
        BusyError,
        "LXD is at work on it; try again when that has ended (`lxc operation list`)",
    ),
    (
        (
            r"reached maximum (number|aggregate)",
            r"exceeds? the project limit",
            r"project limits?\b",
            r"limits\.[a-z-]+ .*project",
        ),
        LimitReachedError,
        "raise the limit with `lxc project set`, or remove what isn't needed",
    ),
    ((r"ETag doesn't match",), ChangedMeanwhileError, "read it again and repeat the change"),
    (
        (r"fingerprint(s)? (doesn't|don't) match",),
        FingerprintMismatchError,
        "the transfer was damaged or the server's index is wrong; try again, then report it",
    ),
    (
        (r"already exists", r"Snapshot .* already in use"),
        NameTakenError,
        "choose another name, or remove what has it",
    ),
    (
        (
            r"currently in use",
            r"is in use",
            r"still in use",
            r"has .*using it",
            r"used by running",
            r"cannot be deleted while",
            r"Only empty projects can be removed",
        ),
        InUseError,
        "detach it from what uses it first",
    ),
    (
        (r"cannot be restored due to subsequent",),
        WrongStateError,
        "remove the snapshots that are newer than it, or set zfs.remove_snapshots on the volume",
    ),
    (
        (
            r"is already (running|stopped|frozen)",
            r"is not (running|frozen)",
            r"isn't (running|frozen)",
            r"not running",
            r"(is|of) running",
            r"protected from being deleted",
            r"is protected",
            r"must be stopped",
            r"is stopped",
            r"Instance is running",
            r"is frozen",
            r"\"default\" \w+ cannot be (deleted|renamed)",
        ),
        WrongStateError,
        "`lxc list` shows the state it is in",
    ),
    (
        (
            r"Failed shutting down (instance|container)",
            r"shutting down the container failed",
        ),
        StopTimedOutError,
        "it can be stopped without asking: `lxc stop --force`",
    ),
    (
        (
            r"missing the required .* API extension",
            r"API extension .* (missing|required)",
            r"not supported by",
        ),
        UnsupportedError,
        "LXD is too old for this; see the requirements in README",
    ),
    (
        (
            r"not authorized",
            r"not authorised",
            r"Certificate is restricted",
            r"permission denied$",
            r"Forbidden",
        ),
        PermissionRefusedError,
        "be root or in the group lxd; a restricted certificate needs the project in its list",
    ),
    (
        (r"not provided for instance creation",),
        AbsentError,
        "the image is gone from LXD's store; import it again",
    ),
    (
        (
            r"shutting down",
            r"starting up",
        ),
        NotRunningError,
        "wait until LXD is up (`lxd waitready`) and try again",
    ),
)

_STATUS: dict[int, tuple[type[LxdockerError], str]] = {
    _NOT_FOUND: (AbsentError, "check the name and the project"),
    _CONFLICT: (NameTakenError, "choose another name, or remove what has it"),
    _PRECONDITION_FAILED: (ChangedMeanwhileError, "read it again and repeat the change"),
    _FORBIDDEN: (
        PermissionRefusedError,
        "be root or in the group lxd; a restricted certificate needs the project in its list",
    ),
    _UNAVAILABLE: (NotRunningError, "wait until LXD is up and try again"),
}


def refusal(status: int, text: str, doing: str) -> LxdockerError:
    """Return the failure for LXD's answer to ``doing`` ("start the instance web")."""
    said = " ".join(text.split())[:_QUOTED_CHARACTERS] or f"status {status}, no reason given"
    message = f"could not {doing}: {said}"
    # What isn't there stays that, whatever words the sentence uses.
    if status in {_NOT_FOUND, _PRECONDITION_FAILED}:
        kind, hint = _STATUS[status]
        return kind(message, hint=hint)
    for patterns, kind, hint in _SENTENCES:
        if any(re.search(pattern, said, re.IGNORECASE) for pattern in patterns):
            return kind(message, hint=hint)
    kind, hint = _STATUS.get(status, (RefusedError, "LXD's log tells more (lxd.log)"))
    return kind(message, hint=hint)
