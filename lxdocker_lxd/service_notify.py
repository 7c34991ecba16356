"""Tells systemd how the service is (sd_notify(3)); silent where nobody listens."""

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Mapping

_BEAT_SECONDS = 1.0


class ServiceNotify:
    """Sends states to the manager that started this process."""

    def __init__(self, environment: Mapping[str, str], process_id: int) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self.watchdog_seconds = _watchdog(environment, process_id)
        """How often the manager wants to hear of the service at the latest; None for never."""

    def ready(self, status: str) -> None:
        """Say that requests are answered from now on."""
        self._send(f"READY=1\nSTATUS={_line(status)}")

    def status(self, status: str) -> None:
        """Say in a line what is going on."""
        self._send(f"STATUS={_line(status)}")

    def alive(self) -> None:
        """Say that the service proved to be alive."""
        self._send("WATCHDOG=1")

    def starting(self, within_seconds: float) -> None:
        """Say that the start makes progress, and how long the next sign may take."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(within_seconds * 1_000_000)}")

    def stopping(self, status: str, within_seconds: float | None = None) -> None:
        """Say that the service ends, and how long that may take if not as long as configured."""
        text = f"STOPPING=1\nSTATUS={_line(status)}"
        if within_seconds is not None:
            text += f"\nEXTEND_TIMEOUT_USEC={int(within_seconds * 1_000_000)}"
        self._send(text)

    def _send(self, text: str) -> None:
        if not self._address.startswith(("/", "@")):
            return
        # An abstract name begins with a zero byte, written as @.
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
        ):
            sender.settimeout(0)
            sender.connect(os.fsencode(address))
            sender.send(text.encode("utf-8", "replace"))


class Heartbeat:
    """Proof of life for work in one thread: the manager hears of each point at which it got on.

    Made in the thread that works; beats of other threads count for nothing, so that no helper hides
    that the work hangs. Before :meth:`ready` a beat prolongs the start, afterwards it is the
    watchdog's; more than one a second, or four in the watchdog's time, are not sent. ``clock`` counts seconds.
    """

    def __init__(self, notify: ServiceNotify, *, clock: Callable[[], float]) -> None:
        self._notify = notify
        self._clock = clock
        self._thread = threading.get_ident()
        self._next = clock()
        self._ready = False

    def __call__(self) -> None:
        """Say that the work got on."""
        longest, now = self._notify.watchdog_seconds, self._clock()
        if longest is None or now < self._next or threading.get_ident() != self._thread:
            return
        self._next = now + min(_BEAT_SECONDS, longest / 4)
        if self._ready:
            self._notify.alive()
        else:
            self._notify.starting(longest)

    def ready(self, status: str) -> None:
        """Say once that the service is up, and what it does from now on."""
        if self._ready:
            self._notify.status(status)
            return
        self._ready = True
        self._notify.ready(status)

    def status(self, status: str) -> None:
        """Say in a line what is going on."""
        self._notify.status(status)

    def stopping(self, status: str) -> None:
        """Say that the service ends when its work lets it."""
        self._notify.stopping(status)


def _line(text: str) -> str:
    return text.replace("\n", " ")


def _watchdog(environment: Mapping[str, str], process_id: int) -> float | None:
    try:
        microseconds = int(environment.get("WATCHDOG_USEC", "0"))
        meant = int(environment.get("WATCHDOG_PID", str(process_id))) == process_id
    except ValueError:
        return None
    return microseconds / 1_000_000 if microseconds > 0 and meant else None
