"""A call to LXD as it is shown to people and programs: whole, but for what may be secret. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.lxd.records import Config, Devices, Instance
from lxdocker_lxd.lxd.request import Request
from lxdocker_lxd.secret_value import HIDDEN, looks_secret
from lxdocker_lxd.update.bounded_json import json_object_of
from lxdocker_lxd.update.configuration import IDMAP_BASE, differences, saved_of, unequal
from lxdocker_lxd.update.redaction import cleaned
from lxdocker_lxd.update.transaction import OWN_KEYS, STAMP_KEY

API = "/1.0/"
_SHORT = 12
_SECRET_KEYS = ("environment.", "cloud-init.", "user.user-data", "user.vendor-data")
_LXDS_OWN = ("volatile.", "image.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request that changes something, for the update of ``name`` in ``step``.

    ``method`` is HTTP's; ``check`` and ``run`` are what isn't asked of LXD: a port of the instance,
    a program of the host. ``conditional`` requests are refused when the object was changed
    meanwhile. ``changes`` says what will differ afterwards.
    """

    project: str
    name: str
    step: str
    method: str
    path: str
    body: Mapping[str, object] = field(default_factory=dict)
    conditional: bool = False
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that wouldn't be as before; ``allowed`` when an update may change it."""

    what: str
    before: str
    after: str
    allowed: bool


def call_of(
    request: Request, before: Instance | None, after: Instance | None, *, name: str, step: str
) -> Call:
    """Return a request as a call to be shown."""
    params = urlencode({key: value for key, value in request.params.items() if value})
    return Call(
        project=request.params.get("project", ""),
        name=name,
        step=step,
        method=request.method.upper(),
        path=f"{API}{request.path}".removesuffix("/") + (f"?{params}" if params else ""),
        body=_shown_body(request.body or {}),
        conditional=bool(request.etag),
        changes=(*_said(request.body or {}), *_changed(before, after)),
    )


def _changed(before: Instance | None, after: Instance | None) -> tuple[str, ...]:
    return changes_between(before, after) if before and after else ()


def _said(body: Mapping[str, object]) -> tuple[str, ...]:
    """What a request says of itself that no comparison shows."""
    if "action" in body:
        force = ", by force" if body.get("force") else ""
        return (f"{body['action']}{force}",)
    if isinstance(words := body.get("command"), list):
        return (" ".join(words),)
    source, config = body.get("source"), body.get("config")
    if set(body) == {"config"} and isinstance(config, Mapping):
        return tuple(f"{key}: {shown(key, value) or 'unset'}" for key, value in config.items())
    if not isinstance(source, Mapping):
        return ()
    if "fingerprint" in source:
        return (f"{body.get('name')} of the image {str(source['fingerprint'])[:_SHORT]}",)
    return (f"{source.get('alias')} of {source.get('server')}",)


def changes_between(before: Instance, after: Instance) -> tuple[str, ...]:
    """Return what a call changes, a line each; what LXD itself writes down is left out."""
    found = []
    if before.name != after.name:
        found.append(f"name: {before.name} -> {after.name}")
    if before.status != after.status:
        found.append(f"status: {before.status} -> {after.status}")
    for key in unequal(before.config, after.config):
        if not _is_lxds(key):
            one, other = _values(before, key), _values(after, key)
            found.append(f"{key}: {one} -> {other}")
    for key in unequal(before.devices, after.devices):
        one, other = (_device(side.devices, key) for side in (before, after))
        found.append(f"device {key}: {one} -> {other}")
    if before.profiles != after.profiles:
        found.append(f"profiles: {' '.join(before.profiles)} -> {' '.join(after.profiles)}")
    found += [
        f"{name}: {one} -> {other}"
        for name, one, other in (
            ("description", before.description, after.description),
            ("ephemeral", before.ephemeral, after.ephemeral),
        )
        if one != other
    ]
    return tuple(found)


def _is_lxds(key: str) -> bool:
    """Whether LXD writes the key; MACs it only draws, and an update writes them back."""
    return key.startswith(_LXDS_OWN) and not key.endswith(".hwaddr")


def differences_of(before: Instance, after: Instance) -> tuple[Difference, ...]:
    """Return how a name would differ after an update; own words for what LXD keeps for itself."""
    forbidden = set(differences(after, saved_of(before)))
    found = [
        Difference(
            what=f"config {key}",
            before=_values(before, key),
            after=_values(after, key),
            allowed=_is_allowed(key) and f"config {key}" not in forbidden,
        )
        for key in unequal(before.config, after.config)
        if key in OWN_KEYS or not _is_unsaid(key)
    ]
    found += [
        Difference(
            what=f"device {key}",
            before=_device(before.devices, key),
            after=_device(after.devices, key),
            allowed=False,
        )
        for key in unequal(before.devices, after.devices)
    ]
    named = {one.what for one in found}
    found += [
        Difference(what=what, before="", after="", allowed=False)
        for what in sorted(forbidden - named)
    ]
    return tuple(found)


def _is_allowed(key: str) -> bool:
    return key in OWN_KEYS or key == IDMAP_BASE or key.startswith(_LXDS_OWN)


def _is_unsaid(key: str) -> bool:
    """Whether LXD draws a key anew for each instance, so that nobody knows it before."""
    return key.startswith("volatile.") and key != "volatile.base_image"


def _values(instance: Instance, key: str) -> str:
    return shown(key, instance.config[key]) if key in instance.config else "-"


def shown(key: str, value: str) -> str:
    """Return a key's value, or that it is hidden: secrets, and what holds all of them."""
    if key == STAMP_KEY:
        return _shown_stamp(value)
    if key.startswith(_SECRET_KEYS) or looks_secret(key):
        return HIDDEN
    if key == "volatile.base_image":
        return value[:_SHORT]
    return value


def _shown_stamp(value: str) -> str:
    try:
        stamp = json_object_of(value)
        return cleaned(f"{stamp['role']} {stamp['phase']}")
    except (UsageError, KeyError):
        return HIDDEN if value else "-"


def _device(devices: Devices, name: str) -> str:
    if name not in devices:
        return "-"
    return " ".join(f"{key}={value}" for key, value in sorted(_shown(devices[name]).items()))


def _shown(texts: Config) -> dict[str, str]:
    return {key: shown(key, value) for key, value in texts.items()}


def _shown_body(body: Mapping[str, object]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in body.items():
        if key in {"config", "environment"} and isinstance(value, Mapping):
            found[key] = _shown(value)
        elif key == "devices" and isinstance(value, Mapping):
            found[key] = {name: _shown(device) for name, device in value.items()}
        else:
            found[key] = value
    return found
