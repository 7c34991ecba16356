"""The container of the image server: its definition, its place, and what a host with it has."""

from dataclasses import replace
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

import pytest
import yaml

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.setup.contained import Contained, checked_name, definition_text
from lxdocker_lxd.setup.contained_items import ContainerFacts, contained, target
from lxdocker_lxd.setup.record import SetupState
from lxdocker_lxd.setup.subnet import free_address
from tests.setup.hosts import bare_lxd, facts, lxd, wish

EXAMPLE = Path(__file__).parents[2] / "examples/instances/lxdocker.yaml"
BRIDGE = {"ipv4.address": "10.1.2.1/24"}


def found(**values: Any) -> ContainerFacts:
    """A bridge with one address given out, and a local image."""
    given: dict[str, Any] = {
        "network": BRIDGE,
        "given_out": {"10.1.2.1", "10.1.2.254"},
        "image": "debian",
        "fetched": {},
        "digest": "abc",
    }
    return ContainerFacts(**{**given, **values})


ASKED = wish(container="lxdocker", container_image="debian")


def test_the_example_is_the_definition_that_setup_uses() -> None:
    example = yaml.safe_load(EXAMPLE.read_text())
    shall = Contained(
        name="lxdocker",
        host_name="lxdocker.lxd",
        image="images:debian/12",
        pool="default",
        network="lxdbr0",
        address=example["devices"]["eth0"]["ipv4.address"],
    )
    assert definition_text(example["config"], example["devices"]) == shall.definition
    assert set(example) == {"description", "profiles", "config", "devices"}
    assert example["profiles"] == ["default"]


@pytest.mark.parametrize("name", ["lxdocker", "a", "Images-2"])
def test_names_of_instances(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "1a", "a.b", "a/b", "a b", "a" * 64, "ä"])
def test_what_lxd_would_refuse_is_refused_first(name: str) -> None:
    with pytest.raises(UsageError, match="--in-container"):
        checked_name(name)


class TestItsPlace:
    def test_it_gets_the_highest_free_address_and_the_bridges_domain(self) -> None:
        shall = contained(facts(), found(), ASKED, SetupState())
        assert (shall.address, shall.network, shall.pool) == ("10.1.2.253", "lxdbr0", "default")
        assert shall.url == "https://lxdocker.lxd"
        named = found(network=BRIDGE | {"dns.domain": "home.arpa"})
        assert contained(facts(), named, ASKED, SetupState()).url == "https://lxdocker.home.arpa"

    def test_the_address_it_has_is_the_one_it_keeps(self) -> None:
        shall = contained(facts(), found(address="10.1.2.9"), ASKED, SetupState())
        assert shall.address == "10.1.2.9"

    def test_a_container_that_was_deleted_gets_its_address_again(self) -> None:
        """What was recorded before a crash, or before somebody deleted it."""
        aim = target(facts(), found(), ASKED, SetupState())
        item = next(item for item in aim.items if item.kind == "container")
        state = SetupState().begun(item, None)
        later = contained(facts(), found(given_out={"10.1.2.253"}), ASKED, state)
        assert later.address == "10.1.2.253"

    def test_a_bare_lxd_gets_pool_and_bridge_first(self) -> None:
        aim = target(facts(bare_lxd()), found(network={}, given_out=()), ASKED, SetupState())
        kinds = [item.kind for item in aim.items]
        assert kinds[:2] == ["pool", "network"]
        assert kinds.index("profile-device") < kinds.index("container")

    @pytest.mark.parametrize(
        ("of_lxd", "network", "problem"),
        [
            (lxd(clustered=True), BRIDGE, "cluster"),
            (lxd(), {"ipv4.address": "none"}, "no bridge"),
            (lxd(), BRIDGE | {"ipv4.dhcp": "false"}, "no bridge"),
            (lxd(default_devices={}), BRIDGE, "no root disk"),
        ],
    )
    def test_where_it_cannot_be_is_told(self, of_lxd: Any, network: Any, problem: str) -> None:
        with pytest.raises(UsageError, match=problem):
            contained(facts(of_lxd), found(network=network), ASKED, SetupState())


class TestItsHost:
    def test_the_order_is_that_in_which_each_needs_the_others(self) -> None:
        aim = target(facts(), found(), ASKED, SetupState())
        assert [item.kind for item in aim.items] == [
            *("container-volume", "container-volume", "container", "container-power"),
            *("container-program", "container-server", "container-authority"),
            *("hosts-line", "copy", "remote"),
        ]
        remote = aim.items[-1]
        assert remote.wanted["addr"] == "https://lxdocker.lxd"
        assert aim.items[-2].wanted["of"] == "/var/lib/lxdocker-lxd/lxdocker.crt"

    def test_an_image_of_a_remote_is_fetched_first(self) -> None:
        source = {"server": "https://images.test", "alias": "debian/12", "certificate": ""}
        aim = target(facts(), found(image="base", fetched=source), ASKED, SetupState())
        assert aim.items[0].kind == "base-image"
        assert aim.items[0].wanted == source | {"for": "lxdocker"}

    def test_the_whole_system_trusts_it_only_when_asked(self) -> None:
        aim = target(facts(), found(), replace(ASKED, system_trust=True), SetupState())
        assert aim.items[-1].kind == "trust"


def test_a_network_without_a_free_address_is_told() -> None:
    bridge = IPv4Interface("10.1.2.1/30")
    assert str(free_address(bridge, ())) == "10.1.2.2"
    with pytest.raises(UsageError, match="given out"):
        free_address(bridge, {"10.1.2.2"})
