"""Which name an interface has inside its instance, when its device gives none."""

from dataclasses import replace

from tests.lxd_port.site import Site, settings


def named(site: Site, name: str) -> dict[str, str]:
    """The names that LXD keeps, by device."""
    config = site.lxd.instances.get(name).config
    return {
        key.split(".")[1]: value
        for key, value in config.items()
        if key.startswith("volatile.") and key.endswith(".name")
    }


# Two NICs of one instance can't be in the same managed network.
NAMELESS = {"type": "nic", "nictype": "p2p"}


def router(site: Site) -> None:
    """An instance whose second NIC, by name, was its first in time."""
    site.create("web", settings(devices={"eth0": {"type": "none"}, "wan": NAMELESS}))
    site.lxd.instances.patch("web", devices={"lan": NAMELESS})


def test_a_nic_without_a_name_draws_the_first_free_one(site: Site) -> None:
    router(site)
    assert named(site, "web") == {"wan": "eth0", "lan": "eth1"}
    site.lxd.instances.patch("web", devices={"third": NAMELESS | {"name": "eth2"}})
    assert named(site, "web") == {"wan": "eth0", "lan": "eth1"}, "its device names the third"
    site.lxd.instances.patch("web", devices={"a": NAMELESS})
    assert named(site, "web")["a"] == "eth3"


def test_names_go_with_their_nics_and_are_drawn_in_the_order_of_the_devices(site: Site) -> None:
    router(site)
    before = site.lxd.instances.get("web")
    masks = {name: {"type": "none"} for name in before.devices}
    site.lxd.instances.replace("web", replace(before.settings, devices=masks))
    assert named(site, "web") == {}
    site.lxd.instances.replace("web", replace(before.settings, devices=before.devices))
    assert named(site, "web") == {"lan": "eth0", "wan": "eth1"}, "whatever the write said"


def test_names_that_a_later_write_gives_are_kept_and_used(site: Site) -> None:
    router(site)
    wanted = {"volatile.wan.name": "eth7", "volatile.lan.name": "eth0"}
    site.lxd.instances.patch("web", config=wanted)
    assert named(site, "web") == {"wan": "eth7", "lan": "eth0"}
    site.lxd.power.start("web")
    assert named(site, "web") == {"wan": "eth7", "lan": "eth0"}
    state = site.lxd.power.state("web")
    macs = {
        nic: site.lxd.instances.get("web").config[f"volatile.{nic}.hwaddr"]
        for nic in ("wan", "lan")
    }
    inside = dict(state.hardware_addresses)
    assert (inside["eth7"], inside["eth0"]) == (macs["wan"], macs["lan"])


def test_a_name_that_is_removed_is_drawn_at_the_start(site: Site) -> None:
    router(site)
    site.lxd.instances.patch("web", config={"volatile.wan.name": ""})
    assert named(site, "web") == {"lan": "eth1"}
    site.lxd.power.start("web")
    assert named(site, "web") == {"wan": "eth0", "lan": "eth1"}
