"""Storage pools, and custom volumes in them."""

from lxdocker_lxd.lxd import decoding
from lxdocker_lxd.lxd.api import Api
from lxdocker_lxd.lxd.failures import AbsentError, RefusedError
from lxdocker_lxd.lxd.operations import Operations
from lxdocker_lxd.lxd.paths import under
from lxdocker_lxd.lxd.records import DEFAULT_PROJECT
from lxdocker_lxd.lxd.request import Request
from lxdocker_lxd.lxd.resources import PoolSpace, StoragePool, Volume


class LxdVolumes:
    """Implements the port :class:`Volumes`."""

    def __init__(self, api: Api, operations: Operations) -> None:
        self._api = api
        self._operations = operations

    def list(self, pool: str, *, project: str = DEFAULT_PROJECT) -> tuple[Volume, ...]:
        """All custom volumes of a pool."""
        doing = f"list the volumes of pool {pool} in project {project}"
        path = _path(pool)
        answer = self._api.read(path, doing, recursion="1", project=project)
        return tuple(
            decoding.volume(item, pool=pool, project=project)
            for item in answer.documents
            # Snapshots are listed among the volumes, as VOLUME/SNAPSHOT.
            if "/" not in item.text("name")
        )

    def get(self, pool: str, name: str, *, project: str = DEFAULT_PROJECT) -> Volume:
        """One volume."""
        doing = f"read the volume {name} of pool {pool} in project {project}"
        answer = self._api.read(_path(pool, name), doing, project=project)
        return decoding.volume(answer.document, pool=pool, project=project, etag=answer.etag)

    def create(self, volume: Volume, *, target: str = "") -> None:
        """Make an empty volume."""
        self._operations.run(
            Request(
                method="post",
                path=_path(volume.pool),
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
                path=_path(volume.pool, volume.name),
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
                path=_path(pool, name),
                doing=f"delete the volume {name} of pool {pool} in project {project}",
                params={"project": project},
            )
        )


def _path(pool: str, *name: str) -> str:
    return under("storage-pools", pool, "volumes", "custom", *name)


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
