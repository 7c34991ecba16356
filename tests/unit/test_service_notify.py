"""What systemd hears, read from a socket of our own."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lxdocker_lxd.service_notify import Heartbeat, ServiceNotify


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(address.replace("@", "\0"))
        heard.settimeout(5)
        yield address, heard


def test_the_manager_hears_states(manager: tuple[str, socket.socket]) -> None:
    address, heard = manager
    notify = ServiceNotify({"NOTIFY_SOCKET": address}, 7)
    notify.ready("3 products\nREADY=0")
    assert heard.recv(1000) == b"READY=1\nSTATUS=3 products READY=0"
    notify.alive()
    assert heard.recv(1000) == b"WATCHDOG=1"
    notify.stopping("bye", 35)
    assert heard.recv(1000) == b"STOPPING=1\nSTATUS=bye\nEXTEND_TIMEOUT_USEC=35000000"


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all", "@nobody-listens-here"])
def test_without_a_listener_nothing_happens(address: str) -> None:
    ServiceNotify({"NOTIFY_SOCKET": address}, 7).ready("x")
    ServiceNotify({}, 7).alive()


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_meant_for_one_process(
    environment: dict[str, str], seconds: float | None
) -> None:
    assert ServiceNotify(environment, 7).watchdog_seconds == seconds


def test_a_heartbeat_proves_that_one_thread_gets_on(manager: tuple[str, socket.socket]) -> None:
    address, heard = manager
    heard.settimeout(0.2)
    seconds = 0.0
    beat = Heartbeat(
        ServiceNotify({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "9000000"}, 7),
        clock=lambda: seconds,
    )
    beat()
    beat()
    assert heard.recv(1000) == b"EXTEND_TIMEOUT_USEC=9000000"
    beat.ready("up")
    assert heard.recv(1000) == b"READY=1\nSTATUS=up"
    beat.ready("looked")
    assert heard.recv(1000) == b"STATUS=looked"
    beat()
    with pytest.raises(TimeoutError):
        heard.recv(1000)
    seconds = 1.0
    beat()
    assert heard.recv(1000) == b"WATCHDOG=1"
    seconds = 2.0
    other = threading.Thread(target=beat)
    other.start()
    other.join()
    with pytest.raises(TimeoutError):
        heard.recv(1000)


def test_without_a_watchdog_nothing_beats(manager: tuple[str, socket.socket]) -> None:
    address, heard = manager
    heard.settimeout(0.2)
    Heartbeat(ServiceNotify({"NOTIFY_SOCKET": address}, 7), clock=lambda: 0.0)()
    with pytest.raises(TimeoutError):
        heard.recv(1000)
