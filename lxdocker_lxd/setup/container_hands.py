"""Hands for the container of the server: its image, its volumes, itself."""

import contextlib
from dataclasses import replace

from lxdocker_lxd.errors import LxdError, NotFoundError, ToolError
from lxdocker_lxd.lxd.calls import NewInstance
from lxdocker_lxd.lxd.failures import AbsentError, StopTimedOutError, WrongStateError
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import DEFAULT_PROJECT, InstanceSettings, UpdateSource
from lxdocker_lxd.lxd.resources import Volume
from lxdocker_lxd.setup.contained import DESCRIPTION, MARK, Contained, definition_text
from lxdocker_lxd.setup.inside import Inside
from lxdocker_lxd.setup.item import DAMAGE, Value

BASE_ALIAS = "lxdocker-lxd-container"
_HOLDS = "user.lxdocker-lxd.holds"
_THERE_BEFORE = "there before setup"


class ImageFetchError(LxdError):
    """LXD couldn't fetch the image that the container is to be made of."""


class BaseImages:
    """Implements :class:`Hand` for the image the container is made of; a name is its local alias."""

    def __init__(self, lxd: Lxd) -> None:
        self._lxd = lxd

    def look(self, name: str, wanted: Value) -> Value | None:
        """Return what is wanted where the image is there, or the container that needed it."""
        if Inside(self._lxd, wanted["for"]).state() != "absent":
            return wanted
        try:
            self._lxd.aliases.get(name)
        except AbsentError:
            return None
        return wanted

    def make(self, name: str, wanted: Value) -> None:
        """Let LXD fetch it."""
        known = {image.fingerprint for image in self._lxd.images.list()}
        source = UpdateSource(
            server=wanted["server"], alias=wanted["alias"], certificate=wanted["certificate"]
        )
        try:
            fingerprint = self._lxd.images.pull(source, auto_update=False)
        except (LxdError, NotFoundError) as error:
            raise ImageFetchError(
                f"{error.message}: {source.alias} of {source.server}",
                hint="does that server still serve LXD? setup --undo, then name another image with"
                " --container-image, as ubuntu:24.04",
            ) from error
        before = _THERE_BEFORE if fingerprint in known else ""
        self._lxd.aliases.create(name, fingerprint, description=before)

    def take_back(self, name: str, after: Value, before: Value | None) -> str:  # noqa: ARG002
        """Remove the alias, and the image unless it was there before or has another name."""
        if before is not None:
            return ""
        with contextlib.suppress(AbsentError):
            alias = self._lxd.aliases.get(name)
            image = self._lxd.images.get(alias.fingerprint)
            self._lxd.aliases.delete(name)
            if alias.description != _THERE_BEFORE and set(image.aliases) <= {name}:
                self._lxd.images.delete(alias.fingerprint)
        return ""


class ContainerVolumes:
    """Implements :class:`Hand` for volumes of the container; a name is ``POOL/VOLUME``."""

    def __init__(self, lxd: Lxd) -> None:
        self._lxd = lxd

    def look(self, name: str, wanted: Value) -> Value | None:
        """Return what is wanted for a volume of an earlier container, too."""
        pool, _, volume = name.partition("/")
        try:
            found = self._lxd.volumes.get(pool, volume)
        except AbsentError:
            return None
        return wanted if found.config.get(MARK) else {"of": "somebody else"}

    def make(self, name: str, wanted: Value) -> None:
        """Make the volume."""
        pool, _, volume = name.partition("/")
        self._lxd.volumes.create(
            Volume(
                pool=pool,
                name=volume,
                project=DEFAULT_PROJECT,
                description=f"{DESCRIPTION} ({wanted['path']})",
                config={MARK: wanted["of"]},
            )
        )

    def take_back(self, name: str, after: Value, before: Value | None) -> str:  # noqa: ARG002
        """Delete the volume, unless something in it is somebody's own or an instance has it."""
        if before is not None:
            return ""
        pool, _, volume = name.partition("/")
        try:
            found = self._lxd.volumes.get(pool, volume)
            if found.used_by:
                return "an instance uses it"
            if holds := found.config.get(_HOLDS):
                return f"it holds {holds}; delete it: lxc storage volume delete {pool} {volume}"
            self._lxd.volumes.delete(pool, volume)
        except AbsentError:
            return ""
        return ""


