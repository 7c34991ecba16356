"""What can be asked about instances; the rules of ``ports`` hold."""

from collections.abc import Iterator
from typing import Protocol

from lxdocker_lxd.lxd.calls import (
    Command,
    CommandResult,
    FileKind,
    GuestFile,
    NewInstance,
)
from lxdocker_lxd.lxd.records import (
    DEFAULT_PROJECT,
    Config,
    Devices,
    Instance,
    InstanceSettings,
    InstanceState,
    Snapshot,
)
from lxdocker_lxd.lxd.resources import Volume


class Instances(Protocol):
    """Instances as objects; what they do is :class:`Power`, what is inside them :class:`Guests`."""

    def list(self, *, project: str | None = DEFAULT_PROJECT) -> tuple[Instance, ...]:
        """All instances of a project, or of every project."""
        ...

    def get(self, name: str, *, project: str = DEFAULT_PROJECT) -> Instance:
        """One instance, with its ETag."""
        ...

    def create(self, new: NewInstance, *, project: str = DEFAULT_PROJECT) -> None:
        """Unpack an image into a new, stopped instance; a failure leaves none behind."""
        ...

    def replace(
        self,
        name: str,
        settings: InstanceSettings,
        *,
        etag: str = "",
        project: str = DEFAULT_PROJECT,
    ) -> None:
        """Write all settings (PUT).

        LXD keeps some volatile keys of its own, and draws a new ``hwaddr`` for each NIC that this
        write adds, even if one is given.
        """
        ...

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
        """Write some keys and leave the others (PATCH); an empty value removes a config key."""
        ...

    def rename(self, name: str, new_name: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Rename a stopped instance with its snapshots."""
        ...

    def delete(self, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Delete a stopped instance with its snapshots; tries again while LXD is busy with it."""
        ...

    def snapshots(self, name: str, *, project: str = DEFAULT_PROJECT) -> tuple[Snapshot, ...]:
        """An instance's snapshots, oldest first."""
        ...

    def backups(self, name: str, *, project: str = DEFAULT_PROJECT) -> tuple[str, ...]:
        """Names of the backups of an instance that LXD keeps; they go with it."""
        ...

    def root_volume(self, instance: Instance) -> Volume:
        """The volume that holds an instance's root, with its own settings and its ETag.

        AbsentError when the instance has no root disk.
        """
        ...

    def edit_root_volume(self, instance: Instance, volume: Volume) -> None:
        """Write description and config of the root's volume; conditional on ``volume.etag``.

        RefusedError for a setting that its pool doesn't know, or that can't be changed any more.
        """
        ...


class Power(Protocol):
    """What instances do. Asking for the state that already holds is WrongStateError."""

    def state(self, name: str, *, project: str = DEFAULT_PROJECT) -> InstanceState:
        """What the instance is doing now."""
        ...

    def start(self, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Start a stopped instance; StartFailedError leaves it stopped."""
        ...

    def stop(self, name: str, *, timeout_seconds: int = 30, project: str = DEFAULT_PROJECT) -> None:
        """Ask the guest to shut down; StopTimedOutError when it still runs after that time.

        An ephemeral instance is gone afterwards.
        """
        ...

    def kill(self, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Stop at once, without asking the guest. An ephemeral instance is gone afterwards."""
        ...

    def freeze(self, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Freeze a running instance."""
        ...

    def unfreeze(self, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Let a frozen instance go on."""
        ...


class Guests(Protocol):
    """What is inside an instance: commands, files, console."""

    def execute(
        self, name: str, command: Command, *, project: str = DEFAULT_PROJECT
    ) -> CommandResult:
        """Run a command in a running instance and wait; CommandTimedOutError after killing it.

        UnknownOutcomeError says that it ran or not, and LXD doesn't know how it ended.
        """
        ...

    def console_log(self, name: str, *, project: str = DEFAULT_PROJECT) -> bytes:
        """What is on the console and was not read before.

        Of a running instance LXD keeps a ring, and reading empties it; of a stopped one it keeps
        a file with the rest, over all starts.
        """
        ...

    def follow_console(
        self, name: str, *, project: str = DEFAULT_PROJECT, poll_seconds: float = 1.0
    ) -> Iterator[bytes]:
        """Yield what reaches the console, from what is there now until the instance stops.

        Yields ``b""`` when nothing came within ``poll_seconds``, so a caller can end.
        """
        ...

    def read_file(
        self,
        name: str,
        path: str,
        *,
        project: str = DEFAULT_PROJECT,
        most_bytes: int = 1 << 20,
    ) -> GuestFile:
        """A file, link or directory of a running or stopped instance.

        AbsentError when there is none, TooLongError when it is longer than ``most_bytes``.
        """
        ...

    def file_kind(self, name: str, path: str, *, project: str = DEFAULT_PROJECT) -> FileKind:
        """What is at a path; AbsentError when nothing is.

        What is neither a link nor a directory is a ``file``. Nothing is opened: LXD 5.0 hangs on
        reading a FIFO, and its instance can't be deleted then.
        """
        ...

    def write_file(
        self, name: str, path: str, file: GuestFile, *, project: str = DEFAULT_PROJECT
    ) -> None:
        """Write a file or link, or make a directory; its directory must exist."""
        ...

    def delete_file(self, name: str, path: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Remove a file or an empty directory."""
        ...
