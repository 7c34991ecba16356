"""Storage pools, and custom volumes in them."""

from lxdocker_lxd.lxd import decoding, volume_requests
from lxdocker_lxd.lxd.api import Api
from lxdocker_lxd.lxd.failures import AbsentError, RefusedError
from lxdocker_lxd.lxd.operations import Operations
from lxdocker_lxd.lxd.paths import under
from lxdocker_lxd.lxd.records import DEFAULT_PROJECT
from lxdocker_lxd.lxd.request import Request
from lxdocker_lxd.lxd.resources import PoolSpace, StoragePool, Volume, VolumeSnapshot
from lxdocker_lxd.lxd.volume_requests import volume_path


class LxdVolumes:
    """Implements the port :class:`Volumes`."""

    def __init__(self, api: Api, operations: Operations) -> None:
        self._api = api
        self._operations = operations

    def list(self, pool: str, *, project: str = DEFAULT_PROJECT) -> tuple[Volume, ...]:
        """All custom volumes of a pool."""
        doing = f"list the volumes of pool {pool} in project {project}"
        path = volume_path(pool)
        answer = self._api.read(path, doing, recursion="1", project=project)
        return tuple(
            decoding.volume(item, pool=pool, project=project)
            for item in answer.documents
            # Snapshots are listed among the volumes, as VOLUME/SNAPSHOT.
            if "/" not in item.text("name")
        )

    def get(
        self, pool: str, name: str, *, project: str = DEFAULT_PROJECT, target: str = ""
    ) -> Volume:
        """One volume."""
        doing = f"read the volume {name} of pool {pool} in project {project}"
        answer = self._api.read(volume_path(pool, name), doing, project=project, target=target)
        return decoding.volume(answer.document, pool=pool, project=project, etag=answer.etag)

    def create(self, volume: Volume, *, target: str = "") -> None:
        """Make an empty volume."""
        self._operations.run(
            Request(
                method="post",
                path=volume_path(volume.pool),
                doing=f"make the volume {volume.name} in pool {volume.pool},"
                f" project {volume.project}",
                params={"project": volume.project, "target": target},
                body={
                    "name": volume.name,
                    "type": "custom",
                    "content_type": volume.content_type,
                    "description": volume.description,
                    "config": dict(volume.config),
                },
            )
        )

    def edit(self, volume: Volume) -> None:
        """Write description and config."""
        self._operations.run(
            Request(
                method="put",
                path=volume_path(volume.pool, volume.name),
                doing=f"edit the volume {volume.name} of pool {volume.pool}",
                params={"project": volume.project},
                body={"description": volume.description, "config": dict(volume.config)},
                etag=volume.etag,
            )
        )

    def delete(self, pool: str, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Delete a volume with its content."""
        self._operations.run(
            Request(
                method="delete",
                path=volume_path(pool, name),
                doing=f"delete the volume {name} of pool {pool} in project {project}",
                params={"project": project},
            )
        )

    # ---- snapshots

    def snapshots(
        self, pool: str, name: str, *, project: str = DEFAULT_PROJECT, target: str = ""
    ) -> tuple[VolumeSnapshot, ...]:
        """A volume's snapshots, the oldest first."""
        doing = f"list the snapshots of the volume {name} of pool {pool} in project {project}"
        path = volume_path(pool, name, "snapshots")
        answer = self._api.read(path, doing, recursion="1", project=project, target=target)
        if not answer.documents:
            # LXD 5.0 lists nothing for a volume that isn't there.
            self._api.read(volume_path(pool, name), doing, project=project, target=target)
        return tuple(
            decoding.volume_snapshot(item, pool=pool, volume_name=name, project=project)
            for item in answer.documents
        )

    def create_snapshot(
        self,
        pool: str,
        name: str,
        snapshot: str,
        *,
        project: str = DEFAULT_PROJECT,
        target: str = "",
    ) -> None:
        """Make a snapshot that never expires."""
        self._operations.run(
            volume_requests.creating_snapshot(pool, name, snapshot, project, target=target)
        )

    def restore_snapshot(
        self,
        pool: str,
        name: str,
        snapshot: str,
        *,
        project: str = DEFAULT_PROJECT,
        target: str = "",
    ) -> None:
        """Give a volume the content of its snapshot."""
        request = volume_requests.restoring_snapshot(pool, name, snapshot, project, target=target)
        try:
            self._operations.run(request)
        except RefusedError as error:
            # Some drivers only say that a file is missing.
            held = self.snapshots(pool, name, project=project, target=target)
            if snapshot in {one.name for one in held}:
                raise
            raise AbsentError(
                error.message, hint=f"`lxc storage volume info {pool} {name}` shows those there are"
            ) from error

    def delete_snapshot(
        self,
        pool: str,
        name: str,
        snapshot: str,
        *,
        project: str = DEFAULT_PROJECT,
        target: str = "",
    ) -> None:
        """Delete one snapshot."""
        self._operations.run(
            volume_requests.deleting_snapshot(pool, name, snapshot, project, target=target)
        )


class LxdPools:
    """Implements the port :class:`Pools`."""

    def __init__(self, api: Api, operations: Operations) -> None:
        self._api = api
        self._operations = operations

    def list(self) -> tuple[StoragePool, ...]:
        """All pools."""
        answer = self._api.read("storage-pools", "list the storage pools", recursion="1")
        return tuple(decoding.pool(item) for item in answer.documents)

    def get(self, name: str) -> StoragePool:
        """One pool."""
        answer = self._api.read(under("storage-pools", name), f"read the storage pool {name}")
        return decoding.pool(answer.document, etag=answer.etag)

    def space(self, name: str, *, target: str = "") -> PoolSpace:
        """How full a pool is."""
        path = under("storage-pools", name, "resources")
        doing = f"read how full the storage pool {name} is"
        try:
            answer = self._api.read(path, doing, target=target)
        except RefusedError as error:
            # LXD 5.0 answers 500 for a pool that isn't there.
            if "pool not found" not in error.message:
                raise
            raise AbsentError(error.message, hint="`lxc storage list` shows them") from error
        return decoding.pool_space(answer.document)

    def create(self, pool: StoragePool) -> None:
        """Make a pool."""
        self._operations.run(
            Request(
                method="post",
                path="storage-pools",
                doing=f"make the storage pool {pool.name}",
                body={
                    "name": pool.name,
                    "driver": pool.driver,
                    "description": pool.description,
                    "config": dict(pool.config),
                },
            )
        )

    def delete(self, name: str) -> None:
        """Delete an unused pool."""
        self._operations.run(
            Request(
                method="delete",
                path=under("storage-pools", name),
                doing=f"delete the storage pool {name}",
            )
        )
