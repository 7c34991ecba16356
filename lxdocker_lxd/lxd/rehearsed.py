"""A LXD that only pretends: what it is asked to do it notes, and does to its own picture.

Everything is read from the real one, once somebody looks; what would be written is turned into the
very request that the adapter would send, told to whoever listens, and never sent. The picture follows
LXD's rules as far as an update of instances meets them: a NIC that is added draws a MAC, conditional
writes, what a start needs, what is written down at the first start.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from lxdocker_lxd.lxd import instance_requests
from lxdocker_lxd.lxd.calls import NewInstance
from lxdocker_lxd.lxd.failures import (
    AbsentError,
    ChangedMeanwhileError,
    NameTakenError,
    RefusedError,
    StartFailedError,
    WrongStateError,
)
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import (
    DEFAULT_PROJECT,
    Config,
    Devices,
    Instance,
    InstanceSettings,
    InstanceState,
    Snapshot,
)
from lxdocker_lxd.lxd.request import Request
from lxdocker_lxd.lxd.resources import Volume

DRAWN = "drawn by LXD"
_FIRST_MAC = "00:16:3e:xx:xx:"
_MAP = '[{"Isuid":true,"Isgid":true}]'
_NONE = "[]"

Key = tuple[str, str]
# A request, and the instance it is about before and after it.
OnRequest = Callable[[Request, Instance | None, Instance | None], None]


class Picture:
    """What would be there by now. ``missing`` are host's devices that no instance could use.

    ``clock`` says when an instance would have been started.
    """

    def __init__(
        self,
        lxd: Lxd,
        on_request: OnRequest,
        *,
        missing: frozenset[str],
        clock: Callable[[], datetime],
    ) -> None:
        self.lxd = lxd
        self.tell = on_request
        self.missing = missing
        self.clock = clock
        self._known: dict[Key, Instance | None] = {}
        self._snapshots: dict[Key, tuple[Snapshot, ...]] = {}
        self._moved: set[Key] = set()
        self._drawn = 0

    def pretends(self, project: str, name: str) -> bool:
        """Whether something was done to this name here."""
        return (project, name) in self._known

    def has_its_root(self, project: str, name: str) -> bool:
        """Whether the name would stand for the root file system that it really has."""
        if not self.pretends(project, name):
            return True
        instance = self._known[project, name]
        moved = (project, name) in self._moved
        return instance is not None and not moved and instance.config.get("volatile.uuid") != DRAWN

    def get(self, name: str, project: str) -> Instance:
        """An instance as it would be; AbsentError."""
        if not self.pretends(project, name):
            return self.lxd.instances.get(name, project=project)
        instance = self._known[project, name]
        if instance is None:
            raise AbsentError(f"could not read {name}: it wouldn't be there")
        return instance

    def list(self, project: str | None) -> tuple[Instance, ...]:
        """All instances there would be."""
        real = self.lxd.instances.list(project=project)
        untouched = [one for one in real if not self.pretends(one.project, one.name)]
        ours = [one for one in self._known.values() if one is not None]
        found = untouched + [one for one in ours if project in {None, one.project}]
        return tuple(sorted(found, key=lambda one: (one.project, one.name)))

    def snapshots(self, name: str, project: str) -> tuple[Snapshot, ...]:
        """An instance's snapshots."""
        if (project, name) in self._snapshots:
            return self._snapshots[project, name]
        return self.lxd.instances.snapshots(name, project=project)

    def put(self, instance: Instance, settings: InstanceSettings) -> Instance:
        """Let an instance have these settings."""
        config, devices = dict(settings.config), dict(settings.devices)
        expanded_config: dict[str, str] = {}
        expanded_devices: dict[str, dict[str, str]] = {}
        for name in settings.profiles:
            profile = self.lxd.profiles.get(name, project=instance.project)
            expanded_config |= profile.config
            expanded_devices |= {key: dict(one) for key, one in profile.devices.items()}
        expanded_devices |= {key: dict(one) for key, one in devices.items()}
        self._draw_addresses(instance.expanded_devices, expanded_devices, config)
        self._drawn += 1
        now = replace(
            instance,
            architecture=settings.architecture or instance.architecture,
            config=config,
            devices=devices,
            profiles=settings.profiles,
            ephemeral=settings.ephemeral,
            description=settings.description,
            stateful=settings.stateful,
            expanded_config=expanded_config | config,
            expanded_devices=expanded_devices,
            etag=f"rehearsed {self._drawn}",
        )
        self.keep(now)
        return now

    def _draw_addresses(self, was: Devices, now: Devices, config: dict[str, str]) -> None:
        """Write into ``config`` what LXD notes of NICs that come and go."""
        for name in _nics(was) - _nics(now):
            for key in [one for one in config if one.startswith(f"volatile.{name}.")]:
                del config[key]
        for name in sorted(_nics(now) - _nics(was)):
            if "hwaddr" not in now[name]:
                self._drawn += 1
                config[f"volatile.{name}.hwaddr"] = f"{_FIRST_MAC}{self._drawn:02x}"

    def keep(self, instance: Instance) -> None:
        """Let an instance be this."""
        key = (instance.project, instance.name)
        self._snapshots[key] = self._snapshots_of(instance)
        self._known[key] = instance

    def _snapshots_of(self, instance: Instance) -> tuple[Snapshot, ...]:
        fresh = not instance.config or instance.config.get("volatile.uuid") == DRAWN
        return () if fresh else self.snapshots(instance.name, instance.project)

    def move(self, instance: Instance, name: str) -> Instance:
        """Let an instance have another name."""
        snapshots = self.snapshots(instance.name, instance.project)
        self.remove(instance)
        self._drawn += 1
        moved = replace(instance, name=name, etag=f"rehearsed {self._drawn}")
        self._known[instance.project, name] = moved
        self._moved.add((instance.project, name))
        self._snapshots[instance.project, name] = snapshots
        return moved

    def remove(self, instance: Instance) -> None:
        """Let an instance be gone."""
        self._known[instance.project, instance.name] = None
        self._snapshots[instance.project, instance.name] = ()


