"""Users of this machine: who they are, acting as one, and the system user.

In another root (``--root``) its own files are read, since the C library knows this one's only. The
one door to ``useradd``, ``userdel`` and ``groupdel``.
"""

import contextlib
import grp
import os
import pwd
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lxdocker_lxd.errors import NotFoundError, ToolError
from lxdocker_lxd.setup.item import UserGoneError, Value
from lxdocker_lxd.setup.wish import ROOT

_ID = r"[0-9]{1,10}"
_HOME = 5
"""The home's place in a line of passwd."""

_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user: name, ids and home directory."""

    name: str
    user_id: int
    group_id: int
    home: Path


class Accounts:
    """The users below one root directory. Implements :class:`Hand` for system users."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root

    def get(self, name: str) -> Account:
        """Return a user; raise UserGoneError."""
        found = self._find(name)
        if found is None:
            raise UserGoneError(
                f"the user {name} does not exist", hint="see `getent passwd` for those that do"
            )
        return found

    def _find(self, name: str) -> Account | None:
        if self._root == ROOT:
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                return None
            return Account(
                name=name,
                user_id=entry.pw_uid,
                group_id=entry.pw_gid,
                home=Path(entry.pw_dir),
            )
        for fields in self._rows("passwd"):
            if fields[0] == name and len(fields) > _HOME and re.fullmatch(_ID, fields[3]):
                home = self._root / fields[_HOME].lstrip("/")
                return Account(
                    name=name, user_id=int(fields[2]), group_id=int(fields[3]), home=home
                )
        return None

    def name_of(self, user_id: int) -> str:
        """Return a user's name, or the number as text."""
        if self._root == ROOT:
            with contextlib.suppress(KeyError):
                return pwd.getpwuid(user_id).pw_name
        else:
            for fields in self._rows("passwd"):
                if fields[2] == str(user_id):
                    return fields[0]
        return "root" if user_id == 0 else str(user_id)

    def ids(self, owner: str) -> tuple[int, int]:
        """Return user and group id of ``user:group``; raise NotFoundError."""
        user, _, group = owner.partition(":")
        return self._id(user, "passwd"), self._id(group, "group")

    def owner(self, status: os.stat_result) -> str:
        """Return ``user:group`` of a file."""
        return f"{self.name_of(status.st_uid)}:{self._group_name(status.st_gid)}"

    def _group_name(self, group_id: int) -> str:
        if self._root == ROOT:
            with contextlib.suppress(KeyError):
                return grp.getgrgid(group_id).gr_name
        else:
            for fields in self._rows("group"):
                if fields[2] == str(group_id):
                    return fields[0]
        return "root" if group_id == 0 else str(group_id)

    def _id(self, name: str, table: str) -> int:
        if name == "root":
            return 0
        if re.fullmatch(_ID, name):
            return int(name)
        with contextlib.suppress(KeyError):
            if self._root == ROOT:
                if table == "passwd":
                    return pwd.getpwnam(name).pw_uid
                return grp.getgrnam(name).gr_gid
            for fields in self._rows(table):
                if fields[0] == name:
                    return int(fields[2])
        raise NotFoundError(f"{self._root / 'etc' / table} has no {name}")

    def _rows(self, table: str) -> Iterator[list[str]]:
        with contextlib.suppress(OSError):
            text = (self._root / "etc" / table).read_text("utf-8", errors="replace")
            for line in text.splitlines():
                fields = line.split(":")
                # Lines of another kind (``+::::::``) and broken ones are no accounts.
                if len(fields) > 3 and re.fullmatch(_ID, fields[2]):  # noqa: PLR2004 - of /etc/group
                    yield fields

    @contextlib.contextmanager
    def acting_as(self, name: str) -> Iterator[None]:
        """Do the block's file work with the rights of user ``name``.

        What is in a user's home may be a link to anywhere. Nothing changes for ``root``, or when this
        process isn't root's. Only for a process without other threads at work.
        """
        if name in ("", "root") or os.geteuid() != 0:
            yield
            return
        account = self.get(name)
        groups, group_id, mask = os.getgroups(), os.getegid(), os.umask(0o022)
        try:
            os.setgroups([account.group_id])
            os.setegid(account.group_id)
            os.seteuid(account.user_id)
            yield
        finally:
            os.seteuid(0)
            os.setegid(group_id)
            os.setgroups(groups)
            os.umask(mask)

    # ---- the hand for system users

    def look(self, name: str, wanted: Value) -> Value | None:  # noqa: ARG002 - of the protocol
        """Return the user's home; None without such a user."""
        found = self._find(name)
        if found is None:
            return None
        home = found.home
        if self._root != ROOT:
            home = ROOT / home.relative_to(self._root)
        return {"home": str(home)}

    def make(self, name: str, wanted: Value) -> None:
        """Make a system user with a group of the same name, no password, no shell."""
        if self._find(name) is not None:
            return
        _run(
            *("useradd", "--system", "--user-group", "--no-create-home"),
            *("--home-dir", wanted["home"], "--shell", "/usr/sbin/nologin"),
            *("--comment", "lxdocker-lxd"),
            *self._prefix(),
            name,
        )

    def take_back(self, name: str, after: Value, before: Value | None) -> str:  # noqa: ARG002
        """Remove the user and its group; files it still owns stay, with its number."""
        if before is None and self._find(name) is not None:
            _run("userdel", *self._prefix(), name)
            # Whether userdel takes the group along is a setting of the system.
            if self._has_group(name):
                _run("groupdel", *self._prefix(), name)
        return ""

    def _has_group(self, name: str) -> bool:
        try:
            self._id(name, "group")
        except NotFoundError:
            return False
        return True

    def _prefix(self) -> tuple[str, ...]:
        return () if self._root == ROOT else ("--prefix", str(self._root))


def _run(*words: str) -> None:
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=_SECONDS, check=False, input=""
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolError(
            f"run {words[0]}: {error}", hint="Debian's package passwd has it"
        ) from error
    if done.returncode:
        raise ToolError(f"{' '.join(words)}: {done.stderr.strip() or done.returncode}")
