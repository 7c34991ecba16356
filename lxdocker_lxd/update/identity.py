"""What LXD ties to an instance besides its settings, and which of that goes on with the name.

LXD has no way to give an instance another root: an update makes a second instance. Whatever LXD keeps
with the first one is carried over, or keeps the copy, or is told; nothing is lost in silence.
"""

from collections.abc import Mapping

from lxdocker_lxd.lxd.records import Instance

NIC_TYPES = frozenset({"nic", "infiniband"})
# The group that placed it in a cluster, and the member to which an evacuated one goes back.
_OF_INSTANCES = ("volatile.cluster.group", "volatile.evacuate.origin")
# The guest that added the device.
_OF_DEVICES = ("devlxd.owner",)


def is_nic(device: Mapping[str, str]) -> bool:
    """Whether a device is an interface of the instance."""
    return device.get("type") in NIC_TYPES


def interface_name_key(device: str) -> str:
    """Return the key under which LXD keeps the name that it drew for an interface."""
    return f"volatile.{device}.name"


def kept_volatile(instance: Instance) -> dict[str, str]:
    """Return those of LXD's own keys that go on with the name, hardware addresses apart.

    All others tell of this root, this run or this host, and LXD writes them anew.
    """
    wanted = list(_OF_INSTANCES)
    for name, device in instance.expanded_devices.items():
        wanted += [f"volatile.{name}.{word}" for word in _OF_DEVICES]
        if is_nic(device) and "name" not in device:
            wanted.append(interface_name_key(name))
    return {key: instance.config[key] for key in wanted if instance.config.get(key)}
