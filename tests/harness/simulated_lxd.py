"""A LXD in memory, as the ports see one: the same contract tests run on it and on a real daemon.

Everything is deterministic; time stands still until somebody waits. Use::

    lxd = SimulatedLxd()                       # a pool "default", a bridge "br0", a default profile
    good = lxd.add_image("1", alias="web")     # returns its fingerprint
    bad = lxd.add_image("2", behaviour=EXITS_AT_ONCE)
    lxd.launch("web", good, config={...})      # what a user did before; not counted as calls
    lxd.instances, lxd.power, lxd.images, ...  # the ports, see lxdocker_lxd.lxd.ports

**Calls** (``lxd.log``, a CallLog): ``number`` counts, ``calls`` keeps them; ``before`` and ``after``
are hooks that see each call (number, name as ``power.start``, subject, writes). ``faults[n]`` spoils
the n-th call: see ``Fault`` (killed before, after or while LXD goes on; lost request or answer; busy;
LXD restarted, killed half-way, down). A kill raises ``KilledError``, a BaseException.
``restart_count()`` counts from one again.
**A user meanwhile**: ``lxd.user`` has the same ports on the same world, uncounted and unspoilt: use
it in hooks and checks. ``lxd.snapshot(name, snapshot)`` makes a snapshot,
``lxd.backup(name, backup)`` a backup that LXD keeps.
**Volumes** hold files: a running instance's guest reads and writes them below the device's path,
``Behaviour.writes`` does so at each start, ``volume_files(name)`` tells what a volume holds.
**Time**: ``lxd.clock()`` is now, ``lxd.clock.advance(seconds)`` lets it pass, ``lxd.sleep`` is the
same for code that pauses; a container whose image says so ends on the way, with its event.
**Images' behaviour**: ``Behaviour`` and GOOD, EXITS_AT_ONCE, REFUSES_TO_START, NEVER_HEALTHY,
``crashes_after(seconds)``; the command ``/bin/health`` answers by ``Behaviour.health``, anything
by ``Behaviour.answer``. ``lxd.behave(fingerprint, behaviour)`` sets it later, for new instances.
**Image servers**: ``publish(server, alias, version)`` returns the fingerprint; ``images.pull``,
``images.refresh`` see it after LXD's hour of cache; ``auto_update()`` and ``prune()`` are LXD's own
tasks; ``server_down(server)`` until ``server_up``.
**LXD itself**: ``restart()``, ``go_down()``, ``come_up()``; ``finish()`` ends what LXD still works on.
``events.lose()`` breaks listeners' connections, ``events.go_silent()`` kills them silently,
``events.drop_next = n`` drops events. ``set_members("n1", "n2")`` makes a cluster,
``set_member_status``; ``add_operation`` shows work in the background; ``lxd.store`` is all there is.
"""

import hashlib
from dataclasses import replace

from lxdocker_lxd.lxd.calls import NewInstance
from lxdocker_lxd.lxd.records import (
    DEFAULT_PROJECT,
    Config,
    Devices,
    Image,
    InstanceSettings,
    Snapshot,
)
from lxdocker_lxd.lxd.resources import Network, Profile, Project, StoragePool
from lxdocker_lxd.lxd.server_records import Member, Operation
from tests.harness.simulated.call_log import Call, CallLog, Fault, KilledError
from tests.harness.simulated.clock import SimulatedClock
from tests.harness.simulated.events import SimulatedEvents
from tests.harness.simulated.guest import (
    EXITS_AT_ONCE,
    GOOD,
    NEVER_HEALTHY,
    REFUSES_TO_START,
    Behaviour,
    crashes_after,
)
from tests.harness.simulated.guests import SimulatedGuests
from tests.harness.simulated.image_server import ImageServers
from tests.harness.simulated.images import SimulatedAliases, SimulatedImages
from tests.harness.simulated.instances import SimulatedInstances
from tests.harness.simulated.power import SimulatedPower
from tests.harness.simulated.projects import SimulatedProfiles, SimulatedProjects
from tests.harness.simulated.resources import SimulatedNetworks, SimulatedPools
from tests.harness.simulated.server import SimulatedServer
from tests.harness.simulated.store import Box, Published, Store
from tests.harness.simulated.supervised import Supervised
from tests.harness.simulated.volumes import SimulatedVolumes

