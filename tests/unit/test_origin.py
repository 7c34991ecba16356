"""Where URLs lead, and which hops are refused."""

import ipaddress
from dataclasses import replace

import pytest

from lxdocker_lxd.convert.registry.origin import (
    Origin,
    UnsafeAddressError,
    check_hop,
    check_peer,
)
from lxdocker_lxd.convert.registry.settings import RegistriesSettings, RegistrySettings


def origin(url: str) -> Origin:
    return Origin.of(url, what="test")


@pytest.mark.parametrize(
    ("url", "shown", "host"),
    [
        ("https://ghcr.io/v2/", "https://ghcr.io", "ghcr.io"),
        ("https://GHCR.io:443/", "https://ghcr.io", "ghcr.io"),
        ("http://r.example:5000/x?y#z", "http://r.example:5000", "r.example:5000"),
        ("http://[::1]:5000/", "http://[::1]:5000", "[::1]:5000"),
        ("https://r.example:80/", "https://r.example:80", "r.example:80"),
    ],
)
def test_origins(url: str, shown: str, host: str) -> None:
    assert (str(origin(url)), origin(url).host) == (shown, host)


@pytest.mark.parametrize(
    "url",
    [
        "", "/v2/", "//host/x", "ftp://host/", "file:///etc/passwd", "https:///x", "https://u@h/",
        "https://u:p@h/", "https://h:99999/", "https://h:x/", "https://[::1/", "https://h/a b",
        "https://h/\n",
    ],
)  # fmt: skip
def test_what_is_no_address_of_a_server(url: str) -> None:
    with pytest.raises(UnsafeAddressError):
        origin(url)


@pytest.mark.parametrize(
    ("name", "internal"),
    [
        ("ghcr.io", False),
        ("8.8.8.8", False),
        ("[2606:4700::1111]", False),
        ("localhost", True),
        ("x.localhost", True),
        ("127.0.0.1", True),
        ("127.1", True),
        ("0x7f000001", True),
        ("2130706433", True),
        ("10.0.0.1", True),
        ("172.16.0.1", True),
        ("192.168.1.1", True),
        ("169.254.169.254", True),
        ("100.64.0.1", True),
        ("0.0.0.0", True),
        ("224.0.0.1", True),
        ("[::1]", True),
        ("[::]", True),
        ("[fe80::1]", True),
        ("[fd00::1]", True),
        ("[::ffff:10.0.0.1]", True),
        ("[2002:a00:1::]", True),
    ],
)
def test_addresses_inside_machines_and_private_networks(name: str, internal: bool) -> None:
    assert origin(f"https://{name}/").is_internal is internal


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("https://r.example", "https://cdn.example"),
        ("http://r.example", "https://cdn.example"),
        ("http://r.example", "http://cdn.example"),
        ("https://10.0.0.1", "https://10.0.0.1:8443"),
        ("http://127.0.0.1:5000", "http://localhost:5001"),
        ("https://r.example", "https://8.8.8.8"),
    ],
)
def test_hops_that_are_fine(source: str, target: str) -> None:
    check_hop(origin(source), origin(target), RegistriesSettings(), what="test")


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("https://r.example", "http://cdn.example", "not encrypted"),
        ("https://r.example", "http://r.example", "not encrypted"),
        ("https://r.example", "https://10.0.0.1", "private network"),
        ("https://r.example", "https://localhost", "private network"),
        ("https://10.0.0.1", "https://10.0.0.2", "private network"),
        ("http://127.0.0.1:5000", "http://10.0.0.2", "private network"),
    ],
)
def test_hops_that_are_refused_unless_the_settings_name_the_host(
    source: str, target: str, reason: str
) -> None:
    with pytest.raises(UnsafeAddressError, match=reason) as caught:
        check_hop(origin(source), origin(target), RegistriesSettings(), what="test")
    host = origin(target).host
    assert f"{host} under registries:" in caught.value.hint
    check_hop(origin(source), origin(target), naming(host, insecure=True), what="test")


