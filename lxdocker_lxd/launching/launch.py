"""The use case ``launch``: an instance of an image that is in LXD, with what the image asks for.

Order: create it; read what its image asks for; make volumes and fill them; add devices and keys;
start. What fails before the start takes everything of this launch away again, volumes included
unless they were there before.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial

from lxdocker_lxd.errors import LxdError, LxdockerError, NotFoundError, UsageError
from lxdocker_lxd.guest_path import resolved
from lxdocker_lxd.image_facts import ImageFacts, facts_of
from lxdocker_lxd.launching.ports import (
    PublishedPort,
    clash,
    devices_of,
    exposed_by,
    listened,
    settled,
)
from lxdocker_lxd.launching.seeding import PENDING, SEEDED_KEY, Seed, fill
from lxdocker_lxd.launching.volumes import VolumeWish, volume_devices, wanted_volumes
from lxdocker_lxd.launching.waiting import Watch, existing
from lxdocker_lxd.lxd.calls import NewInstance
from lxdocker_lxd.lxd.failures import (
    AbsentError,
    NameTakenError,
    RefusedError,
    StartFailedError,
    UnknownOutcomeError,
    WrongStateError,
)
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Instance, InstanceSettings, disk_paths
from lxdocker_lxd.lxd.resources import Volume
from lxdocker_lxd.progress import Progress, StageStarted

IMAGE_KEY = "user.lxdocker.image"
UPDATE_KEY = "user.lxdocker.update"
# On an instance from its making until it is ready to start; a killed launch leaves it there.
LAUNCHING_KEY = "user.lxdocker.launching"
_NAME = re.compile(r"[A-Za-z](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_ADDRESS_SECONDS = 10.0
_NO_ROOT_HINT = "give a profile one: lxc profile device add default root disk path=/ pool=POOL"
_PORT_HINT = "another program of the host probably has that port: publish another one"
_ADDRESS_HINT = "the host has no such address: `ip address` shows those it has"
_CREATE_HINTS = {
    "root device": _NO_ROOT_HINT,
    "requested profile": "`lxc profile list` shows those there are",
    "invalid value": "correct what --set gives",
    "unknown configuration key": "correct what --set gives; keys of your own begin with user.",
}


class PortTakenError(LxdError):
    """A port of the host that is to be published belongs to something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchWishes:
    """What was said about the instance; keys of ``config`` are LXD's, and win.

    ``command`` takes the place of the image's Cmd. ``update`` is ``auto``, ``notify``, ``off`` or
    empty. ``wait_seconds`` None doesn't wait for more than an address.
    """

    publish: tuple[PublishedPort, ...] = ()
    publish_all: bool = False
    volumes: tuple[VolumeWish, ...] = ()
    config: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    command: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ("default",)
    target: str = ""
    update: str = ""
    wait_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """A started instance; ``address`` is empty where it has none that others reach.

    ``exit_code`` is set when its command has ended already.
    """

    name: str
    project: str
    fingerprint: str
    alias: str
    address: str
    exit_code: int | None = None
    ports: tuple[PublishedPort, ...] = ()
    volumes: tuple[VolumeWish, ...] = ()


