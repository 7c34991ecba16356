"""What LXD itself shall have: storage, a bridge, a default profile to launch with, its settings. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_interface

from lxdocker_lxd.setup import subnet
from lxdocker_lxd.setup.facts import Facts
from lxdocker_lxd.setup.item import Item
from lxdocker_lxd.setup.record import SetupState
from lxdocker_lxd.setup.wish import Wish

POOL = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """The bridge that is there or will be; ``initialise``: LXD is bare, or setup began with it."""

    initialise: bool
    name: str
    address: str
    subnet: str

    @classmethod
    def of(cls, facts: Facts, wish: Wish, state: SetupState) -> "Bridge":
        """Return the one that instances use; empty where there is none and shall be none."""
        lxd = facts.lxd
        begun = state.get(("pool", POOL)) is not None
        bare = lxd.packaging != "none" and (begun or not lxd.pools)
        initialise = wish.initialise and bare and not lxd.clustered
        ours = next((one for one in state.records if one.kind == "network"), None)
        if lxd.bridge and not (ours and ours.name == lxd.bridge):
            return cls(
                initialise=initialise, name=lxd.bridge, address=lxd.bridge_address, subnet=""
            )
        if not initialise:
            return cls(initialise=False, name="", address="", subnet="")
        if ours:
            name, interface = ours.name, ours.after["ipv4.address"]
        else:
            name = wish.bridge or subnet.free_bridge(facts.host.interfaces)
            free = subnet.free_subnet(facts.host.networks, facts.host.seed)
            interface = f"{free[1]}/{free.prefixlen}"
        address = str(ip_interface(interface).ip)
        return cls(initialise=True, name=name, address=address, subnet=interface)


def lxd_items(facts: Facts, wish: Wish, bridge: Bridge) -> Iterator[Item]:
    """Yield what a bare LXD needs, and the server keys that were asked for."""
    if bridge.initialise:
        yield from _initial_items(facts, bridge)
    if wish.update_hours is not None:
        yield Item(
            kind="server-key",
            name="images.auto_update_interval",
            wanted={"value": str(wish.update_hours)},
            text=f"let LXD look for newer images every {wish.update_hours} hours",
            reason="asked for with --auto-update-interval",
            policy="insist",
        )


def _initial_items(facts: Facts, bridge: Bridge) -> Iterator[Item]:
    yield Item(
        kind="pool",
        name=POOL,
        wanted={"driver": "dir"},
        text=f"storage pool {POOL} (dir)",
        reason="LXD has none",
        policy="keep",
    )
    if bridge.subnet:
        yield Item(
            kind="network",
            name=bridge.name,
            wanted={"ipv4.address": bridge.subnet, "ipv4.nat": "true"},
            text=f"bridge {bridge.name} ({bridge.subnet})",
            reason="LXD has no network",
            policy="keep",
        )
    wanted = {
        "root": {"type": "disk", "path": "/", "pool": POOL},
        "eth0": {"type": "nic", "name": "eth0", "network": bridge.name},
    }
    have = {device.get("type") for device in facts.lxd.default_devices.values()}
    for name, device in wanted.items():
        if device["type"] not in have or facts.lxd.default_devices.get(name) == device:
            yield Item(
                kind="profile-device",
                name=f"default/{name}",
                wanted=device,
                text=f"device {name} of the profile default",
                reason="instances need it to start",
                policy="keep",
            )
