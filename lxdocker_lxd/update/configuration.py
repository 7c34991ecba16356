"""What of the old instance goes to the new one, and in which order of writes.

The order was proved on LXD 5.0.2; others lose something there. A NIC that a write adds gets a new
MAC, whatever the write says; a MAC written later isn't told to the bridge's DHCP server, unless an
address of the NIC changes after it. So a name is restored in up to three writes: the NICs without
fixed addresses, then their MACs and names, then everything exactly as it was.

While two instances of one update exist, one of them is parked: every device but the root disk is
masked, so that it holds no MAC, no address and no volume, and it never starts by itself.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from lxdocker_lxd.lxd.records import Config, Devices, Instance, InstanceSettings
from lxdocker_lxd.update.identity import interface_name_key, is_nic, kept_volatile
from lxdocker_lxd.update.rejection import Rejection, rejected_value
from lxdocker_lxd.update.transaction import (
    OWN_KEYS,
    REJECTED_KEY,
    STAMP_KEY,
    Role,
    Saved,
    Stamp,
    encoded,
)

MASK = {"type": "none"}
_FIXED_ADDRESSES = ("ipv4.address", "ipv6.address")
_NOT_A_USERS = ("volatile.", "image.")
IDMAP_BASE = "security.idmap.base"
PROTECT_START_EXTENSION = "instance_protection_start"


def saved_of(instance: Instance) -> Saved:
    """Return all that an update of this instance has to preserve."""
    nics = {
        name: dict(device) for name, device in instance.expanded_devices.items() if is_nic(device)
    }
    addresses = {name: instance.config.get(f"volatile.{name}.hwaddr", "") for name in nics}
    return Saved(
        architecture=instance.architecture,
        config=users_config(instance.config),
        devices=_copied(instance.devices),
        profiles=instance.profiles,
        description=instance.description,
        ephemeral=instance.ephemeral,
        stateful=instance.stateful,
        hardware_addresses={name: address for name, address in addresses.items() if address},
        nics=nics,
        running=instance.running,
        idmap_base=_drawn_idmap_base(instance),
        volatile=kept_volatile(instance),
    )


def users_config(config: Config) -> dict[str, str]:
    """Return the keys that are a user's: not LXD's, not the image's, not the updater's."""
    return {
        key: value
        for key, value in config.items()
        if not key.startswith(_NOT_A_USERS) and key not in OWN_KEYS
    }


def _drawn_idmap_base(instance: Instance) -> str:
    expanded = instance.expanded_config
    if expanded.get("security.idmap.isolated") != "true" or expanded.get(IDMAP_BASE):
        return ""
    return instance.config.get("volatile.idmap.base", "")


def stage_settings(
    instance: Instance, stamp: Stamp, *, protect_start: bool = False
) -> InstanceSettings:
    """Return the settings with which the successor of ``instance`` is made: parked from birth.

    It has the same root disk, limits and id map, so that making it proves space and image.
    """
    saved = saved_of(instance)
    config = {**saved.config, **parked_config(Role.NEW, protect_start), STAMP_KEY: encoded(stamp)}
    if saved.idmap_base:
        config[IDMAP_BASE] = saved.idmap_base
    return InstanceSettings(
        architecture=saved.architecture,
        config=config,
        devices=masked(instance.devices, instance.expanded_devices),
        profiles=saved.profiles,
        description=saved.description,
    )


def parked_settings(
    instance: Instance, stamp: Stamp, *, protect_start: bool = False
) -> InstanceSettings:
    """Return settings with which an instance of a transaction waits; its files aren't touched."""
    nics = [name for name, device in instance.expanded_devices.items() if is_nic(device)]
    config = {
        key: value
        for key, value in instance.config.items()
        if not any(key.startswith(f"volatile.{nic}.") for nic in nics)
    }
    config |= parked_config(stamp.role, protect_start) | {STAMP_KEY: encoded(stamp)}
    return replace(
        instance.settings,
        config=config,
        devices=masked(instance.devices, instance.expanded_devices),
    )


def reparked_settings(
    instance: Instance, saved: Saved, stamp: Stamp, *, protect_start: bool = False
) -> InstanceSettings:
    """Return settings with which a parked instance waits to become what ``saved`` says.

    Later changes by a user can be told from what was written here.
    """
    theirs = {
        key: value
        for key, value in instance.config.items()
        if key.startswith(_NOT_A_USERS) or key == REJECTED_KEY
    }
    config = {**theirs, **saved.config, **parked_config(stamp.role, protect_start)}
    devices = {
        name: dict(device) if _is_root(device) else dict(MASK)
        for name, device in {**instance.devices, **saved.devices}.items()
    }
    return replace(
        instance.settings,
        config={**config, STAMP_KEY: encoded(stamp)},
        devices=devices,
        profiles=saved.profiles,
        description=saved.description,
    )


def parked_config(role: Role, protect_start: bool) -> dict[str, str]:
    """Return the keys with which an instance waits."""
    config = {"boot.autostart": "false"}
    if protect_start:
        config["security.protection.start"] = "true"
    if role is Role.NEW:
        # The flag is the user's word about the old root file system. The successor gets it with
        # its name; before, it must be removable when the update is given up.
        config["security.protection.delete"] = "false"
    return config


