"""The hand for remotes in users' ``config.yml``.

The first change leaves a copy of the old file beside it, and taking back restores that copy's bytes
when nothing else has changed since. Written with the user's rights, replaced whole.
"""

from pathlib import Path

import lxdocker_lxd.setup.remote_config as config
from lxdocker_lxd.setup.accounts import Accounts
from lxdocker_lxd.setup.files import CHANGED, mode_of, read_text, remove, sweep, write_text
from lxdocker_lxd.setup.item import Value

BACKUP_SUFFIX = ".before-lxdocker-lxd"
_MODE = "0600"


class Remotes:
    """Implements :class:`Hand`; a name is ``PATH#REMOTE``, ``as`` in a value is the file's user."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def look(self, name: str, wanted: Value) -> Value | None:
        """Return the remote's entry; raise RemoteConfigError for a broken file."""
        path, remote = _parts(name)
        with self._accounts.acting_as(wanted["as"]):
            text = read_text(path)
        found = None if text is None else config.remote(text, remote, file=str(path))
        return None if found is None else {**found, "as": wanted["as"]}

    def make(self, name: str, wanted: Value) -> None:
        """Write the entry; everything else in the file stays as it is."""
        path, remote = _parts(name)
        entry = {key: value for key, value in wanted.items() if key != "as"}
        with self._accounts.acting_as(wanted["as"]):
            path = path.resolve()
            sweep(path.parent)
            text = read_text(path)
            if text is not None and read_text(_backup(path)) is None:
                write_text(_backup(path), text, int(mode_of(path) or _MODE, 8))
            changed = config.with_remote(
                config.FRESH if text is None else text, remote, entry, file=str(path)
            )
            write_text(path, changed, int(mode_of(path) or _MODE, 8))

    def take_back(self, name: str, after: Value, before: Value | None) -> str:
        """Remove the entry, or bring back the one that was there; the copy beside it goes."""
        path, remote = _parts(name)
        now = self.look(name, after)
        if now is not None and now not in (after, before):
            return CHANGED
        with self._accounts.acting_as(after["as"]):
            path = path.resolve()
            sweep(path.parent)
            text = read_text(path)
            if text is not None and now is not None and before is None:
                self._without(path, remote, text)
            elif text is not None and before is not None:
                entry = {key: value for key, value in before.items() if key != "as"}
                restored = config.with_remote(text, remote, entry, file=str(path))
                write_text(path, restored, int(mode_of(path) or _MODE, 8))
            remove(_backup(path))
        return ""

    def _without(self, path: Path, remote: str, text: str) -> None:
        left = config.without_remote(text, remote, file=str(path))
        old = read_text(_backup(path))
        if old is None and config.same(left, config.FRESH):
            remove(path)
            return
        # Somebody's comments and order, unless something else has changed since.
        content = old if old is not None and config.same(left, old) else left
        write_text(path, content, int(mode_of(path) or _MODE, 8))


def _parts(name: str) -> tuple[Path, str]:
    path, _, remote = name.rpartition("#")
    return Path(path), remote


def _backup(path: Path) -> Path:
    return path.with_name(path.name + BACKUP_SUFFIX)