def _nics(devices: Devices) -> set[str]:
    return {name for name, device in devices.items() if device.get("type") == "nic"}


def not_rehearsed(what: str) -> RefusedError:
    """Return the error for what no update does, so that it isn't silently done for real."""
    return RefusedError(f"could not {what}: this is a rehearsal", hint="")


class RehearsedInstances:
    """Implements the port :class:`Instances` on a picture."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture

    def list(self, *, project: str | None = DEFAULT_PROJECT) -> tuple[Instance, ...]:
        """All instances there would be."""
        return tuple(replace(one, etag="") for one in self._picture.list(project))

    def get(self, name: str, *, project: str = DEFAULT_PROJECT) -> Instance:
        """One instance as it would be."""
        return self._picture.get(name, project)

    def create(self, new: NewInstance, *, project: str = DEFAULT_PROJECT) -> None:
        """Note the request, and let the instance be there."""
        picture = self._picture
        image = picture.lxd.images.get(new.image, project=project)
        if any(one.name == new.name for one in picture.list(project)):
            raise NameTakenError(f"could not create {new.name}: the name is taken")
        bare = Instance(
            name=new.name,
            project=project,
            status="Stopped",
            location=new.target or "none",
            type=new.type,
            architecture=image.architecture,
            ephemeral=False,
            stateful=False,
            description="",
            profiles=(),
            config={},
            devices={},
            expanded_config={},
            expanded_devices={},
        )
        config = {key: value for key, value in new.settings.config.items() if value}
        config |= {f"image.{key}": value for key, value in image.properties.items()}
        config |= {"volatile.base_image": new.image, "volatile.uuid": DRAWN}
        made = picture.put(bare, replace(new.settings, config=config))
        privileged = made.expanded_config.get("security.privileged") == "true"
        map_now = _NONE if privileged or new.type != "container" else _MAP
        noted = {"volatile.idmap.next": map_now, "volatile.last_state.idmap": _NONE}
        made = picture.put(made, replace(made.settings, config={**made.config, **noted}))
        picture.tell(instance_requests.creating(new, project), None, made)

    def replace(
        self,
        name: str,
        settings: InstanceSettings,
        *,
        etag: str = "",
        project: str = DEFAULT_PROJECT,
    ) -> None:
        """Note the request, and let the settings be these."""
        before = self._unchanged(name, etag, project)
        config = {key: value for key, value in settings.config.items() if value}
        after = self._picture.put(before, replace(settings, config=config))
        request = instance_requests.replacing(name, settings, project, etag=etag)
        self._picture.tell(request, before, after)

    def patch(
        self,
        name: str,
        *,
        config: Config | None = None,
        devices: Devices | None = None,
        ephemeral: bool | None = None,
        etag: str = "",
        project: str = DEFAULT_PROJECT,
    ) -> None:
        """Note the request, and let some settings be these."""
        before = self._unchanged(name, etag, project)
        now = before.settings
        merged = {**now.config, **(config or {})}
        settings = replace(
            now,
            config={key: value for key, value in merged.items() if value},
            devices={**now.devices, **(devices or {})},
            ephemeral=now.ephemeral if ephemeral is None else ephemeral,
        )
        after = self._picture.put(before, settings)
        request = instance_requests.patching(
            name, project, config=config, devices=devices, ephemeral=ephemeral, etag=etag
        )
        self._picture.tell(request, before, after)

    def _unchanged(self, name: str, etag: str, project: str) -> Instance:
        instance = self._picture.get(name, project)
        if etag and instance.etag != etag:
            raise ChangedMeanwhileError(f"could not write {name}: it was changed", hint="again")
        return instance

    def rename(self, name: str, new_name: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Note the request, and let the instance have the name."""
        before = self._picture.get(name, project)
        if before.running:
            raise WrongStateError(f"could not rename {name}: it would run")
        if any(one.name == new_name for one in self._picture.list(project)):
            raise NameTakenError(f"could not rename {name}: {new_name} is taken")
        after = self._picture.move(before, new_name)
        self._picture.tell(instance_requests.renaming(name, new_name, project), before, after)

    def delete(self, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Note the request, and let the instance be gone."""
        before = self._picture.get(name, project)
        self._picture.remove(before)
        self._picture.tell(instance_requests.deleting(name, project), before, None)

    def snapshots(self, name: str, *, project: str = DEFAULT_PROJECT) -> tuple[Snapshot, ...]:
        """An instance's snapshots."""
        return self._picture.snapshots(name, project)

    def backups(self, name: str, *, project: str = DEFAULT_PROJECT) -> tuple[str, ...]:
        """Names of the backups of an instance that nothing was done to; none of another."""
        if self._picture.pretends(project, name):
            return ()
        return self._picture.lxd.instances.backups(name, project=project)

    def root_volume(self, instance: Instance) -> Volume:
        """The volume of an instance's root; one that was made here has no settings of its own."""
        if instance.config.get("volatile.uuid") != DRAWN:
            return self._picture.lxd.instances.root_volume(instance)
        pool = instance_requests.root_pool(instance)
        return Volume(pool=pool, name=instance.name, project=instance.project)

    def edit_root_volume(self, instance: Instance, volume: Volume) -> None:
        """Note the request."""
        request = instance_requests.editing_root_volume(instance, volume)
        self._picture.tell(request, instance, instance)


class RehearsedPower:
    """Implements the port :class:`Power` on a picture."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture

    def state(self, name: str, *, project: str = DEFAULT_PROJECT) -> InstanceState:
        """What the instance would be doing."""
        if not self._picture.pretends(project, name):
            return self._picture.lxd.power.state(name, project=project)
        instance = self._picture.get(name, project)
        alive = int(instance.running)
        return InstanceState(
            status=instance.status, process_id=alive, processes=alive, memory_bytes=0
        )

    def start(self, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Note the request; the instance would run, unless a device it needs isn't there."""
        before = self._picture.get(name, project)
        if before.status != "Stopped":
            raise WrongStateError(f"could not start {name}: it would be {before.status}")
        on_disk = before.config.get("volatile.idmap.next", _NONE)
        settings = replace(
            before.settings, config={**before.config, "volatile.last_state.idmap": on_disk}
        )
        mapped = self._picture.put(before, settings)
        lacking = [
            key
            for key, device in before.expanded_devices.items()
            if device.get("source") in self._picture.missing
        ]
        started = replace(mapped, last_used_at=self._picture.clock())
        after = mapped if lacking else self._turned(started, "Running")
        request = instance_requests.changing_power("start", name, project)
        self._picture.tell(request, before, after)
        if lacking:
            raise StartFailedError(f'could not start {name}: device "{lacking[0]}" isn\'t there')

    def stop(self, name: str, *, timeout_seconds: int = 30, project: str = DEFAULT_PROJECT) -> None:
        """Note the request, and let the instance be stopped."""
        self._stop(name, project, timeout_seconds=timeout_seconds)

    def kill(self, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Note the request, and let the instance be stopped."""
        self._stop(name, project, force=True)

    def freeze(self, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Raise RefusedError: no update freezes."""
        raise not_rehearsed(f"freeze {name} of project {project}")

    def unfreeze(self, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Raise RefusedError: no update unfreezes."""
        raise not_rehearsed(f"unfreeze {name} of project {project}")

    def _stop(
        self, name: str, project: str, *, force: bool = False, timeout_seconds: int = 30
    ) -> None:
        before = self._picture.get(name, project)
        if before.status == "Stopped":
            raise WrongStateError(f"could not stop {name}: it would be stopped")
        after = self._turned(before, "Stopped")
        if before.ephemeral:
            self._picture.remove(after)
        request = instance_requests.changing_power(
            "stop", name, project, force=force, timeout_seconds=timeout_seconds
        )
        self._picture.tell(request, before, after)

    def _turned(self, instance: Instance, status: str) -> Instance:
        turned = replace(instance, status=status)
        self._picture.keep(turned)
        return turned
