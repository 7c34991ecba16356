"""Tells systemd how the service is (sd_notify(3)); silent where nobody listens."""

import contextlib
import os
import socket
from collections.abc import Mapping


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

    def stopping(self, status: str, within_seconds: float) -> None:
        """Say that the service ends, and how long that may take."""
        extension = f"EXTEND_TIMEOUT_USEC={int(within_seconds * 1_000_000)}"
        self._send(f"STOPPING=1\nSTATUS={_line(status)}\n{extension}")

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


def _line(text: str) -> str:
    return text.replace("\n", " ")


def _watchdog(environment: Mapping[str, str], process_id: int) -> float | None:
    try:
        microseconds = int(environment.get("WATCHDOG_USEC", "0"))
        meant = int(environment.get("WATCHDOG_PID", str(process_id))) == process_id
    except ValueError:
        return None
    return microseconds / 1_000_000 if microseconds > 0 and meant else None
