"""The requests that change instances: what the adapter sends, and a rehearsal shows. Pure."""

from collections.abc import Mapping

from lxdocker_lxd.lxd.calls import Command, NewInstance
from lxdocker_lxd.lxd.failures import AbsentError
from lxdocker_lxd.lxd.paths import under
from lxdocker_lxd.lxd.records import Config, Devices, Instance, InstanceSettings
from lxdocker_lxd.lxd.request import Request
from lxdocker_lxd.lxd.resources import Volume


def creating(new: NewInstance, project: str) -> Request:
    """Return the request that unpacks an image into a new instance."""
    source = {"type": "image", "alias" if new.by_alias else "fingerprint": new.image}
    return Request(
        method="post",
        path="instances",
        doing=f"create the instance {new.name} in project {project}",
        params={"project": project, "target": new.target},
        body={"name": new.name, "type": new.type, "source": source, **_written(new.settings)},
    )


def replacing(name: str, settings: InstanceSettings, project: str, *, etag: str) -> Request:
    """Return the request that writes all settings."""
    return _writing("put", name, _written(settings), project, etag)


def patching(
    name: str,
    project: str,
    *,
    config: Config | None,
    devices: Devices | None,
    ephemeral: bool | None,
    etag: str,
) -> Request:
    """Return the request that writes some settings."""
    body: dict[str, object] = {}
    if config is not None:
        body["config"] = dict(config)
    if devices is not None:
        body["devices"] = {key: dict(device) for key, device in devices.items()}
    if ephemeral is not None:
        body["ephemeral"] = ephemeral
    return _writing("patch", name, body, project, etag)


def _writing(
    method: str, name: str, body: Mapping[str, object], project: str, etag: str
) -> Request:
    return Request(
        method=method,
        path=under("instances", name),
        doing=f"write the settings of the instance {name} of project {project}",
        params={"project": project},
        body=body,
        etag=etag,
    )


def renaming(name: str, new_name: str, project: str) -> Request:
    """Return the request that renames a stopped instance."""
    return Request(
        method="post",
        path=under("instances", name),
        doing=f"rename the instance {name} of project {project} to {new_name}",
        params={"project": project},
        body={"name": new_name},
    )


def deleting(name: str, project: str) -> Request:
    """Return the request that deletes a stopped instance."""
    return Request(
        method="delete",
        path=under("instances", name),
        doing=f"delete the instance {name} of project {project}",
        params={"project": project},
    )


def root_volume_path(instance: Instance) -> str:
    """Return the API path of the volume with an instance's root; AbsentError without a root disk."""
    pool = root_pool(instance)
    if not pool:
        raise AbsentError(
            f"the instance {instance.name} of project {instance.project} has no root disk",
            hint=f"`lxc config show {instance.name} --expanded` shows its devices",
        )
    return under("storage-pools", pool, "volumes", instance.type, instance.name)


def root_pool(instance: Instance) -> str:
    """Return the pool of an instance's root disk; empty without one."""
    for device in instance.expanded_devices.values():
        if device.get("type") == "disk" and device.get("path") == "/":
            return device.get("pool", "")
    return ""


def root_volume_params(instance: Instance) -> dict[str, str]:
    """Return where a request on the volume goes: the project, and in a cluster the member."""
    target = instance.location if instance.location not in ("", "none") else ""
    return {"project": instance.project, "target": target}


def editing_root_volume(instance: Instance, volume: Volume) -> Request:
    """Return the request that writes description and config of the root's volume."""
    return Request(
        method="put",
        path=root_volume_path(instance),
        doing=f"write the settings of the root volume of {instance.name}, project {instance.project}",
        params=root_volume_params(instance),
        body={"description": volume.description, "config": dict(volume.config)},
        etag=volume.etag,
    )


def changing_power(
    action: str, name: str, project: str, *, force: bool = False, timeout_seconds: int = 30
) -> Request:
    """Return the request that starts, stops, freezes or unfreezes an instance."""
    return Request(
        method="put",
        path=under("instances", name, "state"),
        doing=f"{action} the instance {name} of project {project}",
        params={"project": project},
        body={"action": action, "force": force, "stateful": False, "timeout": timeout_seconds},
    )


def executing(name: str, command: Command, project: str) -> Request:
    """Return the request that begins a command inside a running instance."""
    return Request(
        method="post",
        path=under("instances", name, "exec"),
        doing=f"run {command.words[0]} in the instance {name} of project {project}",
        params={"project": project},
        body={
            "command": list(command.words),
            "environment": dict(command.environment),
            "wait-for-websocket": True,
            "interactive": False,
            "user": command.user_id,
            "group": command.group_id,
            "cwd": command.directory,
        },
    )


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
