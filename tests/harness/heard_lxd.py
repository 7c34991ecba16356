"""A LXD with somebody listening: each change that is asked of it is also told as the adapter's request.

Made for comparing what was announced with what was done. Only the ports that an update writes to are
listened to.
"""

from collections.abc import Callable
from typing import Any

from lxdocker_lxd.lxd import image_requests, instance_requests
from lxdocker_lxd.lxd.calls import Command, CommandResult, NewInstance
from lxdocker_lxd.lxd.failures import AbsentError
from lxdocker_lxd.lxd.records import Config, Devices, Instance, InstanceSettings, UpdateSource
from lxdocker_lxd.lxd.rehearsed import OnRequest
from lxdocker_lxd.lxd.request import Request
from tests.harness.simulated_lxd import SimulatedLxd


class HeardLxd:
    """Implements ``Lxd`` over a simulated one."""

    def __init__(self, lxd: SimulatedLxd, on_request: OnRequest) -> None:
        self.lxd = lxd
        self._tell = on_request
        self.instances = _Instances(self)
        self.power = _Power(self)
        self.guests = _Guests(self)
        self.images = _Images(self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.lxd, name)

    def look(self, name: str, project: str) -> Instance | None:
        try:
            return self.lxd.user.instances.get(name, project=project)
        except AbsentError:
            return None

    def heard(
        self, request: Request, names: tuple[str, str], project: str, act: Callable[[], object]
    ) -> Any:
        """Do it, and tell of it with the instance as it was and is."""
        before = self.look(names[0], project)
        try:
            return act()
        finally:
            self._tell(request, before, self.look(names[1], project))


class _Instances:
    def __init__(self, heard: HeardLxd) -> None:
        self._heard = heard

    def __getattr__(self, name: str) -> Any:
        return getattr(self._heard.lxd.instances, name)

    def create(self, new: NewInstance, *, project: str) -> None:
        request = instance_requests.creating(new, project)
        real = self._heard.lxd.instances
        names = (new.name, new.name)
        self._heard.heard(request, names, project, lambda: real.create(new, project=project))

    def replace(self, name: str, settings: InstanceSettings, *, etag: str, project: str) -> None:
        request = instance_requests.replacing(name, settings, project, etag=etag)
        real = self._heard.lxd.instances
        self._heard.heard(
            request,
            (name, name),
            project,
            lambda: real.replace(name, settings, etag=etag, project=project),
        )

    def patch(
        self, name: str, *, config: Config | None, etag: str, project: str, **others: Devices
    ) -> None:
        assert not others
        request = instance_requests.patching(
            name, project, config=config, devices=None, ephemeral=None, etag=etag
        )
        real = self._heard.lxd.instances
        self._heard.heard(
            request,
            (name, name),
            project,
            lambda: real.patch(name, config=config, etag=etag, project=project),
        )

    def rename(self, name: str, new_name: str, *, project: str) -> None:
        request = instance_requests.renaming(name, new_name, project)
        real = self._heard.lxd.instances
        self._heard.heard(
            request,
            (name, new_name),
            project,
            lambda: real.rename(name, new_name, project=project),
        )

    def delete(self, name: str, *, project: str) -> None:
        request = instance_requests.deleting(name, project)
        real = self._heard.lxd.instances
        self._heard.heard(
            request, (name, name), project, lambda: real.delete(name, project=project)
        )


class _Power:
    def __init__(self, heard: HeardLxd) -> None:
        self._heard = heard

    def __getattr__(self, name: str) -> Any:
        return getattr(self._heard.lxd.power, name)

    def start(self, name: str, *, project: str) -> None:
        request = instance_requests.changing_power("start", name, project)
        real = self._heard.lxd.power
        self._heard.heard(request, (name, name), project, lambda: real.start(name, project=project))

    def stop(self, name: str, *, timeout_seconds: int = 30, project: str) -> None:
        request = instance_requests.changing_power(
            "stop", name, project, timeout_seconds=timeout_seconds
        )
        real = self._heard.lxd.power
        self._heard.heard(
            request,
            (name, name),
            project,
            lambda: real.stop(name, timeout_seconds=timeout_seconds, project=project),
        )

    def kill(self, name: str, *, project: str) -> None:
        request = instance_requests.changing_power("stop", name, project, force=True)
        real = self._heard.lxd.power
        self._heard.heard(request, (name, name), project, lambda: real.kill(name, project=project))


class _Guests:
    def __init__(self, heard: HeardLxd) -> None:
        self._heard = heard

    def __getattr__(self, name: str) -> Any:
        return getattr(self._heard.lxd.guests, name)

    def execute(self, name: str, command: Command, *, project: str) -> CommandResult:
        request = instance_requests.executing(name, command, project)
        real = self._heard.lxd.guests
        found = self._heard.heard(
            request, (name, name), project, lambda: real.execute(name, command, project=project)
        )
        assert isinstance(found, CommandResult)
        return found


class _Images:
    def __init__(self, heard: HeardLxd) -> None:
        self._heard = heard

    def __getattr__(self, name: str) -> Any:
        return getattr(self._heard.lxd.images, name)

    def pull(self, source: UpdateSource, *, project: str) -> str:
        request = image_requests.pulling(source, project, auto_update=True, public=False)
        real = self._heard.lxd.images
        found = self._heard.heard(
            request, ("", ""), project, lambda: real.pull(source, project=project)
        )
        return str(found)

    def refresh(self, fingerprint: str, *, project: str) -> str:
        request = image_requests.refreshing(fingerprint, project)
        real = self._heard.lxd.images
        found = self._heard.heard(
            request, ("", ""), project, lambda: real.refresh(fingerprint, project=project)
        )
        return str(found)
