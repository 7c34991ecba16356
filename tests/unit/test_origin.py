"""Where URLs lead, and which hops are refused."""

import pytest

from lxdocker_lxd.convert.registry.origin import Origin, UnsafeAddressError, check_hop


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
    check_hop(origin(source), origin(target), what="test")


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
        check_hop(origin(source), origin(target), what="test")
    host = origin(target).host
    assert f"name {host} under registries:" in caught.value.hint
    check_hop(origin(source), origin(target), what="test", trusted={host})