__all__ = [
    "EXITS_AT_ONCE",
    "GOOD",
    "NEVER_HEALTHY",
    "REFUSES_TO_START",
    "Behaviour",
    "Box",
    "Call",
    "Fault",
    "KilledError",
    "SimulatedClock",
    "SimulatedLxd",
    "Supervised",
    "crashes_after",
]

DEFAULT_DEVICES = {
    "root": {"type": "disk", "path": "/", "pool": "default"},
    "eth0": {"type": "nic", "network": "br0", "name": "eth0"},
}


class Ports:
    """All ports over one store, through one log of calls."""

    def __init__(self, store: Store, *, extensions: frozenset[str] = frozenset()) -> None:
        self.store = store
        self.log = CallLog(store)
        self.server = SimulatedServer(store, self.log, extensions=extensions)
        self.images = SimulatedImages(store, self.log)
        self.aliases = SimulatedAliases(store, self.log)
        self.instances = SimulatedInstances(store, self.log)
        self.power = SimulatedPower(store, self.log)
        self.guests = SimulatedGuests(store, self.log)
        self.volumes = SimulatedVolumes(store, self.log)
        self.pools = SimulatedPools(store, self.log)
        self.networks = SimulatedNetworks(store, self.log)
        self.profiles = SimulatedProfiles(store, self.log)
        self.projects = SimulatedProjects(store, self.log)
        self.events = SimulatedEvents(store, self.log)


