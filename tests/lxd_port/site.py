"""Where a contract test runs: the ports, and the few things that no port offers."""

import contextlib
import json
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

import pytest

from lxdocker_lxd.lxd.calls import ImageUpload, NewInstance
from lxdocker_lxd.lxd.daemon import LxdDaemon, open_lxd
from lxdocker_lxd.lxd.failures import ImageExistsError, OperationGoneError, UnknownOutcomeError
from lxdocker_lxd.lxd.place import SocketPlace
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Config, Devices, InstanceSettings, UpdateSource
from lxdocker_lxd.lxd.resources import StoragePool
from tests.harness.image_server import ImageServer
from tests.harness.lxd import PrivateLxd
from tests.harness.lxd_image import INIT, LxdImage, lxd_image
from tests.harness.processes import eventually
from tests.harness.simulated_lxd import (
    EXITS_AT_ONCE,
    REFUSES_TO_START,
    Behaviour,
    Fault,
    SimulatedLxd,
    fingerprint_of,
)

Found = TypeVar("Found")

# What PID 1 of each kind of image does, and the simulation's word for it.
KINDS: dict[str, tuple[str, Behaviour]] = {
    "good": (INIT, Behaviour(console=b"init of 1 as 1\r\n")),
    "deaf": (
        "#!/bin/sh\ntrap '' PWR\nwhile :; do sleep 1000 & wait $!; done\n",
        Behaviour(stops=False),
    ),
    "quick": ("#!/bin/sh\nexit 3\n", EXITS_AT_ONCE),
    "brief": ("#!/bin/sh\nsleep 2\nexit 3\n", Behaviour(ends_after_seconds=2.0)),
    "broken": ("#!/nonexistent\n", REFUSES_TO_START),
}


def image_of(kind: str = "good", version: str = "1") -> LxdImage:
    """A small image whose PID 1 is of a kind."""
    return lxd_image(version if kind == "good" else kind, init=KINDS[kind][0])


def settings(
    config: Config | None = None,
    devices: Devices | None = None,
    *,
    profiles: tuple[str, ...] = ("default",),
    ephemeral: bool = False,
    description: str = "",
) -> InstanceSettings:
    """Settings of an instance of the default profile."""
    return InstanceSettings(
        architecture="x86_64",
        config=config or {},
        devices=devices or {},
        profiles=profiles,
        ephemeral=ephemeral,
        description=description,
    )


class Base(Protocol):
    """What both sites offer."""

    lxd: Lxd
    network: str
    # The first three numbers of the network's addresses, with the dot.
    prefix: str

    def now(self) -> float:
        """Seconds that pass for LXD."""
        ...

    def eventually(self, look: Callable[[], Found], what: str) -> Found:
        """Wait until ``look`` gives something."""
        ...

    def snapshot(self, name: str, snapshot: str) -> None:
        """Make a snapshot of an instance."""
        ...

    def backup(self, name: str, backup: str) -> None:
        """Make a backup of an instance that LXD keeps."""
        ...

    def remapped(self, name: str) -> bool:
        """Whether LXD has given the files of an instance's root their owners on the host."""
        ...

    def restart(self) -> None:
        """Restart the daemon."""
        ...

    def die_creating(self, name: str) -> None:
        """Kill the daemon while it unpacks an image for an instance; start it again."""
        ...

    def publish(self, alias: str, version: str) -> UpdateSource:
        """Let an image server's alias name a version."""
        ...

    def an_hour_passes(self) -> None:
        """Let LXD's copies of the server's index grow old."""
        ...

    def behave(self, kind: str, fingerprint: str) -> None:
        """Tell the simulation what an image does."""
        ...

    def nothing_half_sent(self) -> None:
        """See that the store has no file that belongs to no image."""
        ...

    def pool(self, driver: str) -> str:
        """A storage pool of this driver: its name."""
        ...


