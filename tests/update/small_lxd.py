"""A LXD in memory with just the rules an update meets, each proved on the real one.

A NIC that a write adds draws a new MAC; one that goes takes its MAC along. Two NICs of one bridge
with the same MAC or fixed address refuse each other's writes and starts, stopped or not. Stopping
an ephemeral instance deletes it. Every settings' write may be conditional. ``root`` of an instance
is what its root disk holds; a container of a bad image ends at once, or a while after its start.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lxdocker_lxd.guest_state import STATE_PATH
from lxdocker_lxd.lxd.calls import GuestFile, NewInstance
from lxdocker_lxd.lxd.failures import (
    AbsentError,
    AddressTakenError,
    ChangedMeanwhileError,
    InUseError,
    NameTakenError,
    StartFailedError,
    WrongStateError,
)
from lxdocker_lxd.lxd.records import (
    Config,
    Devices,
    Instance,
    InstanceSettings,
    InstanceState,
    Snapshot,
)
from lxdocker_lxd.lxd.resources import Volume, VolumeSnapshot
from lxdocker_lxd.lxd.server_records import ServerInfo

ON_DISK, WANTED = "volatile.last_state.idmap", "volatile.idmap.next"
MAP = '[{"Hostid":1000000}]'


@dataclass
class Box:
    """One instance."""

    name: str
    root: str
    settings: InstanceSettings
    running: bool = False
    version: int = 1
    snapshots: list[str] = field(default_factory=list)
    state: bytes = b""


class SmallLxd:
    """Implements the ports that the updater uses, for one project.

    ``images`` says of each fingerprint what a container of it does: ``good``, ``ends`` at its
    start, ``refuses`` to start. ``before`` and ``after`` see each call; ``remapped`` are the names
    under which starts remapped files.
    """

    def __init__(self, profile: Devices, images: Mapping[str, str]) -> None:
        self.profile = profile
        self.known = dict(images)
        self.boxes: dict[str, Box] = {}
        self.before: Callable[[str], None] = lambda _call: None
        self.after: Callable[[str], None] = lambda _call: None
        self._macs = 0
        self.remapped: list[str] = []
        self.instances: Any = _Instances(self)
        self.power: Any = _Power(self)
        self.guests: Any = _Guests(self)
        self.volumes: Any = _Volumes(self)
        self.server: Any = _Server(self)
        self.data: dict[str, frozenset[str]] = {}
        self.kept_data: dict[tuple[str, str], frozenset[str]] = {}

    def box(self, name: str) -> Box:
        if name not in self.boxes:
            raise AbsentError(f"{name} isn't there")
        return self.boxes[name]

    def expanded(self, settings: InstanceSettings) -> dict[str, Mapping[str, str]]:
        return {**self.profile, **settings.devices}

    def record(self, box: Box) -> Instance:
        settings = box.settings
        return Instance(
            name=box.name,
            project="default",
            status="Running" if box.running else "Stopped",
            location="none",
            type="container",
            architecture=settings.architecture,
            ephemeral=settings.ephemeral,
            stateful=settings.stateful,
            description=settings.description,
            profiles=settings.profiles,
            config=settings.config,
            devices=settings.devices,
            expanded_config=settings.config,
            expanded_devices=self.expanded(settings),
            etag=str(box.version),
        )

    def write(self, box: Box, settings: InstanceSettings) -> None:
        was, now = self.expanded(box.settings), self.expanded(settings)
        config = dict(settings.config)
        for name in {*was, *now}:
            key = f"volatile.{name}.hwaddr"
            before = was.get(name, {}).get("type") == "nic"
            after = now.get(name, {}).get("type") == "nic" and "hwaddr" not in now[name]
            if before and not after:
                config.pop(key, None)
            elif after and (not before or key not in config):
                self._macs += 1
                config[key] = f"00:16:3e:00:ff:{self._macs:02x}"
        settings = replace(settings, config=config)
        self.check_addresses(box.name, settings)
        box.settings = settings
        box.version += 1

    def check_addresses(self, name: str, settings: InstanceSettings) -> None:
        mine = self.addresses(settings)
        for other in self.boxes.values():
            if other.name != name and mine & self.addresses(other.settings):
                raise AddressTakenError(f"{name}: {other.name} has one of its addresses")

    def addresses(self, settings: InstanceSettings) -> set[str]:
        found = set()
        for name, device in self.expanded(settings).items():
            if device.get("type") == "nic":
                mac = device.get("hwaddr") or settings.config.get(f"volatile.{name}.hwaddr", "")
                found |= {mac, device.get("ipv4.address", "")}
        return found - {""}

    def launch(self, name: str, root: str, config: Config, devices: Devices) -> None:
        """What a user does: create and start, seen by nobody."""
        settings = InstanceSettings(
            architecture="x86_64",
            config={"volatile.base_image": root, ON_DISK: MAP, WANTED: MAP, **config},
            devices=devices,
            profiles=("default",),
            description="of a user",
        )
        blank = replace(settings, devices={key: {"type": "none"} for key in self.profile})
        box = Box(name=name, root=root, settings=blank)
        self.boxes[name] = box
        self.write(box, settings)
        box.running = True
        for device in devices.values():
            if device.get("type") == "disk" and "source" in device:
                self.data[device["source"]] = frozenset({root})

    def snap(self, name: str) -> None:
        self.box(name).snapshots.append(f"s{len(self.box(name).snapshots)}")

    def called(self, call: str, act: Callable[[], Any]) -> Any:
        self.before(call)
        try:
            return act()
        finally:
            self.after(call)


class _Instances:
    def __init__(self, lxd: SmallLxd) -> None:
        self._lxd = lxd

    def list(self, **_where: object) -> tuple[Instance, ...]:
        def act() -> tuple[Instance, ...]:
            records = (self._lxd.record(box) for box in self._lxd.boxes.values())
            return tuple(replace(record, etag="") for record in records)

        found: tuple[Instance, ...] = self._lxd.called("list", act)
        return found

    def get(self, name: str, **_where: object) -> Instance:
        found: Instance = self._lxd.called(
            f"get {name}", lambda: self._lxd.record(self._lxd.box(name))
        )
        return found

    def create(self, new: NewInstance, **_where: object) -> None:
        def act() -> None:
            if new.name in self._lxd.boxes:
                raise NameTakenError(f"{new.name} is taken")
            if new.image not in self._lxd.known:
                raise AbsentError(f"there is no image {new.image}")
            own = {"volatile.base_image": new.image, ON_DISK: "[]", WANTED: MAP}
            config = {**new.settings.config, **own}
            settings = replace(new.settings, config=config)
            self._lxd.check_addresses(new.name, settings)
            box = Box(name=new.name, root=new.image, settings=settings)
            self._lxd.boxes[new.name] = box

        self._lxd.called(f"create {new.name}", act)

    def replace(
        self, name: str, settings: InstanceSettings, *, etag: str = "", **_where: object
    ) -> None:
        def act() -> None:
            box = self._lxd.box(name)
            if etag and etag != str(box.version):
                raise ChangedMeanwhileError(f"{name} was changed")
            self._lxd.write(box, settings)

        self._lxd.called(f"replace {name}", act)

    def rename(self, name: str, new_name: str, **_where: object) -> None:
        def act() -> None:
            box = self._lxd.box(name)
            if box.running:
                raise WrongStateError(f"{name} runs")
            if new_name in self._lxd.boxes:
                raise NameTakenError(f"{new_name} is taken")
            del self._lxd.boxes[name]
            box.name = new_name
            self._lxd.boxes[new_name] = box

        self._lxd.called(f"rename {name} {new_name}", act)

    def delete(self, name: str, **_where: object) -> None:
        def act() -> None:
            box = self._lxd.box(name)
            if box.running or box.settings.config.get("security.protection.delete") == "true":
                raise WrongStateError(f"{name} runs or is protected")
            del self._lxd.boxes[name]

        self._lxd.called(f"delete {name}", act)

    def snapshots(self, name: str, **_where: object) -> tuple[Snapshot, ...]:
        box: Box = self._lxd.called(f"snapshots {name}", lambda: self._lxd.box(name))
        return tuple(Snapshot(instance=name, name=one) for one in box.snapshots)

    def backups(self, name: str, **_where: object) -> tuple[str, ...]:
        self._lxd.called(f"backups {name}", lambda: self._lxd.box(name))
        return ()

    def root_volume(self, instance: Instance) -> Volume:
        self._lxd.called(f"root of {instance.name}", lambda: self._lxd.box(instance.name))
        return Volume(pool="default", name=instance.name, project="default")


def _block_of(devices: Devices) -> str:
    """A device that names a file of the host that isn't there; the small LXD's host has none."""
    return next((name for name, one in devices.items() if one.get("type") == "unix-char"), "")


class _Power:
    def __init__(self, lxd: SmallLxd) -> None:
        self._lxd = lxd

    def start(self, name: str, **_where: object) -> None:
        def act() -> None:
            box = self._lxd.box(name)
            if box.running:
                raise WrongStateError(f"{name} runs already")
            self._lxd.check_addresses(name, box.settings)
            config = dict(box.settings.config)
            if config.get(ON_DISK) == "[]":
                self._lxd.remapped.append(name)
                box.settings = replace(box.settings, config={**config, ON_DISK: config[WANTED]})
                box.version += 1
            if missing := _block_of(box.settings.devices):
                raise StartFailedError(f'{name}: Failed to start device "{missing}": no such path')
            behaviour = self._lxd.known[box.root]
            if behaviour == "refuses":
                raise StartFailedError(f"{name} didn't start")
            box.running = behaviour != "ends"
            for device in self._lxd.expanded(box.settings).values():
                if device.get("type") == "disk" and "source" in device:
                    held = self._lxd.data.get(device["source"], frozenset())
                    self._lxd.data[device["source"]] = held | {box.root}

        self._lxd.called(f"start {name}", act)

    def stop(self, name: str, **_how: object) -> None:
        def act() -> None:
            if not self._lxd.box(name).running:
                raise WrongStateError(f"{name} is stopped already")
            self._lxd.box(name).running = False

        self._lxd.called(f"stop {name}", act)

    def kill(self, name: str, **how: object) -> None:
        self.stop(name, **how)

    def state(self, name: str, **_where: object) -> InstanceState:
        box: Box = self._lxd.called(f"state {name}", lambda: self._lxd.box(name))
        return InstanceState(
            status="Running" if box.running else "Stopped",
            process_id=7 if box.running else 0,
            processes=1,
            memory_bytes=1,
        )


class _Guests:
    def __init__(self, lxd: SmallLxd) -> None:
        self._lxd = lxd

    def read_file(self, name: str, path: str, **_where: object) -> GuestFile:
        def act() -> GuestFile:
            box = self._lxd.box(name)
            if path != STATE_PATH or not box.state:
                raise AbsentError(f"{path} isn't there")
            return GuestFile(content=box.state)

        found: GuestFile = self._lxd.called(f"read {name}", act)
        return found


class _Volumes:
    """Volumes hold the marks of the roots that ran with them."""

    def __init__(self, lxd: SmallLxd) -> None:
        self._lxd = lxd

    def get(self, pool: str, name: str, **_where: object) -> Volume:
        def act() -> Volume:
            users = tuple(
                f"/1.0/instances/{box.name}"
                for box in self._lxd.boxes.values()
                if any(
                    one.get("source") == name for one in self._lxd.expanded(box.settings).values()
                )
            )
            return Volume(pool=pool, name=name, project="default", used_by=users)

        found: Volume = self._lxd.called(f"volume {name}", act)
        return found

    def snapshots(self, pool: str, name: str, **_where: object) -> tuple[VolumeSnapshot, ...]:
        def act() -> tuple[VolumeSnapshot, ...]:
            return tuple(
                VolumeSnapshot(pool=pool, volume=name, name=snapshot, project="default")
                for volume, snapshot in self._lxd.kept_data
                if volume == name
            )

        found: tuple[VolumeSnapshot, ...] = self._lxd.called(f"volume snapshots {name}", act)
        return found

    def create_snapshot(self, _pool: str, name: str, snapshot: str, **_where: object) -> None:
        def act() -> None:
            if (name, snapshot) in self._lxd.kept_data:
                raise NameTakenError(f"{name} has {snapshot}")
            self._lxd.kept_data[name, snapshot] = self._lxd.data.get(name, frozenset())

        self._lxd.called(f"snapshot volume {name}", act)

    def restore_snapshot(self, _pool: str, name: str, snapshot: str, **_where: object) -> None:
        def act() -> None:
            for box in self._lxd.boxes.values():
                devices = self._lxd.expanded(box.settings).values()
                if box.running and any(device.get("source") == name for device in devices):
                    raise InUseError(f"{box.name} runs with {name}")
            self._lxd.data[name] = self._lxd.kept_data[name, snapshot]

        self._lxd.called(f"restore volume {name}", act)

    def delete_snapshot(self, _pool: str, name: str, snapshot: str, **_where: object) -> None:
        def act() -> None:
            if self._lxd.kept_data.pop((name, snapshot), None) is None:
                raise AbsentError(f"{name} has no {snapshot}")

        self._lxd.called(f"delete snapshot of {name}", act)


class _Server:
    def __init__(self, lxd: SmallLxd) -> None:
        self._lxd = lxd

    def info(self) -> ServerInfo:
        return ServerInfo(
            product="lxd",
            version="5.0.2",
            api_version="1.0",
            trusted=True,
            name="here",
            clustered=False,
            extensions=frozenset(),
        )
