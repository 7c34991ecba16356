"""Checks of a port: from inside by the guest's busybox, from outside only where LXD gave the address."""

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from lxdocker_lxd.guest_health import Health
from lxdocker_lxd.lxd.calls import Command, CommandResult
from lxdocker_lxd.update.health_check import Check, Kind
from lxdocker_lxd.update.instance_probe import InstanceProbe
from lxdocker_lxd.update.port_check import NotAskableError, addresses_from_outside, answers
from tests.harness.simulated_lxd import Behaviour, SimulatedLxd, Supervised

BUSYBOX = "/bin/busybox"
Served = Callable[[socket.socket], None]


@contextlib.contextmanager
def serving(answer: Served) -> Iterator[int]:
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


def drip(peer: socket.socket) -> None:
    """Health a byte at a time, each in time."""
    peer.sendall(b"HTTP/1.1 200 OK\r\n")
    for number in range(1000):
        peer.sendall(b"X-%d: a\r\n" % number)
        time.sleep(0.1)


def silent(peer: socket.socket) -> None:
    """Take the request and say nothing."""
    while peer.recv(1000):
        pass


def page(status: str) -> Served:
    def answer(peer: socket.socket) -> None:
        peer.recv(1000)
        peer.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())

    return answer


def closed(_peer: socket.socket) -> None:
    """Hang up."""


def outside(check: Check) -> bool:
    return answers("127.0.0.1", check, host="web")


def inside(check: Check) -> bool:
    """Ask from inside: the guest's script runs in a real busybox, of this machine."""

    def answer(command: Command, _second: float) -> CommandResult:
        words = [word.replace("/busybox-lxd", BUSYBOX) for word in command.words]
        ran = subprocess.run(words, check=False, capture_output=True, timeout=60)
        return CommandResult(exit_code=ran.returncode, stdout=ran.stdout, stderr=ran.stderr)

    lxd = SimulatedLxd()
    lxd.launch("web", lxd.add_image("one", behaviour=Behaviour(answer=answer)))
    probe = InstanceProbe(lxd, "web", "default", converted=False)
    return probe.look(check) is Health.HEALTHY


@pytest.mark.parametrize("ask", [outside, inside])
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (page("204 No Content"), True),
        (page("302 Found"), True),
        (page("404 Not Found"), False),
        (page("503 No"), False),
        (lambda peer: peer.sendall(b"what?\r\n\r\n"), False),
        (closed, False),
        (silent, False),
    ],
    ids=["good", "elsewhere", "not there", "bad", "nonsense", "hangs up", "silent"],
)
def test_a_page_answers_in_time_or_not_at_all(
    answer: Served, expected: bool, ask: Callable[[Check], bool]
) -> None:
    with serving(answer) as port:
        check = Check(kind=Kind.HTTP, port=port, path="/", timeout_seconds=1)
        began = time.monotonic()
        assert ask(check) is expected
        assert time.monotonic() - began < 6


def test_a_page_that_drips_is_no_answer_from_outside() -> None:
    with serving(drip) as port:
        assert not outside(Check(kind=Kind.HTTP, port=port, timeout_seconds=0.5))


@pytest.mark.parametrize("ask", [outside, inside])
@pytest.mark.parametrize("answer", [closed, silent])
def test_a_port_is_open_or_not(answer: Served, ask: Callable[[Check], bool]) -> None:
    with serving(answer) as port:
        assert ask(Check(kind=Kind.TCP, port=port, timeout_seconds=2))
    assert not ask(Check(kind=Kind.TCP, port=port, timeout_seconds=2))


def test_the_request_names_this_machine_and_its_path() -> None:
    seen: list[bytes] = []

    def answer(peer: socket.socket) -> None:
        seen.append(peer.recv(1000))
        peer.sendall(b"HTTP/1.0 200 OK\r\n\r\n")

    with serving(answer) as port:
        check = Check(kind=Kind.HTTP, port=port, path="/a;$(id)`id`'\"%s?x=1")
        assert inside(check)
        assert outside(check)
    assert seen[0].startswith(b"GET /a;$(id)`id`'\"%s?x=1 HTTP/1.0\r\n")
    assert b"\r\nHost: localhost:%d\r\n" % port in seen[0]
    assert b"\r\nHost: web\r\n" in seen[1]


def test_what_listens_only_inside_is_found_and_nothing_else() -> None:
    """Another machine at an address that the guest names may well listen there."""
    lxd = SimulatedLxd()
    for name, listens in (("good", {8080}), ("bad", set())):
        own = Behaviour(supervised=Supervised(), listens=frozenset(listens))
        lxd.launch(name, lxd.add_image(name, behaviour=own))
    check = Check(kind=Kind.TCP, port=8080)
    for name, expected in (("good", Health.HEALTHY), ("bad", Health.UNHEALTHY)):
        probe = InstanceProbe(lxd, name, "default", converted=True)
        assert probe.look(check) is expected


def test_a_foreign_image_without_our_busybox_cannot_be_asked_from_inside() -> None:
    lxd = SimulatedLxd()
    lxd.launch("web", lxd.add_image("one"))
    probe = InstanceProbe(lxd, "web", "default", converted=False)
    assert probe.look(Check(kind=Kind.TCP, port=80)) is Health.UNKNOWN
    assert "health_from=outside" in probe.output


def test_from_outside_only_lxds_own_word_counts() -> None:
    lxd = SimulatedLxd()
    image = lxd.add_image("one")
    fixed = {"type": "nic", "network": "br0", "name": "eth0", "ipv4.address": "10.20.30.7"}
    lxd.launch("web", image, devices={"eth0": fixed})
    assert addresses_from_outside(lxd, "web", project="default") == ("10.20.30.7",)
    lxd.launch("db", image)
    (leased,) = addresses_from_outside(lxd, "db", project="default")
    assert leased.startswith("10.20.30.")
    lan = {"type": "nic", "nictype": "macvlan", "parent": "eno1", "name": "eth0"}
    lxd.launch("lan", image, devices={"eth0": lan})
    with pytest.raises(NotAskableError):
        addresses_from_outside(lxd, "lan", project="default")
    local = {**lan, "ipv4.address": "127.0.0.1"}
    lxd.launch("self", image, devices={"eth0": local})
    with pytest.raises(NotAskableError):
        addresses_from_outside(lxd, "self", project="default")
    probe = InstanceProbe(lxd, "lan", "default", converted=True)
    assert probe.look(Check(kind=Kind.TCP, port=80, outside=True)) is Health.UNKNOWN
