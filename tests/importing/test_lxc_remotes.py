"""The remotes of an lxc, and which of them are our own server's."""

import pytest

from lxdocker_lxd.importing.lxc_remotes import LxcRemote, parse_remotes
from lxdocker_lxd.spec_yaml import SpecError

CONFIG = """\
default-remote: local
remotes:
  far:
    addr: https://far.example:8443
    auth_type: tls
    project: shop
    protocol: lxd
    public: false
  shop:
    addr: https://images.example:8443
    protocol: simplestreams
    public: true
  images:
    addr: https://mirror.example
    protocol: simplestreams
    public: true
aliases: {}
"""


def test_what_a_file_says_goes_before_what_lxc_brings_along() -> None:
    found = parse_remotes(CONFIG, file="config.yml")
    assert set(found) == {"far", "shop", "images", "ubuntu", "ubuntu-daily", "local"}
    assert found["far"] == LxcRemote(
        name="far", address="https://far.example:8443", protocol="lxd", project="shop"
    )
    assert found["images"].address == "https://mirror.example"
    assert [name for name, one in found.items() if one.local] == ["local"]


@pytest.mark.parametrize("text", ["", "\n", "remotes:\n", "default-remote: local\n"])
def test_without_remotes_those_of_lxc_remain(text: str) -> None:
    assert set(parse_remotes(text, file="x")) == {"images", "ubuntu", "ubuntu-daily", "local"}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("remotes: [a]\n", "config.yml:1"),
        ("remotes:\n  far:\n    protocol: lxd\n", "config.yml:3"),
        ("remotes:\n  far: {addr: [1]}\n", "config.yml:2"),
        ("remotes: {\n", "config.yml:"),
    ],
)
def test_a_broken_file_is_told_with_its_line(text: str, place: str) -> None:
    with pytest.raises(SpecError, match=place):
        parse_remotes(text, file="config.yml")


@pytest.mark.parametrize(
    ("address", "ours"),
    [
        ("https://images.example:8443", True),
        ("https://images.example:8443/", True),
        ("https://IMAGES.example:8443/lxe/hub/grafana", True),
        ("https://images.example", False),
        ("https://images.example:8443.evil.example", False),
        ("https://other.example:8443/lxe/hub/grafana", False),
    ],
)
def test_trees_of_our_own_server(address: str, *, ours: bool) -> None:
    remote = LxcRemote(name="x", address=address, protocol="simplestreams")
    assert remote.serves_for("https://images.example:8443") is ours
    assert not remote.serves_for("")


def test_a_server_below_a_path_is_not_all_of_its_host() -> None:
    remote = LxcRemote(name="x", address="https://a.example/images", protocol="simplestreams")
    assert remote.serves_for("https://a.example/images/")
    assert not remote.serves_for("https://a.example/im")