def naming(host: str, *, insecure: bool = False) -> RegistriesSettings:
    return RegistriesSettings(by_host={host: RegistrySettings(host=host, insecure=insecure)})


def test_a_host_that_is_named_for_another_reason_is_not_reached_by_plain_http() -> None:
    safe, plain = origin("https://r.example"), origin("http://auth.example")
    with pytest.raises(UnsafeAddressError, match="not encrypted") as caught:
        check_hop(safe, plain, naming("auth.example"), what="test")
    assert "set insecure: true for auth.example" in caught.value.hint
    check_hop(safe, origin("https://10.0.0.1"), naming("10.0.0.1"), what="test")


@pytest.mark.parametrize(
    "host",
    [
        r"169.254.169.254\.cdn.example", r"127.0.0.1\@cdn.example", "127.0.0.1%00.example",
        "cdn.example%2e", "a..b", ".a", "a-.example", "-a.example", "cdn;x", "cdn,x", "cdn'x", "(a)",
        "*.example", "\u2488.example", "\uff11\uff12\uff17.0.0.1", "\u212aube.example", "localhost..",
        "[::1].example", "[::1", "[localhost]", "[127.0.0.1]", "[::1]x:80", "a" * 64, "a." * 128 + "b",
    ],
)  # fmt: skip
def test_one_grammar_says_what_a_host_is(host: str) -> None:
    with pytest.raises(UnsafeAddressError):
        origin(f"https://{host}/")


def test_a_final_dot_makes_no_other_host() -> None:
    assert origin("https://localhost./").is_internal
    assert origin("https://127.0.0.1./").is_internal
    assert origin("https://Cdn_1.Example.:8443/").host == "cdn_1.example:8443"


def at(url: str, peer: str) -> Origin:
    return replace(origin(url), peer=ipaddress.ip_address(peer))


@pytest.mark.parametrize(
    ("source", "peer"),
    [
        ("8.8.8.8", "1.1.1.1"),
        ("8.8.8.8", "2606:4700::1111"),
        (None, "1.1.1.1"),
        ("10.0.0.1", "10.0.0.2"),
        ("10.0.0.1", "fd00::2"),
        ("10.0.0.1", "8.8.8.8"),
        ("127.0.0.1", "127.0.0.2"),
        ("127.0.0.1", "::1"),
        ("169.254.1.1", "169.254.1.1"),
    ],
)
def test_names_that_may_stand_for_an_address(source: str | None, peer: str) -> None:
    named_by = None if source is None else at("https://r.example", source)
    check_peer(named_by, origin("https://cdn.example"), ipaddress.ip_address(peer), what="test")


@pytest.mark.parametrize(
    ("source", "peer"),
    [
        ("8.8.8.8", "10.0.0.1"),
        ("8.8.8.8", "127.0.0.1"),
        ("8.8.8.8", "169.254.169.254"),
        ("8.8.8.8", "64:ff9b::a9fe:a9fe"),
        ("8.8.8.8", "::7f00:1"),
        ("8.8.8.8", "::ffff:0:7f00:1"),
        ("8.8.8.8", "100.64.0.1"),
        ("8.8.8.8", "224.0.0.1"),
        ("10.0.0.1", "127.0.0.1"),
        ("10.0.0.1", "169.254.169.254"),
        ("10.0.0.1", "0.0.0.0"),
        ("127.0.0.1", "10.0.0.1"),
        ("169.254.1.1", "169.254.169.254"),
        (None, "10.0.0.1"),
        ("unknown", "10.0.0.1"),
    ],
)
def test_names_that_must_not_stand_for_an_address(source: str | None, peer: str) -> None:
    named_by = None if source is None else origin("https://r.example")
    if source not in {None, "unknown"}:
        named_by = at("https://r.example", str(source))
    with pytest.raises(UnsafeAddressError, match="private network") as caught:
        check_peer(named_by, origin("https://cdn.example"), ipaddress.ip_address(peer), what="test")
    assert "name cdn.example under registries:" in caught.value.hint
