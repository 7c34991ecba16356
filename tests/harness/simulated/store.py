"""What the simulated LXD holds, and what happens in it by itself as time goes on."""

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.lxd.calls import GuestFile
from lxdocker_lxd.lxd.failures import AbsentError, BusyError
from lxdocker_lxd.lxd.records import DEFAULT_PROJECT, Config, Image, InstanceSettings, Snapshot
from lxdocker_lxd.lxd.resources import (
    Network,
    Profile,
    Project,
    StoragePool,
    Volume,
    VolumeSnapshot,
)
from lxdocker_lxd.lxd.server_records import LifecycleEvent, Member, Operation, Permission
from tests.harness.simulated.call_log import LATE_BY_CALLS, Call
from tests.harness.simulated.clock import SimulatedClock
from tests.harness.simulated.guest import GOOD, Behaviour, Guest

Key = tuple[str, str]
# Project, pool and name.
VolumeKey = tuple[str, str, str]
# A project's features that stay with the default project unless it has them itself.
SHARED = {"images", "profiles", "storage.volumes", "networks"}


@dataclass
class Box:
    """One instance. ``whole`` is false when its root was not unpacked, or remapped, to the end.

    ``remapped_as`` are the names it had when a start remapped its files, ``half_remapped`` tells of
    one that was cut short.

    ``files_until`` is until when a server of its files lives, ``files_lost`` tells that it was renamed
    below that one.

    ``hosts`` is what the network's DHCP server was told of each NIC: MAC and fixed address.
    """

    name: str
    project: str
    type: str
    settings: InstanceSettings
    guest: Guest
    created_at: datetime
    location: str = "none"
    image: str = ""
    status: str = "Stopped"
    whole: bool = True
    half_remapped: bool = False
    remapped_as: list[str] = field(default_factory=list)
    started_at: datetime | None = None
    last_used_at: datetime | None = None
    files_until: datetime | None = None
    files_lost: bool = False
    snapshots: list[Snapshot] = field(default_factory=list)
    backups: list[str] = field(default_factory=list)
    root_config: dict[str, str] = field(default_factory=dict)
    root_description: str = ""
    hosts: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def runs(self) -> bool:
        return self.status in {"Running", "Frozen"}


@dataclass
class Content:
    """What a custom volume holds: files by their paths inside it, and the same of its snapshots.

    A snapshot whose making LXD didn't come to the end of is listed like another one.
    """

    files: dict[str, GuestFile] = field(default_factory=dict)
    snapshots: list[tuple[VolumeSnapshot, dict[str, GuestFile]]] = field(default_factory=list)


@dataclass
class Published:
    """One alias of an image server: what it names now."""

    fingerprint: str
    properties: Config = field(default_factory=dict)
    type: str = "container"
    size_bytes: int = 1 << 20


@dataclass
class _Late:
    """An effect that comes some calls after its request."""

    calls_left: int
    subject: str
    act: Callable[[], object]


