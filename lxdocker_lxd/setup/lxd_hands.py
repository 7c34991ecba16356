"""Hands for what LXD itself has: pool, network, devices of profiles, server keys."""

from dataclasses import replace

from lxdocker_lxd.lxd.failures import AbsentError, InUseError
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import DEFAULT_PROJECT
from lxdocker_lxd.lxd.resources import Network, StoragePool
from lxdocker_lxd.setup.item import Value

_IN_USE = "instances, images or profiles use it"


class PoolHand:
    """Storage pools; one that holds something is never removed."""

    def __init__(self, lxd: Lxd) -> None:
        self._lxd = lxd

    def look(self, name: str, wanted: Value) -> Value | None:  # noqa: ARG002 - of the protocol
        """Return the pool's driver."""
        try:
            return {"driver": self._lxd.pools.get(name).driver}
        except AbsentError:
            return None

    def make(self, name: str, wanted: Value) -> None:
        """Make the pool."""
        self._lxd.pools.create(StoragePool(name=name, driver=wanted["driver"]))

    def take_back(self, name: str, after: Value, before: Value | None) -> str:  # noqa: ARG002
        """Delete the pool unless something uses it."""
        if before is not None:
            return ""
        try:
            if self._lxd.pools.get(name).used_by:
                return _IN_USE
            self._lxd.pools.delete(name)
        except AbsentError:
            return ""
        except InUseError:
            return _IN_USE
        return ""


class NetworkHand:
    """Managed bridges; one that something uses is never removed."""

    def __init__(self, lxd: Lxd) -> None:
        self._lxd = lxd

    def look(self, name: str, wanted: Value) -> Value | None:
        """Return the wanted keys of the network's configuration."""
        try:
            found = self._lxd.networks.get(name)
        except AbsentError:
            return None
        if not found.managed:
            return {"managed": "false"}
        return {key: found.config.get(key, "") for key in wanted}

    def make(self, name: str, wanted: Value) -> None:
        """Make the bridge; what isn't said is chosen by LXD."""
        self._lxd.networks.create(
            Network(name=name, project=DEFAULT_PROJECT, type="bridge", managed=True, config=wanted)
        )

    def take_back(self, name: str, after: Value, before: Value | None) -> str:  # noqa: ARG002
        """Delete the bridge unless something uses it."""
        if before is not None:
            return ""
        try:
            if self._lxd.networks.get(name).used_by:
                return _IN_USE
            self._lxd.networks.delete(name)
        except AbsentError:
            return ""
        except InUseError:
            return _IN_USE
        return ""


class ProfileDeviceHand:
    """Devices of profiles; a name is ``PROFILE/DEVICE``."""

    def __init__(self, lxd: Lxd) -> None:
        self._lxd = lxd

    def look(self, name: str, wanted: Value) -> Value | None:  # noqa: ARG002 - of the protocol
        """Return the device."""
        profile, _, device = name.partition("/")
        return self._lxd.profiles.get(profile).devices.get(device)

    def make(self, name: str, wanted: Value) -> None:
        """Write the device; others of the profile stay."""
        self._write(name, wanted)

    def take_back(self, name: str, after: Value, before: Value | None) -> str:
        """Remove the device, unless somebody changed it or instances need it."""
        if self.look(name, after) not in (None, after, before):
            return "changed by somebody since"
        profile, _, device = name.partition("/")
        users = self._lxd.profiles.get(profile).used_by
        if users and before is None:
            return f"{len(users)} instances use the profile"
        self._write(f"{profile}/{device}", before)
        return ""

    def _write(self, name: str, device: Value | None) -> None:
        profile, _, key = name.partition("/")
        found = self._lxd.profiles.get(profile)
        devices = {one: value for one, value in found.devices.items() if one != key}
        if device is not None:
            devices[key] = device
        self._lxd.profiles.edit(replace(found, devices=devices))


class ServerKeyHand:
    """Keys of the server's configuration; one at its default isn't there."""

    def __init__(self, lxd: Lxd) -> None:
        self._lxd = lxd

    def look(self, name: str, wanted: Value) -> Value | None:  # noqa: ARG002 - of the protocol
        """Return the key's value."""
        value = self._lxd.server.info().config.get(name)
        return None if value is None else {"value": value}

    def make(self, name: str, wanted: Value) -> None:
        """Set the key."""
        self._lxd.server.configure({name: wanted["value"]})

    def take_back(self, name: str, after: Value, before: Value | None) -> str:
        """Set the key back, unless somebody changed it."""
        if self.look(name, after) not in (after, before):
            return "changed by somebody since"
        self._lxd.server.configure({name: before["value"] if before else ""})
        return ""
