"""Starting and stopping in the simulated LXD: the port ``Power``."""

from collections.abc import Callable
from dataclasses import replace

from lxdocker_lxd.lxd.calls import GuestFile
from lxdocker_lxd.lxd.failures import StartFailedError, StopTimedOutError, WrongStateError
from lxdocker_lxd.lxd.records import DEFAULT_PROJECT, Address, InstanceState
from tests.harness.simulated.call_log import CallLog
from tests.harness.simulated.mounts import Mounts, mounted
from tests.harness.simulated.nics import Nics
from tests.harness.simulated.store import Box, Store

ON_DISK, WANTED = "volatile.last_state.idmap", "volatile.idmap.next"
# What the host has of devices.
HOST_FILES = {"/dev/null", "/dev/zero"}


class SimulatedPower:
    """Implements the port ``Power``."""

    def __init__(self, store: Store, log: CallLog) -> None:
        self._store = store
        self._log = log
        self._nics = Nics(store)

    def state(self, name: str, *, project: str = DEFAULT_PROJECT) -> InstanceState:
        return self._log.made("power.state", name, lambda: self._state(name, project))

    def _state(self, name: str, project: str) -> InstanceState:
        box = self._store.box(name, project)
        if not box.runs:
            return InstanceState(status=box.status, process_id=0, processes=0, memory_bytes=0)
        found = self._nics.addresses(box)
        addresses = tuple(
            Address(interface=nic, family="inet", address=address, netmask="24", scope="global")
            for nic, (_, address) in found.items()
            if address
        )
        return InstanceState(
            status=box.status,
            process_id=4242,
            processes=1,
            memory_bytes=1 << 20,
            addresses=addresses,
            hardware_addresses={nic: mac for nic, (mac, _) in found.items()},
        )

    def start(self, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        def half() -> None:
            box = self._store.box(name, project)
            if not box.runs and self._unmapped(box):
                box.half_remapped = True

        self._change("start", name, project, self._start, half=half)

    def _unmapped(self, box: Box) -> bool:
        config = self._store.expanded_config(box.project, box.settings)
        return box.type == "container" and config.get(ON_DISK) != config.get(WANTED)

    def _remap(self, box: Box) -> None:
        """Rewrite the owners of all files: the first thing of a first start."""
        config = self._store.expanded_config(box.project, box.settings)
        if config.get("security.protection.shift") == "true":
            raise StartFailedError(
                f"could not start {box.name}: Container is protected against filesystem shifting"
            )
        behaviour = box.guest.behaviour
        self._store.clock.advance(behaviour.remap_seconds)
        if not behaviour.remaps:
            box.half_remapped = True
            raise StartFailedError(f"could not start {box.name}: Failed to remap")
        # A second time over files that the first didn't come to the end of: nobody gets them right.
        box.whole = box.whole and not box.half_remapped
        box.remapped_as.append(box.name)
        own = dict(box.settings.config)
        own["volatile.idmap.current"] = own[ON_DISK] = config[WANTED]
        box.settings = replace(box.settings, config=own)

    def _missing_device(self, box: Box) -> str:
        devices = self._store.expanded_devices(box.project, box.settings)
        for name, device in devices.items():
            absent = device.get("source", "") not in HOST_FILES
            required = device.get("required", "true") == "true"
            if device.get("type") == "unix-char" and required and absent:
                return name
        return ""

    def _end_file_server(self, box: Box) -> None:
        """End it at once; one that LXD doesn't find below the new name is waited for."""
        if box.files_until is not None and box.files_lost:
            left = (box.files_until - self._store.clock()).total_seconds()
            self._store.clock.advance(max(left, 0.0))
        box.files_until, box.files_lost = None, False

    def _start(self, box: Box) -> None:
        if box.runs:
            raise WrongStateError(f"could not start {box.name}: The instance is already running")
        self._end_file_server(box)
        if self._unmapped(box):
            self._remap(box)
        self._nics.check_all(box)
        if device := self._missing_device(box):
            raise StartFailedError(
                f'could not start {box.name}: Failed to start device "{device}": The required device'
                " path doesn't exist and the major and minor settings are not specified",
                hint="log",
            )
        missing = self._store.missing_volume(box.project, box.settings)
        if missing:
            raise StartFailedError(
                f"could not start {box.name}: Storage volume {missing} not found"
            )
        self._nics.completed(box)
        if not box.guest.behaviour.starts or not box.whole:
            raise StartFailedError(
                f"could not start {box.name}: Failed to run: forkstart", hint="log"
            )
        now = self._store.clock()
        box.status, box.started_at, box.last_used_at = "Running", now, now
        config = dict(box.settings.config)
        config.pop("volatile.apply_template", None)
        config["volatile.last_state.power"] = "RUNNING"
        for nic in box.hosts:
            config[f"volatile.{nic}.host_name"] = (
                f"veth{config.get(f'volatile.{nic}.hwaddr', nic)[-5:]}"
            )
        box.settings = replace(box.settings, config=config)
        box.guest.console += box.guest.behaviour.console
        for path in mounted(self._store, box):
            # LXD makes what a disk is mounted over, and leaves it there.
            box.guest.files.setdefault(path, GuestFile(kind="directory", mode=0o755))
        files = Mounts(self._store, box)
        for path, content in box.guest.behaviour.writes.items():
            files[path] = GuestFile(content=content)
        self._store.emit_of("instance-started", box)
        self._store.settle("")

    def stop(self, name: str, *, timeout_seconds: int = 30, project: str = DEFAULT_PROJECT) -> None:
        def stop(box: Box) -> None:
            self._must_run(box, "stop")
            behaviour = box.guest.behaviour
            if not behaviour.stops or behaviour.stop_seconds > timeout_seconds:
                self._store.clock.advance(timeout_seconds)
                raise StopTimedOutError(
                    f"could not stop {name}: Failed shutting down instance", hint="force it"
                )
            self._store.clock.advance(behaviour.stop_seconds)
            if box.runs:
                self._store.stopped(box, "instance-shutdown")

        self._change("stop", name, project, stop)

    def kill(self, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        def kill(box: Box) -> None:
            self._must_run(box, "kill")
            self._store.stopped(box, "instance-stopped")

        self._change("kill", name, project, kill)

    def freeze(self, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        def freeze(box: Box) -> None:
            if box.status == "Frozen":
                raise WrongStateError(f"could not freeze {name}: The instance is already frozen")
            self._must_run(box, "freeze")
            box.status = "Frozen"
            self._store.emit_of("instance-paused", box)

        self._change("freeze", name, project, freeze)

    def unfreeze(self, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        def unfreeze(box: Box) -> None:
            if box.status != "Frozen":
                raise WrongStateError(f"could not unfreeze {name}: it isn't frozen")
            box.status = "Running"
            self._store.emit_of("instance-resumed", box)

        self._change("unfreeze", name, project, unfreeze)

    def _must_run(self, box: Box, action: str) -> None:
        if not box.runs:
            raise WrongStateError(f"could not {action} {box.name}: The instance is already stopped")

    def _change(
        self,
        action: str,
        name: str,
        project: str,
        act: Callable[[Box], None],
        *,
        half: Callable[[], None] | None = None,
    ) -> None:
        def change() -> None:
            act(self._store.box(name, project))

        self._log.made(f"power.{action}", name, change, writes=True, half=half)
