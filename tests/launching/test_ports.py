"""Published ports: their words, and which one of the host's each gets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.launching.ports import (
    Held,
    PublishedPort,
    clash,
    devices_of,
    exposed_by,
    listened,
    settled,
)

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
    "text",
    [
        "",
        "x",
        "80:http",
        "0:80",
        "80:0",
        "65536:1",
        "1:65536",
        ":80",
        "80:80/sctp",
        "a:1:2",
        "\uff18\uff10",
        "1.2.3:80:80",
        "999.1.1.1:80:80",
        "[12]:80:80",
        "[1.2.3.4]:80:80",
        "8000-8010:8000-8010",
    ],
)
def test_what_is_no_port(text: str) -> None:
    with pytest.raises(UsageError):
        PublishedPort.parse(text)


def test_ports_without_a_number_take_their_own_or_a_free_one() -> None:
    wanted = [PublishedPort.parse(text) for text in ("80", "81", "8000:80", "80/udp")]
    taken = {("tcp", "0.0.0.0", 81), ("tcp", "::", 49152), ("tcp", "::1", 80)}
    assert [port.host_port for port in settled(wanted, taken)] == [80, 49153, 8000, 80]


def test_one_port_of_the_host_is_for_one() -> None:
    wanted = [PublishedPort.parse(text) for text in ("8080:80", "8080:81")]
    with pytest.raises(UsageError, match="wanted twice"):
        settled(wanted, set())


@given(
    st.lists(numbers, max_size=8),
    st.sets(
        st.tuples(st.just("tcp"), st.sampled_from(["0.0.0.0", "::", "10.0.0.1"]), numbers),
        max_size=8,
    ),
)
def test_chosen_ports_are_free_and_differ(inside: list[int], taken: set[Held]) -> None:
    chosen = [port.held for port in settled([PublishedPort(port=n) for n in inside], taken)]
    assert len(set(chosen)) == len(chosen)
    assert not any(clash(one, other) for one in chosen for other in taken)


def test_two_addresses_have_a_port_each() -> None:
    """Both devices had one name, and the second took the place of the first."""
    wanted = [PublishedPort.parse(text) for text in ("127.0.0.1:80:80", "127.0.0.2:80:81")]
    devices = devices_of(settled(wanted, {("tcp", "10.0.0.1", 80)}))
    assert [one["listen"] for one in devices.values()] == ["tcp:127.0.0.1:80", "tcp:127.0.0.2:80"]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("127.0.0.1", "127.0.0.2", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("0.0.0.0", "127.0.0.1", True),
        ("0.0.0.0", "::1", False),
        ("::", "127.0.0.1", True),
        ("::", "0.0.0.0", True),
        ("::", "::1", True),
    ],
)
def test_which_addresses_overlap(one: str, other: str, expected: bool) -> None:
    for first, second in ((one, other), (other, one)):
        assert clash(("tcp", first, 80), ("tcp", second, 80)) is expected
    assert not clash(("tcp", one, 80), ("udp", other, 80))


def test_what_others_listen_at() -> None:
    devices = {
        **devices_of([PublishedPort(port=80, host_port=8080)]),
        "range": {"type": "proxy", "listen": "udp:0.0.0.0:10-12,20", "connect": "udp:[::1]:1"},
        "odd": {"type": "proxy", "listen": "tcp:127.0.0.1:\u00b2", "connect": "tcp:127.0.0.1:1"},
        "inner": {"type": "proxy", "bind": "instance", "listen": "tcp:127.0.0.1:1"},
        "socket": {"type": "proxy", "listen": "unix:/run/x", "connect": "tcp:127.0.0.1:1"},
        "root": {"type": "disk", "path": "/"},
    }
    expected = {("tcp", "0.0.0.0", 8080)}
    expected |= {("udp", "0.0.0.0", number) for number in (10, 11, 12, 20)}
    assert listened(devices) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80/tcp", [(80, "tcp")]),
        ("53/udp", [(53, "udp")]),
        ("9", [(9, "tcp")]),
        ("5/sctp", []),
        ("80-82/udp", [(80, "udp"), (81, "udp"), (82, "udp")]),
    ],
)
def test_what_an_image_exposes(text: str, expected: list[tuple[int, str]]) -> None:
    assert [(port.port, port.protocol) for port in PublishedPort.exposed(text)] == expected


def test_publishing_all_ports_of_an_image_has_a_bound() -> None:
    texts = ("80", "80/tcp", "8000-8010")
    assert [port.port for port in exposed_by(texts)] == [80, *range(8000, 8011)]
    with pytest.raises(UsageError, match="more than 100 ports") as caught:
        exposed_by(["1-65535", "1-65535/udp"])
    assert "--publish" in caught.value.hint


@pytest.mark.parametrize("number", ["9" * 5000, "²", "", "-", "1-" + "9" * 5000, "99999999999"])
def test_a_device_that_listens_at_no_port_holds_none(number: str) -> None:
    device = {"type": "proxy", "listen": f"tcp:0.0.0.0:{number}"}
    assert {held for held in listened({"odd": device}) if held[2] > 65535} == set()
