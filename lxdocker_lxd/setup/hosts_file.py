"""Lines of /etc/hosts (hosts(5)): the way to a name that holds for the LXD daemon, too.

LXD's own name server answers on its bridge only, and the daemon asks the machine's resolver. The C
library, Go's resolver and systemd-resolved all read this file first, at once, and at every boot.
"""

from collections.abc import Callable
from pathlib import Path

from lxdocker_lxd.setup.files import CHANGED, mode_of, read_text, remove, sweep, write_text
from lxdocker_lxd.setup.item import Value

_MARK = "# lxdocker-lxd setup"
_JOINED = f"{_MARK}, which ended the line above"
_MODE = "0644"
# Lists of advertisers' names are kept here by many.
_MOST_BYTES = 64 << 20
Change = Callable[[str], str]


def address_of(text: str, host_name: str) -> str:
    """Return the first address that a hosts file gives a name; empty for none."""
    for line in text.splitlines():
        fields = line.partition("#")[0].split()
        if host_name.lower() in map(str.lower, fields[1:]):
            return fields[0]
    return ""


def with_line(text: str, host_name: str, address: str) -> str:
    """Return the file with our line for a name, in the place of an older one."""
    text = without_line(text, host_name)
    open_end = bool(text) and not text.endswith("\n")
    end, mark = ("\n", _JOINED) if open_end else ("", _MARK)
    return f"{text}{end}{address}\t{host_name}\t{mark}\n"


def without_line(text: str, host_name: str) -> str:
    """Return the file without our line for a name; every other byte as it was."""
    left = ""
    for line in text.splitlines(keepends=True):
        body, ours, behind = line.partition(_MARK)
        if ours and host_name in body.split()[1:]:
            # The end of the line above came with ours.
            left = left.removesuffix("\n") if behind.strip() else left
        else:
            left += line
    return left


class HostsLines:
    """Implements :class:`Hand`; a name is ``PATH#HOST``."""

    def look(self, name: str, wanted: Value) -> Value | None:  # noqa: ARG002 - of the protocol
        """Return the address that the file gives the name, whoever wrote it."""
        path, _, host_name = name.rpartition("#")
        found = address_of(read_text(Path(path), most_bytes=_MOST_BYTES) or "", host_name)
        return {"address": found} if found else None

    def make(self, name: str, wanted: Value) -> None:
        """Write our line."""
        path, _, host_name = name.rpartition("#")
        self._write(path, lambda text: with_line(text, host_name, wanted["address"]))

    def take_back(self, name: str, after: Value, before: Value | None) -> str:
        """Remove our line; a file that held nothing else goes, too."""
        path, _, host_name = name.rpartition("#")
        if self.look(name, after) not in (None, after, before):
            return CHANGED
        if (read_text(Path(path), most_bytes=_MOST_BYTES) or "").strip():
            self._write(path, lambda text: without_line(text, host_name))
        return ""

    def _write(self, name: str, change: Change) -> None:
        # A link stays one.
        path = Path(name).resolve()
        sweep(path.parent)
        old = read_text(path, most_bytes=_MOST_BYTES)
        new = change(old or "")
        if old is not None and not new:
            remove(path)
            return
        owner = None
        if old is not None:
            status = path.stat()
            owner = (status.st_uid, status.st_gid)
        write_text(path, new, int(mode_of(path) or _MODE, 8), owner)