class Site(Base, Protocol):
    """Shorthand for tests, on top of either."""

    def image(self, kind: str = "good", version: str = "1") -> str:
        """Send an image of a kind, unless it is there; its fingerprint."""
        image = image_of(kind, version)
        upload = ImageUpload(metadata=image.metadata, rootfs=[image.rootfs], filename=f"{kind}.tar")
        with contextlib.suppress(ImageExistsError):
            self.lxd.images.upload(upload)
        self.behave(kind, image.fingerprint)
        return image.fingerprint

    def create(
        self,
        name: str,
        written: InstanceSettings | None = None,
        *,
        kind: str = "good",
        start: bool = False,
    ) -> None:
        """Make an instance of a kind of image."""
        image = self.image(kind)
        new = NewInstance(name=name, image=image, settings=written or settings())
        self.lxd.instances.create(new)
        if start:
            self.lxd.power.start(name)

    def nic(self, **more: str) -> dict[str, str]:
        """A NIC like the default profile's, with more keys (``ipv4_address``)."""
        keys = {key.replace("_", "."): value for key, value in more.items()}
        return {"type": "nic", "network": self.network, "name": "eth0", **keys}

    def mac(self, name: str) -> str:
        """The MAC that LXD keeps for eth0."""
        return self.lxd.instances.get(name).config.get("volatile.eth0.hwaddr", "")


class SimulatedSite(Site):
    """The simulation."""

    def __init__(self) -> None:
        self.simulated = SimulatedLxd()
        self.lxd: Lxd = self.simulated
        self.network = "br0"
        self.prefix = "10.20.30."

    def now(self) -> float:
        return self.simulated.clock.monotonic()

    def eventually(self, look: Callable[[], Found], what: str) -> Found:
        for _ in range(100):
            if found := look():
                return found
            self.simulated.clock.advance(0.5)
        raise AssertionError(f"never: {what}")

    def snapshot(self, name: str, snapshot: str) -> None:
        self.simulated.snapshot(name, snapshot)

    def backup(self, name: str, backup: str) -> None:
        self.simulated.backup(name, backup)

    def remapped(self, name: str) -> bool:
        return len(self.simulated.box(name).remapped_as) == 1

    def restart(self) -> None:
        self.simulated.restart()

    def die_creating(self, name: str) -> None:
        self.simulated.log.faults[self.simulated.log.number + 2] = Fault.LXD_KILLED
        with contextlib.suppress(OperationGoneError):
            self.create(name)

    def publish(self, alias: str, version: str) -> UpdateSource:
        server = "https://images.example:8443"
        fingerprint = self.simulated.publish(server, alias, version)
        assert fingerprint == fingerprint_of(version)
        return UpdateSource(server=server, alias=alias)

    def an_hour_passes(self) -> None:
        self.simulated.clock.advance(3601)

    def behave(self, kind: str, fingerprint: str) -> None:
        self.simulated.behave(fingerprint, KINDS[kind][1])

    def nothing_half_sent(self) -> None:
        """It has none."""

    def pool(self, driver: str) -> str:
        if driver == "dir":
            return "default"
        self.lxd.pools.create(StoragePool(name=driver, driver=driver))
        return driver


