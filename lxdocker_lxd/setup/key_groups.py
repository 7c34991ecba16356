"""The hand for a key of somebody's own that the server reads by the key's group.

Before the server had a user of its own, such keys were given to the group of the user who converts. Any
other group was somebody's choice and stays.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from lxdocker_lxd import atomic
from lxdocker_lxd.setup.accounts import Accounts
from lxdocker_lxd.setup.item import Value
from lxdocker_lxd.setup.wish import USER


@dataclass(frozen=True, slots=True)
class KeyGroups:
    """Implements :class:`Hand`; a name is the key's file."""

    accounts: Accounts

    def look(self, name: str, wanted: Value) -> Value | None:
        """Return the group where it is that of the user who converts, else what is wanted."""
        return {"group": USER} if self._group(name) == USER else wanted

    def _group(self, name: str) -> str:
        try:
            return self.accounts.owner(Path(name).stat()).partition(":")[2]
        except OSError:
            return ""

    def make(self, name: str, wanted: Value) -> None:
        """Give the key to the group; raise StorageError."""
        group = self.accounts.ids(f"root:{wanted['group']}")[1]
        try:
            os.chown(name, -1, group)
        except OSError as error:
            raise atomic.storage_error("give a group to", Path(name), error) from error

    def take_back(self, name: str, after: Value, before: Value | None) -> str:
        """Give it back to the group it had."""
        if before is not None and self._group(name) == after["group"]:
            self.make(name, before)
        return ""
