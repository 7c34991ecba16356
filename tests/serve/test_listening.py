"""Addresses as people write them, sockets, and what to do when one can't be had."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lxdocker_lxd.serve import listening
from lxdocker_lxd.serve.listening import Address, AddressError, BindError, Passed, bound, passed


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":443", Address(port=443)),
        ("127.0.0.1:8443", Address(host="127.0.0.1", port=8443)),
        ("[::1]:8443", Address(host="::1", port=8443)),
        ("[fe80::1%eth0]:1", Address(host="fe80::1%eth0", port=1)),
        ("images.example.org:443", Address(host="images.example.org", port=443)),
        ("fd://3", Address(descriptor=3)),
    ],
)
def test_an_address_is_read_and_written(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text", ["443", "", ":", ":65536", "::1:443", "[::1]", "host:", "a b:1", "fd://", "https://x:1"]
)
def test_what_is_no_address_is_told_with_examples(text: str) -> None:
    with pytest.raises(AddressError, match="expected :PORT") as caught:
        Address.parse(text)
    assert "[2001:db8::7]:8443" in caught.value.hint


def test_several_addresses_are_all_listened_at(sockets: list[socket.socket]) -> None:
    assert listening.addresses("127.0.0.1:443, [::1]:443") == (
        Address(host="127.0.0.1", port=443),
        Address(host="::1", port=443),
    )
    found = listening.opened("127.0.0.1:0,127.0.0.2:0", None, environment={}, process_id=1)
    sockets += found.secure
    assert [one.getsockname()[0] for one in found.secure] == ["127.0.0.1", "127.0.0.2"]


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    found: list[socket.socket] = []
    yield found
    for one in found:
        one.close()


def test_a_bare_port_is_all_addresses_of_both_protocols(sockets: list[socket.socket]) -> None:
    sockets += bound(Address(port=0))
    families = {one.family for one in sockets}
    assert socket.AF_INET in families
    assert len({listening.port_of(one) for one in sockets}) == 1
    for one in sockets:
        place = "127.0.0.1" if one.family == socket.AF_INET else "::1"
        with socket.create_connection((place, listening.port_of(one)), timeout=5):
            pass
    if socket.has_ipv6:
        assert socket.AF_INET6 in families


def test_a_port_in_use_is_told_with_the_next_step(sockets: list[socket.socket]) -> None:
    sockets += bound(Address(host="127.0.0.1", port=0))
    port = listening.port_of(sockets[0])
    with pytest.raises(BindError, match=f"listen at 127.0.0.1:{port}: Address already in use") as e:
        bound(Address(host="127.0.0.1", port=port))
    assert f"ss -ltnp 'sport = :{port}'" in e.value.hint
    # Nothing is half bound: the wildcard fails as a whole.
    with pytest.raises(BindError):
        bound(Address(port=port))


def test_an_address_of_another_machine_is_told(sockets: list[socket.socket]) -> None:
    with pytest.raises(BindError) as caught:
        sockets += bound(Address(host="192.0.2.1", port=0))
    assert "ip address" in caught.value.hint


@pytest.mark.root
def test_a_low_port_without_the_right_names_the_ways_to_it() -> None:
    """In a process without the capability, in a network namespace where low ports are privileged."""
    script = (
        "from lxdocker_lxd.serve.listening import Address, BindError, bound\n"
        "try: bound(Address(port=443))\n"
        "except BindError as error: print(error.message); print(error.hint)\n"
    )
    without = ("setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service")
    done = subprocess.run(
        ["unshare", "--net", *without, sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "listen at :443: Permission denied" in done.stdout, done.stderr
    assert "lxdocker-lxd-serve.socket" in done.stdout
    assert "CAP_NET_BIND_SERVICE" in done.stdout


def test_a_socket_that_was_not_passed_is_told() -> None:
    with pytest.raises(BindError, match="without such a socket"):
        bound(Address(descriptor=999))
    with socket.socket() as deaf, pytest.raises(BindError, match="no listening socket"):
        bound(Address(descriptor=deaf.fileno()))


def test_a_passed_socket_is_used_as_it_is() -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        descriptor = os.dup(given.fileno())
        (found,) = bound(Address(descriptor=descriptor))
        with found:
            assert found.getsockname() == given.getsockname()
            assert not os.get_inheritable(descriptor)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Passed()),
        ({"LISTEN_FDS": "1", "LISTEN_PID": "8"}, Passed()),
        ({"LISTEN_FDS": "0", "LISTEN_PID": "7"}, Passed()),
        (
            {"LISTEN_FDS": "2", "LISTEN_PID": "7"},
            Passed(secure=(Address(descriptor=3), Address(descriptor=4))),
        ),
        (
            {"LISTEN_FDS": "2", "LISTEN_PID": "7", "LISTEN_FDNAMES": "https:http"},
            Passed(secure=(Address(descriptor=3),), plain=(Address(descriptor=4),)),
        ),
    ],
)
def test_systemd_passes_sockets_by_number_and_name(
    environment: dict[str, str], expected: Passed
) -> None:
    assert passed(environment, 7) == expected


def test_when_one_address_fails_none_stays_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with socket.create_server(("127.0.0.1", 0)) as probe:
            free = probe.getsockname()[1]
        with pytest.raises(BindError):
            listening.opened(f"127.0.0.1:{free}", f"127.0.0.1:{port}", environment={}, process_id=7)
        with socket.create_server(("127.0.0.1", free)):
            pass