def masked(devices: Devices, expanded: Devices) -> dict[str, dict[str, str]]:
    """Return own devices that hide all but the root disk, those of profiles as well."""
    return {
        name: dict(devices.get(name, {})) if _is_root(device) else dict(MASK)
        for name, device in expanded.items()
        if not _is_root(device) or name in devices
    }


def is_parked(instance: Instance) -> bool:
    """Whether an instance holds nothing but its root disk and doesn't start by itself."""
    return instance.config.get("boot.autostart") == "false" and all(
        _is_root(device) or device.get("type") == "none"
        for device in instance.expanded_devices.values()
    )


def next_write(instance: Instance, saved: Saved, stamp: Stamp) -> InstanceSettings | None:
    """Return the next write on the way back to what was saved; None when nothing is left to do.

    Each write starts from what the instance is now, so any of them may be lost or repeated. The
    last one also writes ``stamp``, which tells by its phase that restoring is over.
    """
    now = instance.settings
    missing = [name for name in saved.nics if not is_nic(instance.expanded_devices.get(name, MASK))]
    if missing:
        bare = {name: without_addresses(saved.nics[name]) for name in saved.nics}
        return replace(now, devices=_copied(instance.devices) | bare)
    addresses = {
        f"volatile.{name}.hwaddr": value for name, value in saved.hardware_addresses.items()
    }
    # The last write says the rest again: only a MAC must be there before.
    if any(instance.config.get(key) != value for key, value in addresses.items()):
        return replace(now, config={**instance.config, **saved.volatile, **addresses})
    final = _final(instance, saved, stamp)
    return None if _same(now, final) else final


def _final(instance: Instance, saved: Saved, stamp: Stamp) -> InstanceSettings:
    kept = {
        key: value
        for key, value in instance.config.items()
        if key.startswith(_NOT_A_USERS) or key == REJECTED_KEY
    }
    config = {**kept, **saved.volatile, **saved.config, STAMP_KEY: encoded(stamp)}
    if saved.idmap_base and stamp.role is Role.NEW:
        config[IDMAP_BASE] = saved.idmap_base
    return InstanceSettings(
        architecture=saved.architecture,
        config=config,
        devices=_copied(saved.devices),
        profiles=saved.profiles,
        ephemeral=saved.ephemeral,
        description=saved.description,
        stateful=saved.stateful,
    )


def _same(one: InstanceSettings, other: InstanceSettings) -> bool:
    return (
        dict(one.config) == dict(other.config)
        and _copied(one.devices) == _copied(other.devices)
        and one.profiles == other.profiles
        and one.description == other.description
        and (one.ephemeral, one.stateful) == (other.ephemeral, other.stateful)
    )


def differences(instance: Instance, saved: Saved) -> tuple[str, ...]:
    """Return names of what isn't as it was saved; values stay out, for some are secrets.

    Allowed to differ, and so never named: ``image.*``, the updater's own keys, LXD's own volatile
    keys except MACs and interface names, and an id map base that was drawn by LXD and is now written down.
    """
    config = users_config(instance.config)
    if saved.idmap_base:
        config.pop(IDMAP_BASE, None)
    found = [f"config {key}" for key in unequal(config, saved.config)]
    found += [f"device {key}" for key in unequal(instance.devices, saved.devices)]
    found += [
        f"MAC of {name}"
        for name, address in sorted(saved.hardware_addresses.items())
        if instance.config.get(f"volatile.{name}.hwaddr") != address
    ]
    found += [
        f"interface name of {name}"
        for name in sorted(saved.nics)
        if saved.volatile.get(key := interface_name_key(name))
        and "name" not in instance.devices.get(name, {})
        and instance.config.get(key) != saved.volatile[key]
    ]
    pairs = {
        "profiles": instance.profiles == saved.profiles,
        "description": instance.description == saved.description,
        "ephemeral": instance.ephemeral == saved.ephemeral,
        "stateful": instance.stateful == saved.stateful,
        "architecture": instance.architecture == saved.architecture,
    }
    return (*found, *(name for name, equal in pairs.items() if not equal))


def unequal(one: Mapping[str, object], other: Mapping[str, object]) -> list[str]:
    """Return the keys whose values differ, in order."""
    return sorted(key for key in {*one, *other} if one.get(key) != other.get(key))


def stamped(instance: Instance, stamp: Stamp) -> InstanceSettings:
    """Return the instance's settings with another stamp, nothing else changed."""
    return replace(instance.settings, config={**instance.config, STAMP_KEY: encoded(stamp)})


def released(instance: Instance, rejected: Iterable[Rejection]) -> InstanceSettings:
    """Return the settings without a stamp, remembering the rejected versions."""
    config = {key: value for key, value in instance.config.items() if key not in OWN_KEYS}
    if value := rejected_value(rejected):
        config[REJECTED_KEY] = value
    return replace(instance.settings, config=config)


def _is_root(device: Mapping[str, str]) -> bool:
    return device.get("type") == "disk" and device.get("path") == "/"


def without_addresses(device: Mapping[str, str]) -> dict[str, str]:
    """Return a NIC as the first write of restoring gives it."""
    return {key: value for key, value in device.items() if key not in _FIXED_ADDRESSES}


def _copied(devices: Devices) -> dict[str, dict[str, str]]:
    return {name: dict(device) for name, device in devices.items()}
