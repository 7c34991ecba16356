"""The image's ``User`` in numbers, by the image's own /etc/passwd and /etc/group.

Pure. The rules are Docker's, and those of the guest's launch.sh: a name must exist; a number that
isn't in /etc/passwd runs with group 0; a group given after a colon is the only one, else all groups
that list the user are had too. Lines without a number where one belongs are passed over.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from lxdocker_lxd.errors import UsageError

_LAST_ID = (1 << 32) - 2
_PASSWD_FIELDS, _GROUP_FIELDS = 4, 3
_HOME = 5
_MEMBERS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Whom a command runs as; ``groups`` are the supplementary ones, in order of number."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = "/"


class UnknownAccountError(UsageError):
    """A user or group that the image doesn't know."""

    def __init__(self, user: str, what: str, file: str) -> None:
        super().__init__(
            f"the image runs as {user[:80]!r}, but its {file} has no {what}; plain LXC needs numbers",
            hint="set user in the specification, as a number or a name the image has",
        )


class _User(NamedTuple):
    name: str
    uid: int
    gid: int
    home: str


class _Group(NamedTuple):
    name: str
    gid: int
    members: tuple[str, ...]


def find_account(user: str, *, passwd: bytes, group: bytes) -> Account:
    """Return whom ``USER[:GROUP]`` stands for; empty is root. Raises UnknownAccountError."""
    wanted, _, wanted_group = user.partition(":")
    name, number = wanted or "root", wanted or "0"
    found = next((u for u in _users(passwd) if u.name == name or str(u.uid) == number), None)
    uid = found.uid if found else _number(number)
    if uid is None:
        raise UnknownAccountError(user, f"user {wanted[:80]!r}", "/etc/passwd")
    home = found.home if found and found.home else "/"
    groups = tuple(_groups(group))
    if wanted_group:
        gid = _find_group(user, wanted_group, groups)
        return Account(uid=uid, gid=gid, home=home)
    if found is None:
        return Account(uid=uid, gid=0)
    others = sorted({one.gid for one in groups if found.name in one.members})
    return Account(uid=uid, gid=found.gid, groups=tuple(others), home=home)


def _find_group(user: str, wanted: str, groups: tuple[_Group, ...]) -> int:
    for group in groups:
        if group.name == wanted or str(group.gid) == wanted:
            return group.gid
    number = _number(wanted)
    if number is None:
        raise UnknownAccountError(user, f"group {wanted[:80]!r}", "/etc/group")
    return number


def _users(passwd: bytes) -> Iterator[_User]:
    for fields in _lines(passwd, _PASSWD_FIELDS):
        uid, gid = _number(fields[2]), _number(fields[3])
        if uid is not None and gid is not None:
            home = fields[_HOME] if len(fields) > _HOME else ""
            yield _User(fields[0], uid, gid, home)


def _groups(group: bytes) -> Iterator[_Group]:
    for fields in _lines(group, _GROUP_FIELDS):
        gid = _number(fields[2])
        if gid is not None:
            members = fields[_MEMBERS].split(",") if len(fields) > _MEMBERS else []
            yield _Group(fields[0], gid, tuple(members))


def _lines(content: bytes, least: int) -> Iterator[list[str]]:
    for line in content.replace(b"\0", b"").split(b"\n"):
        fields = line.decode("utf-8", "surrogateescape").split(":")
        if len(fields) >= least:
            yield fields


def _number(text: str) -> int | None:
    """Return a decimal number without leading zeros that can be an id, or None."""
    if not text.isascii() or not text.isdigit() or (text.startswith("0") and text != "0"):
        return None
    return int(text) if len(text) <= len(str(_LAST_ID)) and int(text) <= _LAST_ID else None
