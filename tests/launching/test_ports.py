"""Published ports: their words, and which one of the host's each gets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.launching.ports import PublishedPort, devices_of, listened, settled

numbers = st.integers(1, 65535)


@pytest.mark.parametrize(
    ("text", "listen", "connect"),
    [
        ("8080:80", "tcp:0.0.0.0:8080", "tcp:127.0.0.1:80"),
        ("127.0.0.1:8080:80/tcp", "tcp:127.0.0.1:8080", "tcp:127.0.0.1:80"),
        ("53:53/udp", "udp:0.0.0.0:53", "udp:127.0.0.1:53"),
        ("[::1]:8080:80", "tcp:[::1]:8080", "tcp:[::1]:80"),
    ],
)
def test_words_become_proxy_devices(text: str, listen: str, connect: str) -> None:
    port = PublishedPort.parse(text)
    assert port.device == {"type": "proxy", "listen": listen, "connect": connect}


@pytest.mark.parametrize(
    "text", ["", "x", "80:http", "0:80", "80:0", "65536:1", "1:65536", ":80", "80:80/sctp", "a:1:2"]
)
def test_what_is_no_port(text: str) -> None:
    with pytest.raises(UsageError):
        PublishedPort.parse(text)


def test_ports_without_a_number_take_their_own_or_a_free_one() -> None:
    wanted = [PublishedPort.parse(text) for text in ("80", "81", "8000:80", "80/udp")]
    taken = {("tcp", 81), ("tcp", 49152)}
    assert [port.host_port for port in settled(wanted, taken)] == [80, 49153, 8000, 80]


def test_one_port_of_the_host_is_for_one() -> None:
    wanted = [PublishedPort.parse(text) for text in ("8080:80", "8080:81")]
    with pytest.raises(UsageError, match="wanted twice"):
        settled(wanted, set())


@given(st.lists(numbers, max_size=8), st.sets(st.tuples(st.just("tcp"), numbers), max_size=8))
def test_chosen_ports_are_free_and_differ(inside: list[int], taken: set[tuple[str, int]]) -> None:
    chosen = [port.host_port for port in settled([PublishedPort(port=n) for n in inside], taken)]
    assert len(set(chosen)) == len(chosen)
    assert not {("tcp", number) for number in chosen} & taken


def test_what_others_listen_at() -> None:
    devices = {
        **devices_of([PublishedPort(port=80, host_port=8080)]),
        "range": {"type": "proxy", "listen": "udp:0.0.0.0:10-12,20", "connect": "udp:[::1]:1"},
        "inner": {"type": "proxy", "bind": "instance", "listen": "tcp:127.0.0.1:1"},
        "socket": {"type": "proxy", "listen": "unix:/run/x", "connect": "tcp:127.0.0.1:1"},
        "root": {"type": "disk", "path": "/"},
    }
    expected = {("tcp", 8080), *(("udp", number) for number in (10, 11, 12, 20))}
    assert listened(devices) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("80/tcp", (80, "tcp")), ("53/udp", (53, "udp")), ("9", (9, "tcp")), ("5/sctp", None)],
)
def test_what_an_image_exposes(text: str, expected: tuple[int, str] | None) -> None:
    port = PublishedPort.exposed(text)
    assert (None if port is None else (port.port, port.protocol)) == expected
