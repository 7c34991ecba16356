"""What LXD knows, as frozen records: images and instances.

A record is what one read of the API gave; it never changes and never reads again. Fields LXD may
leave out are empty, fields nobody here needs are absent. Times are aware and in UTC, or None where
LXD has none. ``etag`` is empty when the record came from a list, which carries no ETag.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

DEFAULT_PROJECT = "default"

RUNNING = frozenset({"Running", "Ready"})
Config = Mapping[str, str]
Devices = Mapping[str, Mapping[str, str]]


def disk_paths(devices: Devices) -> Mapping[str, str]:
    """Return names of disk devices by the path they are mounted at, the root disk left out."""
    disks = {
        name: one.get("path", "") for name, one in devices.items() if one.get("type") == "disk"
    }
    found = {"/" + path.strip("/"): name for name, path in disks.items()}
    return {path: name for path, name in found.items() if path != "/"}


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateSource:
    """Where LXD fetched an image by alias, and where it looks for a newer one.

    ``certificate`` is the PEM LXD trusts for that server besides the system's authorities; empty
    for none. Only images fetched by alias have an update source; uploads never do.
    """

    server: str
    alias: str
    protocol: str = "simplestreams"
    certificate: str = ""
    image_type: str = "container"

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What names the source: server, protocol, alias, type (the certificate may change)."""
        return (self.server, self.protocol, self.alias, self.image_type)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image in LXD's store, as one project sees it.

    ``cached`` images were fetched for an instance; LXD removes them some days after the last
    instance was made of them, ``auto_update`` or not.
    """

    fingerprint: str
    project: str
    type: str
    architecture: str
    size_bytes: int
    filename: str = ""
    public: bool = False
    cached: bool = False
    auto_update: bool = False
    aliases: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    properties: Config = field(default_factory=dict)
    update_source: UpdateSource | None = None
    created_at: datetime | None = None
    uploaded_at: datetime | None = None
    last_used_at: datetime | None = None
    expires_at: datetime | None = None
    etag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """A local name of an image; ``fingerprint`` is its image now."""

    name: str
    fingerprint: str
    project: str
    type: str = "container"
    description: str = ""
    etag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceSettings:
    """All of an instance that a user may write; what a PUT replaces and an ETag covers."""

    architecture: str
    config: Config
    devices: Devices
    profiles: tuple[str, ...]
    ephemeral: bool = False
    description: str = ""
    stateful: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A container or virtual machine.

    ``config`` and ``devices`` are the instance's own, ``expanded_*`` with its profiles' below
    them. ``location`` is the cluster member, ``none`` outside a cluster. ``status`` is ``Running``,
    ``Stopped``, ``Frozen``, ``Error`` or one that passes.
    """

    name: str
    project: str
    status: str
    location: str
    type: str
    architecture: str
    ephemeral: bool
    stateful: bool
    description: str
    profiles: tuple[str, ...]
    config: Config
    devices: Devices
    expanded_config: Config
    expanded_devices: Devices
    created_at: datetime | None = None
    last_used_at: datetime | None = None
    etag: str = ""

    @property
    def running(self) -> bool:
        """Whether its PID 1 lives and isn't frozen; ``Ready`` is what a guest said of itself."""
        return self.status in RUNNING

    @property
    def member(self) -> str:
        """The cluster member that has it; empty outside a cluster."""
        return "" if self.location in {"", "none"} else self.location

    @property
    def base_image(self) -> str:
        """Fingerprint of the image it was made of, which may be gone; empty when none was."""
        return self.config.get("volatile.base_image", "")

    @property
    def settings(self) -> InstanceSettings:
        """The writable part, exactly as it is now."""
        return InstanceSettings(
            architecture=self.architecture,
            config=self.config,
            devices=self.devices,
            profiles=self.profiles,
            ephemeral=self.ephemeral,
            description=self.description,
            stateful=self.stateful,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One address on one of an instance's interfaces; ``scope`` is global, link or local."""

    interface: str
    family: str
    address: str
    netmask: str
    scope: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceState:
    """What an instance is doing now. ``process_id`` is its PID 1 on its host, 0 when stopped."""

    status: str
    process_id: int
    processes: int
    memory_bytes: int
    addresses: tuple[Address, ...] = ()
    hardware_addresses: Config = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A snapshot of an instance; it stays with the instance through renames and dies with it."""

    instance: str
    name: str
    stateful: bool = False
    created_at: datetime | None = None
    expires_at: datetime | None = None
