"""A whole LXD that only pretends: instances as in ``rehearsed``, images fetched by name, commands run.

Snapshots of volumes are noted too (``rehearsed_volumes``). What is about anything else goes to the real
one and is only to be read.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

from lxdocker_lxd.lxd import image_requests, instance_requests
from lxdocker_lxd.lxd.calls import (
    Command,
    CommandResult,
    FileKind,
    GuestFile,
    ImageUpload,
    ProjectImage,
)
from lxdocker_lxd.lxd.ports import Lxd, OnTransfer
from lxdocker_lxd.lxd.records import DEFAULT_PROJECT, Config, Image, UpdateSource
from lxdocker_lxd.lxd.rehearsed import (
    OnRequest,
    Picture,
    RehearsedInstances,
    RehearsedPower,
    not_rehearsed,
)
from lxdocker_lxd.lxd.rehearsed_volumes import RehearsedVolumes
from lxdocker_lxd.lxd.server_records import Member, Operation, Permission, ServerInfo
from lxdocker_lxd.lxd.server_requests import configuring


class RehearsedImages:
    """Implements the port :class:`Images`: what is there is what stays there."""

    def __init__(self, lxd: Lxd, on_request: OnRequest) -> None:
        self._lxd = lxd
        self._tell = on_request
        self._deleted: set[tuple[str, str]] = set()

    def list(self, *, project: str = DEFAULT_PROJECT) -> tuple[Image, ...]:
        """All images the project would see."""
        found = self._lxd.images.list(project=project)
        return tuple(one for one in found if (project, one.fingerprint) not in self._deleted)

    def get(self, fingerprint: str, *, project: str = DEFAULT_PROJECT) -> Image:
        """One image."""
        return self._lxd.images.get(fingerprint, project=project)

    def pull(
        self,
        source: UpdateSource,
        *,
        project: str = DEFAULT_PROJECT,
        auto_update: bool = True,
        public: bool = False,
        on_transfer: OnTransfer | None = None,
    ) -> str:
        """Note the request; what would come isn't known: its fingerprint is empty."""
        del on_transfer
        request = image_requests.pulling(source, project, auto_update=auto_update, public=public)
        self._tell(request, None, None)
        return ""

    def refresh(self, fingerprint: str, *, project: str = DEFAULT_PROJECT) -> str:
        """Note the request; what would come isn't known, so it is the same."""
        self._tell(image_requests.refreshing(fingerprint, project), None, None)
        return fingerprint

    def upload(
        self,
        upload: ImageUpload,
        *,
        project: str = DEFAULT_PROJECT,
        target: str = "",
        on_transfer: OnTransfer | None = None,
    ) -> str:
        """Raise RefusedError: no update uploads."""
        del upload, target, on_transfer
        raise not_rehearsed(f"send an image to project {project}")

    def copy(self, source: ProjectImage, *, project: str) -> str:
        """Raise RefusedError: no update copies."""
        raise not_rehearsed(f"copy the image {source.fingerprint[:12]} to project {project}")

    def edit(self, image: Image, *, project: str = DEFAULT_PROJECT) -> None:
        """Raise RefusedError: no update edits an image."""
        raise not_rehearsed(f"edit the image {image.fingerprint[:12]} of project {project}")

    def delete(self, fingerprint: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Note the request, and let the image be gone."""
        self._deleted.add((project, fingerprint))
        self._tell(image_requests.deleting(fingerprint, project), None, None)


class RehearsedGuests:
    """Implements the port :class:`Guests`: every command ends well."""

    def __init__(self, lxd: Lxd, picture: Picture) -> None:
        self._lxd = lxd
        self._picture = picture

    def execute(
        self, name: str, command: Command, *, project: str = DEFAULT_PROJECT
    ) -> CommandResult:
        """Note the request; the command would end well."""
        instance = self._picture.get(name, project)
        self._picture.tell(instance_requests.executing(name, command, project), instance, instance)
        return CommandResult(exit_code=0, stdout=b"", stderr=b"")

    def console_log(self, name: str, *, project: str = DEFAULT_PROJECT) -> bytes:
        """Return nothing: reading empties it."""
        del name, project
        return b""

    def follow_console(
        self, name: str, *, project: str = DEFAULT_PROJECT, poll_seconds: float = 1.0
    ) -> Iterator[bytes]:
        """Yield nothing: reading empties it."""
        del name, project, poll_seconds
        yield from ()

    def read_file(
        self,
        name: str,
        path: str,
        *,
        project: str = DEFAULT_PROJECT,
        most_bytes: int = 1 << 20,
    ) -> GuestFile:
        """A file of an instance that has its own root; RefusedError for another."""
        if not self._picture.has_its_root(project, name):
            raise not_rehearsed(f"read {path} in {name} of project {project}")
        return self._lxd.guests.read_file(name, path, project=project, most_bytes=most_bytes)

    def file_kind(self, name: str, path: str, *, project: str = DEFAULT_PROJECT) -> FileKind:
        """What is at a path of an instance that has its own root; RefusedError for another."""
        if not self._picture.has_its_root(project, name):
            raise not_rehearsed(f"look at {path} in {name} of project {project}")
        return self._lxd.guests.file_kind(name, path, project=project)

    def write_file(
        self, name: str, path: str, file: GuestFile, *, project: str = DEFAULT_PROJECT
    ) -> None:
        """Raise RefusedError: no update writes files."""
        del file
        raise not_rehearsed(f"write {path} in {name} of project {project}")

    def delete_file(self, name: str, path: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Raise RefusedError: no update removes files."""
        raise not_rehearsed(f"remove {path} in {name} of project {project}")


class RehearsedServer:
    """Implements the port :class:`Server`: keys are set in a picture."""

    def __init__(self, lxd: Lxd, on_request: OnRequest) -> None:
        self._lxd = lxd
        self._tell = on_request
        self._config: dict[str, str] = {}

    def info(self) -> ServerInfo:
        """What the daemon would be."""
        info = self._lxd.server.info()
        config = {**info.config, **self._config}
        return replace(info, config={key: value for key, value in config.items() if value})

    def configure(self, changes: Config, *, etag: str = "") -> None:
        """Note the request, and let the keys be set."""
        self._config |= changes
        self._tell(configuring(changes, etag=etag), None, None)

    def members(self) -> tuple[Member, ...]:
        """The cluster's members."""
        return self._lxd.server.members()

    def operations(self, *, project: str | None = None) -> tuple[Operation, ...]:
        """What runs in the background now."""
        return self._lxd.server.operations(project=project)

    def permissions(self) -> tuple[Permission, ...]:
        """What groups of identities may do."""
        return self._lxd.server.permissions()

    def cancel(self, operation_id: str) -> None:
        """Raise RefusedError: no update cancels."""
        raise not_rehearsed(f"cancel the operation {operation_id}")


class RehearsedLxd:
    """Implements :class:`Lxd`; ``on_request`` hears of all that would be sent."""

    def __init__(
        self,
        lxd: Lxd,
        on_request: OnRequest,
        *,
        missing: frozenset[str] = frozenset(),
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        picture = Picture(lxd, on_request, missing=missing, clock=clock)
        self.instances = RehearsedInstances(picture)
        self.power = RehearsedPower(picture)
        self.guests = RehearsedGuests(lxd, picture)
        self.images = RehearsedImages(lxd, on_request)
        self.server = RehearsedServer(lxd, on_request)
        self.aliases = lxd.aliases
        self.volumes = RehearsedVolumes(lxd, on_request)
        self.pools = lxd.pools
        self.networks = lxd.networks
        self.profiles = lxd.profiles
        self.projects = lxd.projects
        self.events = lxd.events
