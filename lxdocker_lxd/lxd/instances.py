"""Instances as objects: listing, creating, writing their settings, renaming, deleting."""

from lxdocker_lxd.lxd import decoding
from lxdocker_lxd.lxd.api import Api
from lxdocker_lxd.lxd.calls import NewInstance
from lxdocker_lxd.lxd.instance_requests import (
    creating,
    deleting,
    editing_root_volume,
    patching,
    renaming,
    replacing,
    root_pool,
    root_volume_params,
    root_volume_path,
)
from lxdocker_lxd.lxd.operations import Operations
from lxdocker_lxd.lxd.paths import under
from lxdocker_lxd.lxd.records import (
    DEFAULT_PROJECT,
    Config,
    Devices,
    Instance,
    InstanceSettings,
    Snapshot,
)
from lxdocker_lxd.lxd.resources import Volume


class LxdInstances:
    """Implements the port :class:`Instances`."""

    def __init__(self, api: Api, operations: Operations) -> None:
        self._api = api
        self._operations = operations

    def list(self, *, project: str | None = DEFAULT_PROJECT) -> tuple[Instance, ...]:
        """All instances of a project, or of every project."""
        where = {"project": project} if project else {"all-projects": "true"}
        doing = f"list the instances of {f'project {project}' if project else 'all projects'}"
        answer = self._api.read("instances", doing, recursion="1", **where)
        return tuple(decoding.instance(item) for item in answer.documents)

    def get(self, name: str, *, project: str = DEFAULT_PROJECT) -> Instance:
        """One instance."""
        doing = f"read the instance {name} of project {project}"
        answer = self._api.read(under("instances", name), doing, project=project)
        return decoding.instance(answer.document, etag=answer.etag)

    def create(self, new: NewInstance, *, project: str = DEFAULT_PROJECT) -> None:
        """Unpack an image into a new instance."""
        self._operations.run(creating(new, project))

    def replace(
        self,
        name: str,
        settings: InstanceSettings,
        *,
        etag: str = "",
        project: str = DEFAULT_PROJECT,
    ) -> None:
        """Write all settings."""
        self._operations.run(replacing(name, settings, project, etag=etag))

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
        """Write some keys."""
        self._operations.run(
            patching(name, project, config=config, devices=devices, ephemeral=ephemeral, etag=etag)
        )

    def rename(self, name: str, new_name: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Rename a stopped instance."""
        self._operations.run(renaming(name, new_name, project))

    def delete(self, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Delete a stopped instance."""
        self._operations.run(deleting(name, project))

    def snapshots(self, name: str, *, project: str = DEFAULT_PROJECT) -> tuple[Snapshot, ...]:
        """An instance's snapshots."""
        doing = f"list the snapshots of the instance {name} of project {project}"
        path = under("instances", name, "snapshots")
        answer = self._api.read(path, doing, recursion="1", project=project)
        return tuple(decoding.snapshot(item, instance_name=name) for item in answer.documents)

    def backups(self, name: str, *, project: str = DEFAULT_PROJECT) -> tuple[str, ...]:
        """Names of the backups of an instance."""
        doing = f"list the backups of the instance {name} of project {project}"
        path = under("instances", name, "backups")
        answer = self._api.read(path, doing, recursion="1", project=project)
        # LXD says INSTANCE/BACKUP.
        return tuple(item.text("name").rpartition("/")[2] for item in answer.documents)

    def root_volume(self, instance: Instance) -> Volume:
        """The volume that holds an instance's root."""
        doing = f"read the root volume of {instance.name}, project {instance.project}"
        path, params = root_volume_path(instance), root_volume_params(instance)
        answer = self._api.read(path, doing, **params)
        return decoding.volume(
            answer.document, pool=root_pool(instance), project=instance.project, etag=answer.etag
        )

    def edit_root_volume(self, instance: Instance, volume: Volume) -> None:
        """Write description and config of the root's volume."""
        self._operations.run(editing_root_volume(instance, volume))
