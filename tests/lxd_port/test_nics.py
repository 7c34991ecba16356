"""Addresses of instances: the orders of calls that keep a MAC and a fixed address, and those that don't."""

from dataclasses import replace

import pytest

from lxdocker_lxd.lxd.failures import AddressTakenError
from lxdocker_lxd.lxd.resources import Lease
from tests.lxd_port.site import RealSite, SimulatedSite, Site, settings

NO_NIC = {"eth0": {"type": "none"}}


def test_a_nic_of_a_profile_gets_a_mac_that_stays(site: Site) -> None:
    site.create("web", start=True)
    mac = site.mac("web")
    assert mac.startswith("00:16:3e:")
    assert site.lxd.power.state("web").hardware_addresses["eth0"] == mac
    site.lxd.power.kill("web")
    site.lxd.instances.rename("web", "old")
    assert site.mac("old") == mac
    site.lxd.instances.patch("old", devices={"eth0": site.nic(ipv4_address=f"{site.prefix}70")})
    assert site.mac("old") == mac, "an address is an update of the NIC, not another NIC"


def test_a_fixed_address_is_leased_and_a_gateway(site: Site) -> None:
    address = f"{site.prefix}70"
    site.create("web", settings(devices={"eth0": site.nic(ipv4_address=address)}))
    leases = site.lxd.networks.leases(site.network)
    fixed = Lease(
        hostname="web",
        hardware_address=site.mac("web"),
        address=address,
        type="static",
        location="none",
    )
    assert fixed in leases
    assert any((one.type, one.address) == ("gateway", f"{site.prefix}1") for one in leases)


def test_an_identity_collides_even_with_a_stopped_instance(site: Site) -> None:
    address = f"{site.prefix}70"
    site.create("web", settings(devices={"eth0": site.nic(ipv4_address=address)}))
    mac = {"volatile.eth0.hwaddr": site.mac("web")}
    site.create("same-ip", settings(devices={"eth0": site.nic(ipv4_address=address)}))
    site.create("same-mac", settings(mac))
    for name in ("web", "same-ip", "same-mac"):
        with pytest.raises(AddressTakenError):
            site.lxd.power.start(name)
    site.lxd.instances.patch("web", config={"user.a": "1"})
    with pytest.raises(AddressTakenError):
        site.lxd.instances.patch("web", devices={"eth0": site.nic(ipv4_address=f"{site.prefix}71")})


def test_a_masked_nic_frees_its_identity(site: Site) -> None:
    address = f"{site.prefix}70"
    site.create("old", settings(devices={"eth0": site.nic(ipv4_address=address)}))
    old = site.lxd.instances.get("old")
    site.create("new", settings({"volatile.eth0.hwaddr": site.mac("old")}))
    site.lxd.instances.replace("old", replace(old.settings, devices=NO_NIC))
    assert site.mac("old") == "", "the write took the MAC along, although its config had it"
    site.lxd.power.start("new")


# ---- giving an identity to a NIC that a write adds


def test_a_nic_that_a_write_adds_draws_a_mac_whatever_the_write_says(site: Site) -> None:
    site.create("web")
    mac = site.mac("web")
    before = site.lxd.instances.get("web")
    site.lxd.instances.replace("web", replace(before.settings, devices=NO_NIC))
    site.lxd.instances.patch("web", config={"volatile.eth0.hwaddr": mac})
    assert site.mac("web") == mac, "without a NIC the key is only kept"
    site.lxd.instances.replace("web", replace(before.settings, devices={}))
    assert site.mac("web") not in {"", mac}
    site.lxd.instances.patch("web", config={"volatile.eth0.hwaddr": mac})
    assert site.mac("web") == mac


def test_a_device_with_a_mac_of_its_own_has_no_volatile_one(site: Site) -> None:
    site.create("web")
    nic = site.nic(hwaddr="00:16:3e:aa:bb:cc")
    site.lxd.instances.patch("web", devices={"eth0": nic})
    assert site.mac("web") == ""
    site.lxd.instances.patch("web", devices={"eth0": site.nic()})
    assert site.mac("web") not in {"", "00:16:3e:aa:bb:cc"}


def test_a_mac_that_is_removed_is_drawn_at_the_start(site: Site) -> None:
    site.create("web")
    mac = site.mac("web")
    site.lxd.instances.patch("web", config={"volatile.eth0.hwaddr": ""})
    assert site.mac("web") == ""
    site.lxd.power.start("web")
    assert site.mac("web") not in {"", mac}


def told(site: Site, name: str) -> tuple[str, str]:
    """MAC and fixed address of eth0, as the DHCP server was told."""
    if isinstance(site, SimulatedSite):
        return site.simulated.box(name).hosts.get("eth0", ("", ""))
    assert isinstance(site, RealSite)
    mac, address, *_ = [*site.hosts().get(f"{name}.eth0", "").strip().split(","), ""]
    return (mac, address if address != name else "")


def swapped(site: Site, *, address_with_the_nic: bool) -> tuple[str, str]:
    """Give web's identity to a second instance in three writes; what the DHCP server knows then."""
    nic = site.nic(ipv4_address=f"{site.prefix}70")
    site.create("web", settings(devices={"eth0": nic}))
    mac = site.mac("web")
    before = site.lxd.instances.get("web").settings
    site.lxd.instances.replace("web", replace(before, devices=NO_NIC))
    site.lxd.instances.rename("web", "old")
    site.create("web", settings(devices=NO_NIC))
    first = nic if address_with_the_nic else site.nic()
    site.lxd.instances.patch("web", devices={"eth0": first})
    site.lxd.instances.patch("web", config={"volatile.eth0.hwaddr": mac})
    site.lxd.instances.patch("web", devices={"eth0": nic})
    assert site.mac("web") == mac
    return (mac, told(site, "web")[0])


def test_the_order_that_keeps_mac_and_fixed_address(site: Site) -> None:
    mac, known = swapped(site, address_with_the_nic=False)
    assert known == mac
    assert told(site, "web")[1] == f"{site.prefix}70"


def test_the_order_that_loses_the_fixed_address(site: Site) -> None:
    mac, known = swapped(site, address_with_the_nic=True)
    assert known != mac, "the address was told with the drawn MAC, and nothing told the other"
    site.lxd.instances.rename("web", "web2")
    assert told(site, "web2")[0] == mac, "a rename tells anew"
