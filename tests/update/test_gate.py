"""The looks of the health gate that go over the network."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from lxdocker_lxd.lxd.records import Address, InstanceState
from lxdocker_lxd.update.gate import InstanceProbe
from lxdocker_lxd.update.health import Answer, Check, Kind


@contextlib.contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port of loopback where each caller is answered."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = server.accept()
                    with peer, contextlib.suppress(OSError):
                        answer(peer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def probe() -> InstanceProbe:
    """One of an instance whose address is loopback."""
    state = InstanceState(
        status="Running",
        process_id=1,
        processes=1,
        memory_bytes=1,
        addresses=(
            Address(
                interface="eth0",
                family="inet",
                address="127.0.0.1",
                netmask="8",
                scope="global",
            ),
        ),
    )
    lxd = SimpleNamespace(power=SimpleNamespace(state=lambda *_args, **_named: state))
    return InstanceProbe(lxd, "web", "default")


def drip(peer: socket.socket) -> None:
    """Answer a byte at a time, each in time."""
    peer.sendall(b"HTTP/1.1 200 OK\r\n")
    for number in range(1000):
        peer.sendall(b"X-%d: a\r\n" % number)
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (lambda peer: peer.sendall(b"HTTP/1.1 204 No Content\r\n\r\n"), Answer.HEALTHY),
        (lambda peer: peer.sendall(b"HTTP/1.1 503 No\r\n\r\n"), Answer.UNHEALTHY),
        (lambda peer: peer.sendall(b"what?\r\n\r\n"), Answer.UNHEALTHY),
        (lambda _peer: None, Answer.UNHEALTHY),
        (drip, Answer.UNHEALTHY),
    ],
    ids=["good", "bad", "nonsense", "hangs up", "drips"],
)
def test_a_page_answers_in_time_or_not_at_all(
    answer: Callable[[socket.socket], None], expected: Answer
) -> None:
    with serving(answer) as port:
        check = Check(kind=Kind.HTTP, port=port, path="/", timeout_seconds=0.5)
        began = time.monotonic()
        assert probe().look(check) is expected
        assert time.monotonic() - began < 3


def test_a_port_is_open_or_not() -> None:
    with serving(lambda _peer: None) as port:
        assert probe().look(Check(kind=Kind.TCP, port=port)) is Answer.HEALTHY
    assert probe().look(Check(kind=Kind.TCP, port=port)) is Answer.UNHEALTHY
