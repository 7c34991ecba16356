"""What can be asked about the daemon, and its events; the rules of ``ports`` hold."""

from types import TracebackType
from typing import Protocol, Self

from lxdocker_lxd.lxd.records import (
    Config,
)
from lxdocker_lxd.lxd.server_records import (
    LifecycleEvent,
    Member,
    Operation,
    Permission,
    ServerInfo,
)


class Server(Protocol):
    """The daemon itself."""

    def info(self) -> ServerInfo:
        """Ask what the daemon is and how it is set."""
        ...

    def configure(self, changes: Config, *, etag: str = "") -> None:
        """Set server keys; an empty value takes a key back to its default."""
        ...

    def members(self) -> tuple[Member, ...]:
        """The cluster's members; empty outside a cluster."""
        ...

    def operations(self, *, project: str | None = None) -> tuple[Operation, ...]:
        """What runs in the background now, and what ended up to five seconds ago."""
        ...

    def permissions(self) -> tuple[Permission, ...]:
        """What groups of identities may do; none with a LXD that knows no groups (before 5.21)."""
        ...

    def cancel(self, operation_id: str) -> None:
        """Ask an operation to stop; nothing when it has ended."""
        ...


class EventStream(Protocol):
    """One connection to LXD's events, from its opening on; nothing is replayed.

    Use as a context manager. Safe to close from another thread.
    """

    def take(self, timeout_seconds: float) -> LifecycleEvent | None:
        """The next event, or None when none came in that time.

        EventsLostError when the connection has ended, silently died (LXD's pings stayed out) or
        more events waited than fit: then events were missed. Reconcile and subscribe again.
        """
        ...

    def close(self) -> None:
        """End the connection; a waiting ``take`` raises EventsLostError."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class Events(Protocol):
    """Lifecycle events of all projects and members."""

    def subscribe(self) -> EventStream:
        """Connect; what happens from now on arrives. Reconcile after this, never before."""
        ...
