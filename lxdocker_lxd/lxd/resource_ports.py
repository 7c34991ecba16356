"""What can be asked about what instances use; the rules of ``ports`` hold."""

from collections.abc import Mapping
from typing import Protocol

from lxdocker_lxd.lxd.records import (
    DEFAULT_PROJECT,
)
from lxdocker_lxd.lxd.resources import (
    Lease,
    Network,
    PoolSpace,
    Profile,
    Project,
    StoragePool,
    Usage,
    Volume,
    VolumeSnapshot,
)


class Volumes(Protocol):
    """Custom storage volumes with files in them."""

    def list(self, pool: str, *, project: str = DEFAULT_PROJECT) -> tuple[Volume, ...]:
        """All custom volumes of a pool that the project sees."""
        ...

    def get(
        self, pool: str, name: str, *, project: str = DEFAULT_PROJECT, target: str = ""
    ) -> Volume:
        """One volume (on that member), with its ETag."""
        ...

    def create(self, volume: Volume, *, target: str = "") -> None:
        """Make an empty volume from its pool, name, project, description and config."""
        ...

    def edit(self, volume: Volume) -> None:
        """Write description and config; conditional on ``volume.etag``."""
        ...

    def delete(self, pool: str, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Delete a volume with its content and snapshots; InUseError while something has it."""
        ...

    # ``target`` is the cluster member that has the volume; each may have one of the same name.

    def snapshots(
        self, pool: str, name: str, *, project: str = DEFAULT_PROJECT, target: str = ""
    ) -> tuple[VolumeSnapshot, ...]:
        """A volume's snapshots, the oldest first."""
        ...

    def create_snapshot(
        self,
        pool: str,
        name: str,
        snapshot: str,
        *,
        project: str = DEFAULT_PROJECT,
        target: str = "",
    ) -> None:
        """Make a snapshot that never expires; NameTakenError when the volume has one of that name.

        Instances that use the volume may run: then it is what a power failure would leave. What it
        costs depends on the pool's driver, see ``storage_drivers``.
        """
        ...

    def restore_snapshot(
        self,
        pool: str,
        name: str,
        snapshot: str,
        *,
        project: str = DEFAULT_PROJECT,
        target: str = "",
    ) -> None:
        """Give a volume the content of its snapshot; the snapshot stays, and so does the config.

        Raises InUseError, with nothing changed, while an instance that uses the volume runs or is
        frozen, and WrongStateError when the pool's driver can't for newer snapshots. If it ends for
        any other reason, the content may be a mixture until it is restored again.
        """
        ...

    def delete_snapshot(
        self,
        pool: str,
        name: str,
        snapshot: str,
        *,
        project: str = DEFAULT_PROJECT,
        target: str = "",
    ) -> None:
        """Delete one snapshot; the volume may be in use."""
        ...


class Pools(Protocol):
    """Storage pools."""

    def list(self) -> tuple[StoragePool, ...]:
        """All pools."""
        ...

    def get(self, name: str) -> StoragePool:
        """One pool, with its ETag."""
        ...

    def space(self, name: str, *, target: str = "") -> PoolSpace:
        """How full a pool is (on that member)."""
        ...

    def create(self, pool: StoragePool) -> None:
        """Make a pool from its name, driver, description and config."""
        ...

    def delete(self, name: str) -> None:
        """Delete an unused pool."""
        ...


class Networks(Protocol):
    """Networks."""

    def list(self, *, project: str = DEFAULT_PROJECT) -> tuple[Network, ...]:
        """All networks and host interfaces the project sees."""
        ...

    def get(self, name: str, *, project: str = DEFAULT_PROJECT) -> Network:
        """One network, with its ETag."""
        ...

    def leases(self, name: str, *, project: str = DEFAULT_PROJECT) -> tuple[Lease, ...]:
        """Addresses a managed network has given out, fixed ones included."""
        ...

    def create(self, network: Network) -> None:
        """Make a network from its name, type, project, description and config."""
        ...

    def edit(self, network: Network) -> None:
        """Write description and config; conditional on ``network.etag``."""
        ...

    def delete(self, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Delete an unused network."""
        ...


class Profiles(Protocol):
    """Profiles."""

    def list(self, *, project: str = DEFAULT_PROJECT) -> tuple[Profile, ...]:
        """All profiles the project sees."""
        ...

    def get(self, name: str, *, project: str = DEFAULT_PROJECT) -> Profile:
        """One profile, with its ETag."""
        ...

    def create(self, profile: Profile) -> None:
        """Make a profile from its name, project, description, config and devices."""
        ...

    def edit(self, profile: Profile) -> None:
        """Write description, config and devices; conditional on ``profile.etag``."""
        ...

    def delete(self, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Delete an unused profile."""
        ...


class Projects(Protocol):
    """Projects."""

    def list(self) -> tuple[Project, ...]:
        """All projects."""
        ...

    def get(self, name: str) -> Project:
        """One project, with its ETag."""
        ...

    def usage(self, name: str) -> Mapping[str, Usage]:
        """What the project uses of each limited resource, by the resource's name."""
        ...

    def create(self, project: Project) -> None:
        """Make a project from its name, description and config."""
        ...

    def edit(self, project: Project) -> None:
        """Write description and config; conditional on ``project.etag``."""
        ...

    def delete(self, name: str) -> None:
        """Delete an empty project."""
        ...