class Store:
    """Everything, plus the rules that belong to no single port."""

    def __init__(self, clock: SimulatedClock) -> None:
        self.clock = clock
        clock.due, clock.on_advance = self._next_due, self._come_due
        self.lock: AbstractContextManager[bool] = threading.RLock()
        self.down = False
        self.images: dict[Key, Image] = {}
        self.aliases: dict[Key, tuple[str, str]] = {}
        self.behaviours: dict[str, Behaviour] = {}
        self.image_files: dict[str, dict[str, bytes]] = {}
        self.boxes: dict[Key, Box] = {}
        self.profiles: dict[Key, Profile] = {}
        self.projects: dict[str, Project] = {}
        self.pools: dict[str, StoragePool] = {}
        self.pool_bytes: dict[str, int] = {}
        self.networks: dict[Key, Network] = {}
        self.volumes: dict[VolumeKey, Volume] = {}
        self.contents: dict[VolumeKey, Content] = {}
        self.members: dict[str, Member] = {}
        self.operations: dict[str, Operation] = {}
        self.permissions: tuple[Permission, ...] = ()
        self.server_config: dict[str, str] = {}
        self.servers: dict[str, dict[tuple[str, str], Published]] = {}
        self.reachable: Callable[[str], bool] = lambda _server: True
        self.indexes: dict[str, tuple[datetime, dict[tuple[str, str], Published]]] = {}
        self.on_event: Callable[[LifecycleEvent], None] = lambda _event: None
        self.on_restart: Callable[[], None] = lambda: None
        self._late: list[_Late] = []
        self._drawn = 0

    # ---- looking things up

    def owner(self, project: str, feature: str) -> str:
        """The project whose images, profiles… this one uses."""
        if project not in self.projects:
            raise AbsentError(f"could not find the project {project!r}: not found", hint="name it")
        has = self.projects[project].has_feature(feature)
        return project if has or feature not in SHARED else DEFAULT_PROJECT

    def box(self, name: str, project: str) -> Box:
        """An instance, or AbsentError."""
        self.owner(project, "")
        if (project, name) not in self.boxes:
            raise AbsentError(f"instance {name} of project {project}: not found", hint="name it")
        return self.boxes[project, name]

    def behaviour(self, fingerprint: str) -> Behaviour:
        """What containers of an image do."""
        return self.behaviours.get(fingerprint, GOOD)

    def draw_mac(self) -> str:
        """A new hardware address."""
        self._drawn += 1
        return f"00:16:3e:00:{self._drawn >> 8 & 255:02x}:{self._drawn & 255:02x}"

    def draw_id(self) -> str:
        """A new UUID-like text."""
        self._drawn += 1
        text = hashlib.sha256(str(self._drawn).encode()).hexdigest()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:32]}"

    # ---- events

    def emit(
        self,
        action: str,
        kind: str,
        name: str,
        project: str = DEFAULT_PROJECT,
        *,
        location: str = "none",
        detail: str = "",
        old_name: str = "",
        target: str = "",
        by: str = "root",
    ) -> None:
        """Tell all listeners."""
        self.on_event(
            LifecycleEvent(
                action=action,
                kind=kind,
                name=name,
                project=project,
                location=location,
                detail=detail,
                old_name=old_name,
                target=target,
                by=by,
                at=self.clock(),
            )
        )

    def emit_of(self, action: str, box: Box, *, old_name: str = "", by: str = "root") -> None:
        """Tell what happened to an instance."""
        self.emit(
            *(action, "instance", box.name, box.project),
            location=box.location,
            old_name=old_name,
            by=by,
        )

    # ---- what happens by itself

    def _ends(self) -> Iterator[tuple[datetime, Box]]:
        for box in self.boxes.values():
            after = box.guest.behaviour.ends_after_seconds
            if box.status == "Running" and box.started_at is not None and after is not None:
                yield box.started_at + timedelta(seconds=after), box

    def _next_due(self) -> datetime | None:
        return min((moment for moment, _ in self._ends()), default=None)

    def _come_due(self) -> None:
        for moment, box in list(self._ends()):
            if moment <= self.clock():
                self.stopped(box, "instance-shutdown", by="")

    def stopped(self, box: Box, action: str, *, by: str = "root") -> None:
        """Make an instance a stopped one; an ephemeral one goes."""
        supervised = box.guest.behaviour.supervised
        if supervised is not None and action == "instance-shutdown":
            # Whoever kills it leaves the guest no time for a word.
            supervised.write_end(box.guest.files, asked=bool(by))
        box.status, box.started_at = "Stopped", None
        config = dict(box.settings.config)
        for key in [key for key in config if key.endswith(".host_name")]:
            del config[key]
        config["volatile.last_state.power"] = "STOPPED"
        box.settings = _with_config(box.settings, config)
        self.emit_of(action, box, by=by)
        if box.settings.ephemeral:
            self.boxes.pop((box.project, box.name), None)
            self.emit_of("instance-deleted", box, by=by)

    def settle(self, subject: str) -> None:
        """Let what is due happen: guests that end, effects of requests whose sender has gone."""
        self._come_due()
        for late in list(self._late):
            late.calls_left -= 1
            if late.calls_left <= 0:
                self._late.remove(late)
                _end(late)
        if subject and any(late.subject == subject for late in self._late):
            raise BusyError(f"{subject} is busy running an operation", hint="try again later")

    def postpone(self, call: Call, act: Callable[[], object]) -> None:
        """Do it some calls later."""
        self._late.append(_Late(LATE_BY_CALLS, call.subject, act))

    def finish(self) -> None:
        """Do at once what was postponed."""
        waiting, self._late = self._late, []
        for late in waiting:
            _end(late)

    def restarted(self) -> None:
        """The daemon was restarted: operations and listeners are gone, instances live on."""
        self.operations.clear()
        self._late.clear()
        self.on_restart()

    def go_down(self) -> None:
        """End the daemon."""
        self.restarted()
        self.down = True

    # ---- space

    def used_bytes(self, pool: str) -> int:
        """What instances and volumes take of a pool; snapshots do where they are copies."""
        taken = sum(
            box.guest.behaviour.size_bytes
            for box in self.boxes.values()
            if root_pool(self.expanded_devices(box.project, box.settings)) == pool
        )
        for (_, held_pool, _), content in self.contents.items():
            if held_pool == pool:
                copies = content.snapshots if self.pools[pool].driver == "dir" else []
                taken += bytes_of(content.files)
                taken += sum(bytes_of(files) for _, files in copies)
        return taken

    def missing_volume(
        self, project: str, settings: InstanceSettings, only: set[str] | None = None
    ) -> str:
        """Name of a custom volume that a device names and nobody has; empty when all is there."""
        owner = self.owner(project, "storage.volumes")
        for name, device in self.expanded_devices(project, settings).items():
            if device.get("type") != "disk" or "pool" not in device or "source" not in device:
                continue
            if only is not None and name not in only:
                continue
            if (owner, device["pool"], device["source"]) not in self.volumes:
                return device["source"]
        return ""

    # ---- profiles below an instance's own settings

    def expanded_config(self, project: str, settings: InstanceSettings) -> dict[str, str]:
        """Config with the profiles' below."""
        config: dict[str, str] = {}
        owner = self.owner(project, "profiles")
        for name in settings.profiles:
            config |= self.profiles[owner, name].config
        return config | dict(settings.config)

    def expanded_devices(
        self, project: str, settings: InstanceSettings
    ) -> dict[str, dict[str, str]]:
        """Devices with the profiles' below; one of the same name hides the profile's."""
        devices: dict[str, dict[str, str]] = {}
        owner = self.owner(project, "profiles")
        for name in settings.profiles:
            devices |= {key: dict(one) for key, one in self.profiles[owner, name].devices.items()}
        return devices | {key: dict(one) for key, one in settings.devices.items()}


def bytes_of(files: dict[str, GuestFile]) -> int:
    """What files take."""
    return sum(len(file.content) for file in files.values())


def _end(late: _Late) -> None:
    # Work that fails while nobody watches just fails.
    with contextlib.suppress(LxdockerError):
        late.act()


def root_pool(devices: dict[str, dict[str, str]]) -> str:
    """The pool of the root disk; empty when there is none."""
    roots = (one for one in devices.values() if (one.get("type"), one.get("path")) == ("disk", "/"))
    return next(roots, {}).get("pool", "")


def _with_config(settings: InstanceSettings, config: Config) -> InstanceSettings:
    return InstanceSettings(
        architecture=settings.architecture,
        config=config,
        devices=settings.devices,
        profiles=settings.profiles,
        ephemeral=settings.ephemeral,
        description=settings.description,
        stateful=settings.stateful,
    )
