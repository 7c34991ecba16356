"""Instances as objects: listing, creating, writing their settings, renaming, deleting."""

from lxdocker_lxd.lxd import decoding
from lxdocker_lxd.lxd.api import Api, Request
from lxdocker_lxd.lxd.calls import NewInstance
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
        source = {"type": "image", "alias" if new.by_alias else "fingerprint": new.image}
        body = {"name": new.name, "type": new.type, "source": source, **_written(new.settings)}
        self._operations.run(
            Request(
                method="post",
                path="instances",
                doing=f"create the instance {new.name} in project {project}",
                params={"project": project, "target": new.target},
                body=body,
            )
        )

    def replace(
        self,
        name: str,
        settings: InstanceSettings,
        *,
        etag: str = "",
        project: str = DEFAULT_PROJECT,
    ) -> None:
        """Write all settings."""
        self._write("put", name, _written(settings), etag=etag, project=project)

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
        body: dict[str, object] = {}
        if config is not None:
            body["config"] = dict(config)
        if devices is not None:
            body["devices"] = {key: dict(device) for key, device in devices.items()}
        if ephemeral is not None:
            body["ephemeral"] = ephemeral
        self._write("patch", name, body, etag=etag, project=project)

    def _write(
        self, method: str, name: str, body: dict[str, object], *, etag: str, project: str
    ) -> None:
        self._operations.run(
            Request(
                method=method,
                path=under("instances", name),
                doing=f"write the settings of the instance {name} of project {project}",
                params={"project": project},
                body=body,
                etag=etag,
            )
        )

    def rename(self, name: str, new_name: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Rename a stopped instance."""
        self._operations.run(
            Request(
                method="post",
                path=under("instances", name),
                doing=f"rename the instance {name} of project {project} to {new_name}",
                params={"project": project},
                body={"name": new_name},
            )
        )

    def delete(self, name: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Delete a stopped instance."""
        self._operations.run(
            Request(
                method="delete",
                path=under("instances", name),
                doing=f"delete the instance {name} of project {project}",
                params={"project": project},
            )
        )

    def snapshots(self, name: str, *, project: str = DEFAULT_PROJECT) -> tuple[Snapshot, ...]:
        """An instance's snapshots."""
        doing = f"list the snapshots of the instance {name} of project {project}"
        path = under("instances", name, "snapshots")
        answer = self._api.read(path, doing, recursion="1", project=project)
        return tuple(decoding.snapshot(item, instance_name=name) for item in answer.documents)


def _written(settings: InstanceSettings) -> dict[str, object]:
    return {
        "architecture": settings.architecture,
        "config": dict(settings.config),
        "devices": {key: dict(device) for key, device in settings.devices.items()},
        "profiles": list(settings.profiles),
        "ephemeral": settings.ephemeral,
        "description": settings.description,
        "stateful": settings.stateful,
    }
