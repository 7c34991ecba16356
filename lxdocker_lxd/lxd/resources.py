"""What instances use, as frozen records: volumes, pools, networks, profiles, projects.

The rules of ``records`` hold here too.
"""

from dataclasses import dataclass, field
from datetime import datetime

from lxdocker_lxd.lxd.records import DEFAULT_PROJECT, Config, Devices


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A custom storage volume; ``used_by`` are API paths of instances and profiles."""

    pool: str
    name: str
    project: str
    content_type: str = "filesystem"
    location: str = ""
    description: str = ""
    config: Config = field(default_factory=dict)
    used_by: tuple[str, ...] = ()
    etag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSnapshot:
    """A snapshot of a custom volume; it is deleted with the volume.

    ``config`` is the volume's at that time. LXD 5.0 doesn't tell ``created_at``.
    """

    pool: str
    volume: str
    name: str
    project: str
    created_at: datetime | None = None
    expires_at: datetime | None = None
    config: Config = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoragePool:
    """A storage pool; ``status`` is ``Created`` when it can be used."""

    name: str
    driver: str
    status: str = "Created"
    description: str = ""
    config: Config = field(default_factory=dict)
    used_by: tuple[str, ...] = ()
    locations: tuple[str, ...] = ()
    etag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSpace:
    """How full a pool is; the pool of kind ``dir`` tells of the file system below it."""

    used_bytes: int
    total_bytes: int
    used_inodes: int = 0
    total_inodes: int = 0

    @property
    def free_bytes(self) -> int:
        """What is left."""
        return max(self.total_bytes - self.used_bytes, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network LXD manages, or an interface of the host it merely lists (``managed`` false)."""

    name: str
    project: str
    type: str
    managed: bool
    status: str = ""
    description: str = ""
    config: Config = field(default_factory=dict)
    used_by: tuple[str, ...] = ()
    locations: tuple[str, ...] = ()
    etag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """An address a managed network has given out; ``type`` is dynamic, static, gateway…"""

    hostname: str
    hardware_address: str
    address: str
    type: str
    location: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Config and devices that instances share."""

    name: str
    project: str
    description: str = ""
    config: Config = field(default_factory=dict)
    devices: Devices = field(default_factory=dict)
    used_by: tuple[str, ...] = ()
    etag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A project; without ``features.images`` it shares the default project's images."""

    name: str
    description: str = ""
    config: Config = field(default_factory=dict)
    used_by: tuple[str, ...] = ()
    etag: str = ""

    def has_feature(self, feature: str) -> bool:
        """Whether the project keeps its own ``images``, ``profiles``, ``storage.volumes``…"""
        return self.name == DEFAULT_PROJECT or self.config.get(f"features.{feature}") == "true"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Use of one limited resource of a project (``instances``, ``disk``); None is unlimited."""

    resource: str
    used: int
    limit: int | None