def keep_volumes(lxd: Lxd, container: str, holds: str) -> None:
    """Note in the volumes of a container what they hold of somebody's own; empty for nothing."""
    devices = lxd.instances.get(container).devices.values()
    for device in devices:
        if device.get("type") != "disk" or "pool" not in device or "source" not in device:
            continue
        found = lxd.volumes.get(device["pool"], device["source"])
        if found.config.get(MARK) and found.config.get(_HOLDS, "") != holds:
            config = {key: text for key, text in found.config.items() if key != _HOLDS}
            config |= {_HOLDS: holds} if holds else {}
            lxd.volumes.edit(replace(found, config=config))


class Containers:
    """Implements :class:`Hand` for the instance; ``definition`` in a value is its configuration."""

    def __init__(self, lxd: Lxd, contained: Contained | None) -> None:
        self._lxd = lxd
        self._contained = contained

    def look(self, name: str, wanted: Value) -> Value | None:
        """Return the instance's own values of the wanted keys and devices; others are users' own."""
        try:
            found = self._lxd.instances.get(name)
        except AbsentError:
            return None
        shall = self._contained
        if shall is None:
            # Only to be taken back.
            return wanted if found.config.get(MARK) else {"of": "somebody else"}
        config = {key: found.config.get(key) for key in shall.config}
        devices = {key: found.devices[key] for key in shall.devices if key in found.devices}
        return {"definition": definition_text(config, devices)}

    def make(self, name: str, wanted: Value) -> None:  # noqa: ARG002 - the same in ``contained``
        """Create the instance, stopped, or write what it lacks."""
        shall = self._contained
        if shall is None:
            raise AssertionError("an instance is made from its definition")
        try:
            self._lxd.instances.get(name)
        except AbsentError:
            settings = InstanceSettings(
                architecture="",
                config=shall.config,
                devices=shall.devices,
                profiles=("default",),
                description=DESCRIPTION,
            )
            fingerprint = local_image(self._lxd, shall.image)
            self._lxd.instances.create(NewInstance(name=name, image=fingerprint, settings=settings))
            return
        self._lxd.instances.patch(name, config=shall.config, devices=shall.devices)

    def take_back(self, name: str, after: Value, before: Value | None) -> str:  # noqa: ARG002
        """Stop and delete the instance."""
        if before is not None:
            return ""
        with contextlib.suppress(AbsentError):
            with contextlib.suppress(WrongStateError):
                try:
                    self._lxd.power.stop(name, timeout_seconds=30)
                except StopTimedOutError:
                    self._lxd.power.kill(name)
            self._lxd.instances.delete(name)
        return ""


def local_image(lxd: Lxd, text: str) -> str:
    """Return the fingerprint of a local image by alias or fingerprint; raise NotFoundError."""
    try:
        return lxd.aliases.get(text).fingerprint
    except AbsentError:
        found = [
            image.fingerprint for image in lxd.images.list() if _begins(image.fingerprint, text)
        ]
    if len(found) == 1:
        return found[0]
    raise NotFoundError(
        f"--container-image {text}: LXD has no image of that alias or fingerprint",
        hint="`lxc image list` shows them; a remote's image is written REMOTE:ALIAS",
    )


def _begins(fingerprint: str, text: str) -> bool:
    return bool(text) and fingerprint.startswith(text.lower())


class Powers:
    """Implements :class:`Hand` for the container running; a name is the container's."""

    def __init__(self, lxd: Lxd) -> None:
        self._lxd = lxd

    def look(self, name: str, wanted: Value) -> Value | None:
        """Return whether it runs."""
        state = Inside(self._lxd, name).state()
        if state == "absent":
            return None
        return wanted if state == "running" else {DAMAGE: state}

    def make(self, name: str, wanted: Value) -> None:
        """Start it and wait until systemd is up and it has its address."""
        inside = Inside(self._lxd, name)
        inside.start(wanted["address"])
        init = inside.text("cat", "/proc/1/comm").strip()
        if init != "systemd":
            raise ToolError(
                f"the container {name} boots {init or 'an unknown init'}, not systemd, which runs the"
                " server and its timers",
                hint="setup --undo, then give another --container-image: Debian's and Ubuntu's have it",
            )

    def take_back(self, name: str, after: Value, before: Value | None) -> str:  # noqa: ARG002
        """Nothing: the instance is deleted next."""
        return ""