class SimulatedLxd(Ports):
    """Implements ``Lxd``; see the module's words for what a test can do with it."""

    def __init__(
        self,
        *,
        clock: SimulatedClock | None = None,
        devices: Devices | None = None,
        extensions: frozenset[str] = frozenset(),
    ) -> None:
        self.clock = clock or SimulatedClock()
        super().__init__(Store(self.clock), extensions=extensions)
        store = self.store
        store.projects[DEFAULT_PROJECT] = Project(name=DEFAULT_PROJECT)
        store.pools["default"] = StoragePool(name="default", driver="dir")
        store.pool_bytes["default"] = 1 << 40
        store.networks[DEFAULT_PROJECT, "br0"] = Network(
            name="br0",
            project=DEFAULT_PROJECT,
            type="bridge",
            managed=True,
            status="Created",
            config={"ipv4.address": "10.20.30.1/24", "ipv6.address": "none"},
        )
        own = DEFAULT_DEVICES if devices is None else devices
        store.profiles[DEFAULT_PROJECT, "default"] = Profile(
            name="default", project=DEFAULT_PROJECT, devices=own
        )
        self.user = Ports(store)
        self.user.log.keeps_calls = False
        store.on_event = self.events.tell
        store.on_restart = self.events.lose
        self.user.events = self.events
        self._servers = ImageServers(store)
        self._unreachable: set[str] = set()
        store.reachable = lambda server: server not in self._unreachable
        self.sleep = self.clock.advance

    # ---- images and instances

    def add_image(
        self,
        version: str,
        *,
        alias: str = "",
        behaviour: Behaviour = GOOD,
        properties: Config | None = None,
        project: str = DEFAULT_PROJECT,
        kind: str = "container",
    ) -> str:
        """Put an image into the store; its fingerprint follows from ``version``."""
        fingerprint = fingerprint_of(version)
        self.behave(fingerprint, behaviour)
        self.store.images[project, fingerprint] = Image(
            fingerprint=fingerprint,
            project=project,
            type=kind,
            architecture="x86_64",
            size_bytes=behaviour.size_bytes,
            properties={"version": version, **(properties or {})},
            profiles=("default",),
            uploaded_at=self.clock(),
            created_at=self.clock(),
        )
        if alias:
            self.store.aliases[project, alias] = (fingerprint, "")
        return fingerprint

    def behave(self, fingerprint: str, behaviour: Behaviour) -> None:
        """Say what instances made of an image from now on do."""
        self.store.behaviours[fingerprint] = behaviour
        if behaviour.supervised is not None:
            self.store.image_files[fingerprint] = behaviour.supervised.files()

    def launch(
        self,
        name: str,
        image: str,
        *,
        config: Config | None = None,
        devices: Devices | None = None,
        profiles: tuple[str, ...] = ("default",),
        project: str = DEFAULT_PROJECT,
        ephemeral: bool = False,
        kind: str = "container",
        target: str = "",
        start: bool = True,
    ) -> Box:
        """Create an instance of a fingerprint and start it, as a user."""
        settings = InstanceSettings(
            architecture="x86_64",
            config=config or {},
            devices=devices or {},
            profiles=profiles,
            ephemeral=ephemeral,
        )
        new = NewInstance(name=name, image=image, settings=settings, type=kind, target=target)
        self.user.instances.create(new, project=project)
        if start:
            self.user.power.start(name, project=project)
        return self.store.boxes[project, name]

    def box(self, name: str, project: str = DEFAULT_PROJECT) -> Box:
        """An instance's own state."""
        return self.store.box(name, project)

    def snapshot(self, name: str, snapshot: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Make a snapshot, as a user."""
        box = self.store.box(name, project)
        box.snapshots.append(Snapshot(instance=name, name=snapshot, created_at=self.clock()))
        self.store.emit(
            *("instance-snapshot-created", "instance", name, project),
            location=box.location,
            detail=snapshot,
        )

    def volume_files(
        self, name: str, *, pool: str = "default", project: str = DEFAULT_PROJECT
    ) -> dict[str, bytes]:
        """What a custom volume holds: contents by the paths inside it."""
        content = self.store.contents[project, pool, name]
        return {path: file.content for path, file in content.files.items() if file.kind == "file"}

    def backup(self, name: str, backup: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Make a backup that LXD keeps, as a user."""
        box = self.store.box(name, project)
        box.backups.append(backup)
        self.store.emit(
            *("instance-backup-created", "instance", name, project),
            location=box.location,
            detail=backup,
        )

    # ---- image servers

    def publish(
        self,
        server: str,
        alias: str,
        version: str,
        *,
        behaviour: Behaviour = GOOD,
        properties: Config | None = None,
        kind: str = "container",
    ) -> str:
        """Let an image server's alias name a version; returns its fingerprint."""
        fingerprint = fingerprint_of(version)
        self.behave(fingerprint, behaviour)
        self.store.servers.setdefault(server, {})[alias, kind] = Published(
            fingerprint=fingerprint,
            properties={"serial": version, **(properties or {})},
            type=kind,
            size_bytes=behaviour.size_bytes,
        )
        return fingerprint

    def server_down(self, server: str) -> None:
        """Let an image server not answer."""
        self._unreachable.add(server)

    def server_up(self, server: str) -> None:
        """Let it answer again."""
        self._unreachable.discard(server)

    def auto_update(self) -> None:
        """LXD's background refresh of all images."""
        self._servers.update_all()

    def prune(self) -> None:
        """LXD's removal of cached images nobody used for long."""
        self._servers.prune()

    # ---- the daemon

    def restart(self) -> None:
        """Restart the daemon; instances live on."""
        self.store.restarted()
        self.store.down = False

    def go_down(self) -> None:
        """End the daemon: every call is NotRunningError."""
        self.store.go_down()

    def come_up(self) -> None:
        """Start it again."""
        self.store.down = False

    def finish(self) -> None:
        """End at once what LXD still works on for callers that have gone."""
        self.store.finish()

    def set_members(self, *names: str) -> None:
        """Make it a cluster; new instances go to the first member or to their target."""
        self.store.members = {
            name: Member(name=name, url=f"https://{name}:8443", status="Online") for name in names
        }

    def set_member_status(self, name: str, status: str) -> None:
        """``Online``, ``Offline``, ``Evacuated``…"""
        self.store.members[name] = replace(self.store.members[name], status=status)

    def add_operation(
        self, description: str, *resources: str, project: str = DEFAULT_PROJECT
    ) -> str:
        """Show work in the background, as a running ``lxc exec``; returns its id."""
        name = self.store.draw_id()
        self.store.operations[name] = Operation(
            id=name,
            description=description,
            status="Running",
            project=project,
            location="none",
            may_cancel=False,
            resources=resources,
            created_at=self.clock(),
        )
        return name

    def end_operations(self) -> None:
        """End all work in the background."""
        self.store.operations.clear()


def fingerprint_of(version: str) -> str:
    """The fingerprint that a version's image has here."""
    return hashlib.sha256(version.encode()).hexdigest()