class RealSite(Site):
    """A private daemon."""

    def __init__(self, private: PrivateLxd, server: ImageServer) -> None:
        self.private = private
        self.server = server
        self._published: set[str] = set()
        self.door: LxdDaemon = open_lxd(SocketPlace(socket=private.socket))
        self.lxd: Lxd = self.door
        self.network = private.network
        self.prefix = f"{private.subnet[0]}".rpartition(".")[0] + "."

    def now(self) -> float:
        return time.monotonic()

    def eventually(self, look: Callable[[], Found], what: str) -> Found:
        return eventually(look, timeout_seconds=20, what=what)

    def snapshot(self, name: str, snapshot: str) -> None:
        self.private.lxc("snapshot", name, snapshot)

    def backup(self, name: str, backup: str) -> None:
        body = {"name": backup, "compression_algorithm": "none"}
        self.private.query("POST", f"/1.0/instances/{name}/backups", body)

    def remapped(self, name: str) -> bool:
        root = Path(
            self.private.directory, "storage-pools", "default", "containers", name, "rootfs"
        )
        base = json.loads(self.lxd.instances.get(name).config["volatile.idmap.next"])[0]["Hostid"]
        owners = {path.lstat().st_uid for path in (root, root / "etc" / "passwd")}
        assert owners in ({0}, {base}), owners
        return owners == {base}

    def restart(self) -> None:
        self.private.restart()

    def die_creating(self, name: str) -> None:
        files = {f"data/{number}": b"x" * 5000 for number in range(5000)}
        image = lxd_image("large", files=files)
        self.lxd.images.upload(ImageUpload(metadata=image.metadata, rootfs=[image.rootfs]))
        new = NewInstance(name=name, image=image.fingerprint, settings=settings())

        def create() -> None:
            with contextlib.suppress(UnknownOutcomeError):
                self.lxd.instances.create(new)

        worker = threading.Thread(target=create)
        worker.start()
        while not self.lxd.instances.list():
            time.sleep(0.01)
        self.private.crash()
        worker.join(30)

    def publish(self, alias: str, version: str) -> UpdateSource:
        if alias not in self._published:
            self.an_hour_passes()
        self._published.add(alias)
        files = {"app": b"#!/bin/sh\n", "version": f"{alias} {version}".encode()}
        self.server.publish(alias, files=files, entrypoint=["/app"], image_format="gzip")
        certificate = self.server.authority.read_text()
        return UpdateSource(server=self.server.url, alias=alias, certificate=certificate)

    def an_hour_passes(self) -> None:
        self.server.forget_listings(self.private)

    def behave(self, kind: str, fingerprint: str) -> None:
        """The image itself tells."""

    def nothing_half_sent(self) -> None:
        held = {image.fingerprint for image in self.lxd.images.list(project="default")}

        def clean() -> bool:
            names = {
                path.name.partition(".")[0]
                for path in (self.private.directory / "images").iterdir()
            }
            return names <= held

        eventually(clean, timeout_seconds=10, what="LXD to drop what it had received")

    def pool(self, driver: str) -> str:
        if driver == "dir":
            return "default"
        if shutil.which(f"mkfs.{driver}") is None:
            pytest.skip(f"{driver}-progs isn't installed")
        self.lxd.pools.create(StoragePool(name=driver, driver=driver, config={"size": "512MiB"}))
        return driver

    def clean(self) -> None:
        """Remove all that a test made."""
        lxd = self.lxd
        for one in lxd.instances.list(project=None):
            if one.config.get("security.protection.delete"):
                lxd.instances.patch(
                    one.name, config={"security.protection.delete": ""}, project=one.project
                )
            if one.status != "Stopped":
                lxd.power.kill(one.name, project=one.project)
            if not one.ephemeral or one.status == "Stopped":
                lxd.instances.delete(one.name, project=one.project)
        for project in lxd.projects.list():
            name = project.name
            own = project.has_feature("images")
            for image in lxd.images.list(project=name) if own else ():
                lxd.images.delete(image.fingerprint, project=name)
            for pool in lxd.pools.list():
                for volume in lxd.volumes.list(pool.name, project=name):
                    lxd.volumes.delete(pool.name, volume.name, project=name)
            for profile in lxd.profiles.list(project=name):
                if profile.name != "default":
                    lxd.profiles.delete(profile.name, project=name)
            if name != "default":
                lxd.projects.delete(name)
        for pool in lxd.pools.list():
            if pool.name != "default":
                lxd.pools.delete(pool.name)
        default = lxd.profiles.get("default")
        if default.config:
            lxd.profiles.edit(replace(default, config={}))

    def hosts(self) -> dict[str, str]:
        """What LXD told its DHCP server, by file."""
        directory = Path(self.private.directory, "networks", self.network, "dnsmasq.hosts")
        return {path.name: path.read_text() for path in directory.iterdir()}
