"""One request and what becomes of it: known to the guard that counts it and the app that answers it."""

import time
from collections.abc import Callable
from typing import Literal

Kind = Literal["document", "file", "other"]
Outcome = Literal["complete", "aborted", "stalled", "failed"]

SCOPE_KEY = "lxdocker_lxd.exchange"
"""Where an ASGI scope carries the exchange."""


class Downloads:
    """How many file bodies are under way, and how many may be."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.count = 0

    def take(self) -> bool:
        """Take a place, if one is free."""
        if self.count >= self._most:
            return False
        self.count += 1
        return True

    def give_back(self) -> None:
        """Free a place that was taken."""
        self.count -= 1


class Exchange:
    """A request under way. ``client`` is None for the server's own requests."""

    def __init__(self, *, client: str | None, files_only: bool, downloads: Downloads) -> None:
        self.client = client
        self.files_only = files_only
        self.kind: Kind = "other"
        self.status = 0
        self.sent_bytes = 0
        self.outcome: Outcome = "aborted"
        self._downloads = downloads
        self._began = time.monotonic()
        self._at_end: list[Callable[[], None]] = []

    def begins_download(self) -> bool:
        """Take one of the places for downloads until the end; False when all are taken."""
        if not self._downloads.take():
            return False
        self._at_end.append(self._downloads.give_back)
        return True

    def at_end(self, clean_up: Callable[[], None]) -> None:
        """Have ``clean_up`` called when the exchange ends, however it ends."""
        self._at_end.append(clean_up)

    def end(self) -> float:
        """Give back what was taken; return how many seconds the exchange took."""
        for clean_up in reversed(self._at_end):
            clean_up()
        self._at_end.clear()
        return time.monotonic() - self._began
