"""One request and what becomes of it: known to the guard that counts it and the app that answers it."""

import time
from collections.abc import Callable
from typing import Literal

from lxdocker_lxd.serve.peer import Peer, Places, pace

Kind = Literal["document", "file", "other"]
Outcome = Literal["complete", "aborted", "stalled", "displaced", "failed"]

SCOPE_KEY = "lxdocker_lxd.exchange"
"""Where an ASGI scope carries the exchange."""


class Exchange:
    """A request under way. ``client`` is None for the server's own requests.

    ``cut`` ends the app's work and the connection.
    """

    def __init__(
        self, *, client: str | None, files_only: bool, downloads: "Places[Exchange]"
    ) -> None:
        self.peer = Peer.of(client)
        self.client = self.peer.address or client
        self.files_only = files_only
        self.kind: Kind = "other"
        self.status = 0
        self.sent_bytes = 0
        self.outcome: Outcome = "aborted"
        self.cut: Callable[[], None] = lambda: None
        self._downloads = downloads
        self._began = time.monotonic()
        self._at_end: list[Callable[[], None]] = []

    def begins_download(self) -> bool:
        """Take one of the places for downloads until the end; False when none is to be had."""
        if not self._downloads.take(self):
            return False
        self._at_end.append(lambda: self._downloads.give_back(self))
        return True

    def pace(self, now: float, /) -> float:
        """Return the bytes a second that the client took so far."""
        return pace(self.sent_bytes, self._began, now)

    def displace(self) -> None:
        """End it: its place is another client's now."""
        self.outcome = "displaced"
        self.cut()

    def at_end(self, clean_up: Callable[[], None]) -> None:
        """Have ``clean_up`` called when the exchange ends, however it ends."""
        self._at_end.append(clean_up)

    def end(self) -> float:
        """Give back what was taken; return how many seconds the exchange took."""
        for clean_up in reversed(self._at_end):
            clean_up()
        self._at_end.clear()
        return time.monotonic() - self._began
