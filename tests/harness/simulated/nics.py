"""NICs on managed networks: who draws which MAC, who may have which address, who is told.

All of it seen on LXD 5.0.2: a NIC that a write adds draws a new MAC even when the same write gives
one; a NIC that goes takes its MAC along; likewise its name inside the instance, where its device gives
none: the first free ``ethN``, in the order of the devices' names. The DHCP server is told MAC and fixed address when a NIC is
added or changed and when its instance is renamed, and never when only the MAC is written.
"""

import itertools
from dataclasses import replace

from lxdocker_lxd.lxd.failures import AddressTakenError
from lxdocker_lxd.lxd.records import InstanceSettings
from lxdocker_lxd.lxd.resources import Lease
from tests.harness.simulated.store import Box, Store

_ADDRESSES = ("ipv4.address", "ipv6.address")


def _nics(devices: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    return {name: one for name, one in devices.items() if one.get("type") == "nic"}


def _network(nic: dict[str, str]) -> str:
    return nic.get("network") or nic.get("parent", "")


def mac_of(name: str, nic: dict[str, str], config: dict[str, str]) -> str:
    """The MAC a NIC has."""
    return nic.get("hwaddr") or config.get(f"volatile.{name}.hwaddr", "")


def _name_of(name: str, nic: dict[str, str], config: dict[str, str]) -> str:
    """The name a NIC has inside its instance; empty before it has one."""
    return nic.get("name") or config.get(f"volatile.{name}.name", "")


def _name(nics: dict[str, dict[str, str]], config: dict[str, str], touched: set[str]) -> None:
    """Draw the names that are missing for NICs that a write or a start touches."""
    for device in sorted(touched):
        if "name" in nics[device]:
            config.pop(f"volatile.{device}.name", None)
        elif not _name_of(device, nics[device], config):
            taken = {_name_of(other, nic, config) for other, nic in nics.items()}
            free = next(
                name for name in map("eth{}".format, itertools.count()) if name not in taken
            )
            config[f"volatile.{device}.name"] = free


class Nics:
    """The rules above, on one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def written(self, box: Box, settings: InstanceSettings) -> InstanceSettings:
        """Return the settings as LXD keeps them; AddressTakenError when a touched NIC collides."""
        was = _nics(self._store.expanded_devices(box.project, box.settings))
        now = _nics(self._store.expanded_devices(box.project, settings))
        config = dict(settings.config)
        hosts = dict(box.hosts)
        touched: set[str] = set()
        for name in {*was, *now}:
            key = f"volatile.{name}.hwaddr"
            if name not in now:
                for gone in [key, *[k for k in config if k.startswith(f"volatile.{name}.")]]:
                    config.pop(gone, None)
                hosts.pop(name, None)
                continue
            added = name not in was
            changed = added or was[name] != now[name]
            if added:
                config.pop(f"volatile.{name}.name", None)
            if "hwaddr" in now[name]:
                config.pop(key, None)
            elif added or (changed and not config.get(key)):
                config[key] = self._store.draw_mac()
            if changed:
                touched.add(name)
                hosts[name] = self._told(name, now[name], config)
        if box.type == "container":
            _name(now, config, touched)
        kept = replace(settings, config=config)
        for name in touched:
            self._check(box, name, now[name], config)
        box.hosts = hosts
        return kept

    def completed(self, box: Box) -> None:
        """Draw and tell what a new or starting instance lacks."""
        config = dict(box.settings.config)
        for name, nic in _nics(self._store.expanded_devices(box.project, box.settings)).items():
            if not mac_of(name, nic, config):
                config[f"volatile.{name}.hwaddr"] = self._store.draw_mac()
            if name not in box.hosts:
                box.hosts[name] = self._told(name, nic, config)
        nics = _nics(self._store.expanded_devices(box.project, box.settings))
        if box.type == "container":
            _name(nics, config, set(nics))
        box.settings = replace(box.settings, config=config)

    def renamed(self, box: Box) -> None:
        """Tell the DHCP server anew."""
        config = dict(box.settings.config)
        devices = self._store.expanded_devices(box.project, box.settings)
        box.hosts = {name: self._told(name, nic, config) for name, nic in _nics(devices).items()}

    def check_all(self, box: Box) -> None:
        """AddressTakenError when a NIC of the instance collides with any other's."""
        config = dict(box.settings.config)
        for name, nic in _nics(self._store.expanded_devices(box.project, box.settings)).items():
            self._check(box, name, nic, config)

    def _told(self, name: str, nic: dict[str, str], config: dict[str, str]) -> tuple[str, str]:
        return (mac_of(name, nic, config), nic.get("ipv4.address", ""))

    def _check(self, box: Box, name: str, nic: dict[str, str], config: dict[str, str]) -> None:
        mine = self._identity(name, nic, config)
        for other in self._store.boxes.values():
            if other is box:
                continue
            theirs = _nics(self._store.expanded_devices(other.project, other.settings))
            for other_name, other_nic in theirs.items():
                if _network(other_nic) != _network(nic):
                    continue
                shared = mine & self._identity(other_name, other_nic, dict(other.settings.config))
                if shared:
                    kind, text = min(shared)
                    raise AddressTakenError(
                        f'could not write {box.name}: {kind} "{text}" already defined on another NIC',
                        hint=f"{other.name} has it",
                    )

    def _identity(
        self, name: str, nic: dict[str, str], config: dict[str, str]
    ) -> set[tuple[str, str]]:
        found = {("MAC address", mac_of(name, nic, config))}
        found |= {("IP address", nic.get(key, "")) for key in _ADDRESSES}
        return {(kind, text) for kind, text in found if text and text != "none"}

    # ---- addresses of running instances

    def addresses(self, box: Box) -> dict[str, tuple[str, str]]:
        """MAC and IPv4 address, by interface, of a running instance; no address without DHCP."""
        config = dict(box.settings.config)
        found = {}
        devices = self._store.expanded_devices(box.project, box.settings)
        for name, nic in _nics(devices).items():
            mac = mac_of(name, nic, config)
            told_mac, fixed = box.hosts.get(name, ("", ""))
            prefix = self.prefix(box.project, _network(nic))
            drawn = f"{prefix}{_last(mac)}" if prefix else ""
            address = fixed if fixed and told_mac == mac else drawn
            found[_name_of(name, nic, config) or name] = (mac, address)
        return found

    def prefix(self, project: str, network: str) -> str:
        """The first three numbers of a network's addresses; empty without DHCP."""
        owner = self._store.owner(project, "networks")
        held = self._store.networks.get((owner, network))
        address = held.config.get("ipv4.address", "") if held else ""
        return f"{address.rpartition('.')[0]}." if address not in {"", "none"} else ""

    def leases(self, project: str, network: str) -> tuple[Lease, ...]:
        """What the network has given out."""
        prefix = self.prefix(project, network)
        gateway = Lease(
            hostname=f"{network}.gw", hardware_address="", address=f"{prefix}1", type="gateway"
        )
        found = [gateway] if prefix else []
        for box in self._store.boxes.values():
            config = dict(box.settings.config)
            devices = self._store.expanded_devices(box.project, box.settings)
            for name, nic in _nics(devices).items():
                if _network(nic) != network:
                    continue
                mac, fixed = mac_of(name, nic, config), nic.get("ipv4.address", "")
                inside = _name_of(name, nic, config) or name
                dynamic = self.addresses(box).get(inside, ("", ""))[1]
                if fixed or (box.runs and dynamic):
                    found.append(
                        Lease(
                            hostname=box.name,
                            hardware_address=mac,
                            address=fixed or dynamic,
                            type="static" if fixed else "dynamic",
                            location=box.location,
                        )
                    )
        return tuple(found)


def _last(mac: str) -> int:
    """dnsmasq picks by the MAC."""
    return 100 + int(mac.replace(":", "")[-4:] or "0", 16) % 150
