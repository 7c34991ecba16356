"""What the server tells its administrator: remarks and the access log, a line each.

Under systemd a line begins with its priority (``<4>``, sd-daemon(3)) and has no time, which the
journal adds; elsewhere with the time. Whatever came from a client is printed escaped.
"""

import os
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from lxdocker_lxd.errors import LxdockerError

Priority = Literal[3, 4, 5, 6]
ERROR: Priority = 3
WARNING: Priority = 4
NOTICE: Priority = 5
INFORMATION: Priority = 6
_MOST_CHARACTERS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """One finished request. ``sent_bytes`` of the body went out; ``outcome`` says how it ended."""

    client: str
    method: str
    target: str
    status: int
    sent_bytes: int
    seconds: float
    outcome: str
    agent: str


class ServerLog:
    """Writes lines through ``write``, which takes one at a time and never fails."""

    def __init__(
        self, write: Callable[[str], None], *, now: Callable[[], datetime], journal: bool
    ) -> None:
        self._write = write
        self._now = now
        self._journal = journal

    def line(self, priority: Priority, text: str) -> None:
        """Write one line."""
        if self._journal:
            self._write(f"<{priority}>{text}")
        else:
            self._write(f"{self._now():%Y-%m-%dT%H:%M:%SZ} {text}")

    def notice(self, text: str) -> None:
        """Tell what an administrator may want to know."""
        self.line(NOTICE, text)

    def caution(self, text: str) -> None:
        """Tell what should be looked at."""
        self.line(WARNING, text)

    def failed(self, what: str, error: BaseException) -> None:
        """Tell what failed, and the next step if there is one."""
        message = error.message if isinstance(error, LxdockerError) else _named(error)
        hint = f" ({error.hint})" if isinstance(error, LxdockerError) and error.hint else ""
        self.line(ERROR, f"{what}: {message}{hint}")

    def bug(self, where: str, error: BaseException) -> None:
        """Tell of what nobody foresaw, with all that helps to find it."""
        self.line(ERROR, f"bug in {where}: {''.join(traceback.format_exception(error))}")

    def access(self, access: Access) -> None:
        """Write the line of a finished request."""
        self.line(INFORMATION, access_line(access))


def access_line(access: Access) -> str:
    """Return the words of a finished request; the same order always, client's words in quotes."""
    return (
        f"{access.client} {quoted(access.method)} {quoted(access.target)} {access.status}"
        f" {access.sent_bytes} bytes {access.seconds * 1000:.1f} ms {access.outcome}"
        f" {quoted(access.agent)}"
    )


def quoted(text: str) -> str:
    """Return ``text`` in double quotes, cut where it is too long, with nothing but printable ASCII."""
    cut = text[:_MOST_CHARACTERS]
    shown = "".join(
        character if " " <= character <= "~" and character not in '"\\' else _escaped(character)
        for character in cut
    )
    return f'"{shown}"' if len(cut) == len(text) else f'"{shown}…"'


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode() if character != '"' else '\\"'


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def is_journal(environment: Mapping[str, str], descriptor: int) -> bool:
    """Whether ``descriptor`` is the journal's stream, which JOURNAL_STREAM names by device and inode."""
    device, colon, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(descriptor)
        return bool(colon) and (int(device), int(inode)) == (status.st_dev, status.st_ino)
    except (OSError, ValueError):
        return False