def check_name(lxd: Lxd, name: str, *, project: str) -> None:
    """Raise UsageError for what can't name an instance, NameTakenError for what names one."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name[:80]!r} can't name an instance",
            hint="up to 63 letters, digits and hyphens, beginning with a letter",
        )
    found = existing(lxd, name, project=project)
    if found is not None:
        rest = found.config.get(LAUNCHING_KEY) == "true"
        raise NameTakenError(
            f"there is an instance {name} in project {project} already"
            + (", of a launch that was interrupted or is still at work" if rest else ""),
            hint=f"choose another name, or remove it: lxc delete --force {name}",
        )


class Launch:
    """One launch."""

    def __init__(
        self, lxd: Lxd, name: str, wishes: LaunchWishes, progress: Progress, *, project: str
    ) -> None:
        self._lxd = lxd
        self._name = name
        self._wishes = wishes
        self._progress = progress
        self._project = project

    def run(self, alias: str) -> Launched:
        """Launch the image named ``alias``; raises what LXD refuses, after taking all back."""
        check_name(self._lxd, self._name, project=self._project)
        image = self._lxd.aliases.get(alias, project=self._project).fingerprint
        with ExitStack() as undo:
            self._stage("create")
            self._create(image, alias)
            made: list[Volume] = []
            undo.callback(self._take_back, made)
            facts = facts_of(self._lxd, self._name, project=self._project)
            instance = self._lxd.instances.get(self._name, project=self._project)
            ports = self._ports(facts, instance)
            volumes = self._volumes(facts, instance)
            pool = _pool(instance)
            seeds = self._make_volumes(volumes, pool, instance, made)
            if seeds:
                self._stage("volumes")
                fill(self._lxd, self._name, seeds, project=self._project)
            self._stage("start")
            self._configure({**volume_devices(volumes, pool), **devices_of(ports)})
            self._start()
            undo.pop_all()
        return self._ready(facts, image, alias, ports, volumes)

    def _stage(self, stage: str) -> None:
        self._progress.emit(StageStarted(image=self._name, stage=stage))

    # ---- making it

    def _create(self, image: str, alias: str) -> None:
        wishes = self._wishes
        config = {IMAGE_KEY: f"local|{alias}", LAUNCHING_KEY: "true", **wishes.config}
        if wishes.update:
            config[UPDATE_KEY] = wishes.update
        if wishes.user:
            config["user.lxdocker.user"] = wishes.user
        if wishes.command:
            config["user.lxdocker.cmd"] = json.dumps(list(wishes.command))
        settings = InstanceSettings(
            architecture=self._lxd.images.get(image, project=self._project).architecture,
            config=config,
            devices={},
            profiles=wishes.profiles,
        )
        new = NewInstance(name=self._name, image=image, settings=settings, target=wishes.target)
        try:
            self._lxd.instances.create(new, project=self._project)
        except (KeyboardInterrupt, UnknownOutcomeError):
            # LXD may go on with it, or have done it; a failure of its own leaves nothing.
            self._take_back(())
            raise
        except AbsentError as error:
            if "member" not in error.message.lower():
                raise
            hint = f"there is no {wishes.target} among them: lxc cluster list"
            raise AbsentError(error.message, hint=hint) from error
        except RefusedError as error:
            said = error.message.lower()
            known = (hint for words, hint in _CREATE_HINTS.items() if words in said)
            raise RefusedError(error.message, hint=next(known, error.hint)) from error

    def _volumes(self, facts: ImageFacts, instance: Instance) -> tuple[VolumeWish, ...]:
        def place(path: str) -> str:
            return resolved(self._lxd, self._name, path, project=self._project)

        named = [replace(wish, path=place(wish.path)) for wish in self._wishes.volumes]
        held = disk_paths(instance.expanded_devices)
        return wanted_volumes(self._name, named, map(place, facts.volumes), held)

    def _make_volumes(
        self,
        wishes: tuple[VolumeWish, ...],
        pool: str,
        instance: Instance,
        made: list[Volume],
    ) -> list[Seed]:
        """Make the volumes that aren't there, into ``made``; return those that have to be filled."""
        seeds: list[Seed] = []
        for wish in wishes:
            try:
                volume = self._lxd.volumes.get(pool, wish.name, project=self._project)
            except AbsentError:
                volume = self._make_volume(wish, pool, instance, made)
            if wish.copy and volume.config.get(SEEDED_KEY) != "true":
                seeds.append(Seed(wish=wish, volume=volume))
        return seeds

    def _make_volume(
        self, wish: VolumeWish, pool: str, instance: Instance, made: list[Volume]
    ) -> Volume:
        volume = Volume(
            pool=pool,
            name=wish.name,
            project=self._project,
            description=f"{wish.path} of {self._name}",
            config={SEEDED_KEY: PENDING} if wish.copy else {},
        )
        target = "" if instance.location in ("", "none") else instance.location
        made.append(volume)
        try:
            self._lxd.volumes.create(volume, target=target)
        except NameTakenError:
            # Somebody else made it meanwhile; it isn't ours to remove.
            made.remove(volume)
            raise
        return volume

    def _ports(self, facts: ImageFacts, instance: Instance) -> tuple[PublishedPort, ...]:
        wanted = list(self._wishes.publish)
        if self._wishes.publish_all:
            known = {(port.port, port.protocol) for port in wanted}
            exposed = exposed_by(facts.ports)
            wanted += [port for port in exposed if (port.port, port.protocol) not in known]
        if not wanted:
            return ()
        listed = self._lxd.instances.list(project=None)
        # Each member of a cluster has ports of its own.
        others = [one for one in listed if one.location == instance.location]
        taken = {held: one for one in others for held in listened(one.expanded_devices)}
        for port in wanted:
            holders = (one for held, one in taken.items() if clash(port.held, held) and one.running)
            other = next(holders, None)
            if other is not None:
                raise PortTakenError(
                    f"the instance {other.name} has the host's {port.protocol} port {port.host_port}",
                    hint="publish another port, or none in its place to have one chosen",
                )
        return settled(wanted, taken)

    def _configure(self, devices: Mapping[str, Mapping[str, str]]) -> None:
        now = self._lxd.instances.get(self._name, project=self._project)
        config = {key: value for key, value in now.config.items() if key != LAUNCHING_KEY}
        settings = replace(now.settings, config=config, devices={**now.devices, **devices})
        self._lxd.instances.replace(self._name, settings, etag=now.etag, project=self._project)

    def _start(self) -> None:
        try:
            self._lxd.power.start(self._name, project=self._project)
        except StartFailedError as error:
            if "proxy device" not in error.message:
                raise
            elsewhere = "assign requested address" in error.message
            hint = _ADDRESS_HINT if elsewhere else _PORT_HINT
            raise PortTakenError(error.message, hint=hint) from error

    # ---- after the start

    def _ready(
        self,
        facts: ImageFacts,
        image: str,
        alias: str,
        ports: tuple[PublishedPort, ...],
        volumes: tuple[VolumeWish, ...],
    ) -> Launched:
        watch = Watch(self._lxd, self._name, project=self._project)
        seconds = self._wishes.wait_seconds
        if seconds is not None:
            self._stage("wait")
            inside = [port.port for port in ports if port.protocol == "tcp"]
            single = [found for found in map(PublishedPort.exposed, facts.ports) if len(found) == 1]
            exposed = [one.port for (one,) in single]
            watch.until_ready(health=facts.health, ports=inside or exposed, seconds=seconds)
        instance = self._lxd.instances.get(self._name, project=self._project)
        nics = any(one.get("type") == "nic" for one in instance.expanded_devices.values())
        return Launched(
            name=self._name,
            project=self._project,
            fingerprint=image,
            alias=alias,
            address=watch.address(seconds=_ADDRESS_SECONDS if nics else 0),
            exit_code=watch.exit_code(),
            ports=ports,
            volumes=volumes,
        )

    # ---- taking back; the first failure is what a user is told, not one of these

    def _take_back(self, made: Iterable[Volume]) -> None:
        self._quietly(self._kill)
        self._quietly(lambda: self._lxd.instances.delete(self._name, project=self._project))
        for volume in made:
            self._quietly(partial(self._delete_volume, volume))

    def _delete_volume(self, volume: Volume) -> None:
        self._lxd.volumes.delete(volume.pool, volume.name, project=self._project)

    def _kill(self) -> None:
        try:
            self._lxd.power.kill(self._name, project=self._project)
        except WrongStateError:
            return

    @staticmethod
    def _quietly(act: Callable[[], None]) -> None:
        try:
            act()
        except LxdockerError:
            return


def _pool(instance: Instance) -> str:
    """Return the pool of the root disk; volumes go where the instance is."""
    for device in instance.expanded_devices.values():
        if device.get("type") == "disk" and device.get("path") == "/":
            return device.get("pool", "")
    raise NotFoundError(
        f"{instance.name} has no root disk in its profiles",
        hint=_NO_ROOT_HINT,
    )
