"""One update of one instance: its names, and the stamp it leaves on every instance it owns.

The stamp is one key of instance configuration. It tells which transaction an instance belongs to,
in which role, how far that got, and everything needed to give the name back its exact
configuration; so an interrupted update can be finished from LXD alone, with the journal lost.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum

from lxdocker_lxd.lxd.records import Config, Devices, Instance

STAMP_KEY = "user.lxdocker.transaction"
REJECTED_KEY = "user.lxdocker.rejected"
OWN_KEYS = frozenset({STAMP_KEY, REJECTED_KEY})
# LXD's rule for names of instances.
LONGEST_NAME = 63
_FORMAT = 1


class Role(StrEnum):
    """Whose root file system an instance has: the one before the update, or the one after."""

    OLD = "old"
    NEW = "new"


class Phase(StrEnum):
    """How far an instance has come; the first seven are of the new one, the others of the old."""

    STAGED = "staged"
    REMAPPING = "remapping"
    PROVED = "proved"
    RESTORED = "restored"
    COMMITTED = "committed"
    REJECTED = "rejected"
    RETIRED = "retired"
    LEASED = "leased"
    OUTAGE = "outage"
    ROLLBACK = "rollback"
    RETURNED = "returned"
    KEPT = "kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What a name stands for apart from its root file system: all that an update preserves.

    ``config`` has no ``volatile.*``, no ``image.*`` and none of the updater's own keys.
    ``hardware_addresses`` are those LXD drew, by device; ``nics`` the network devices with what
    profiles give them, for a parked instance's own devices hide them. ``idmap_base`` is set for an
    isolated instance that doesn't name one: a new base would make LXD chown its volumes.
    """

    architecture: str
    config: Config
    devices: Devices
    profiles: tuple[str, ...]
    description: str
    ephemeral: bool
    stateful: bool
    hardware_addresses: Config
    nics: Devices
    running: bool
    idmap_base: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What a transaction writes on an instance; ``name`` is the name the update is about.

    ``until`` is when a kept, retired or rejected copy may be removed. ``blame`` says that a turn
    back was the new version's fault.
    """

    transaction: str
    role: Role
    phase: Phase
    name: str
    fingerprint: str
    saved: Saved | None = None
    until: datetime | None = None
    blame: bool = False


def parked_name(name: str, role: Role, transaction: str) -> str:
    """Return where an instance of this role waits: a name that fits LXD's rule and is ours alone."""
    suffix = f"-{role}-{transaction}"
    return name[: LONGEST_NAME - len(suffix)].rstrip("-") + suffix


def stamp_of(instance: Instance) -> Stamp | None:
    """Return an instance's stamp; None without one, or with one that can't be understood.

    LXD copies keys with an instance, so a stamp also has to fit the name: see ``is_ours``.
    """
    text = instance.config.get(STAMP_KEY, "")
    if not text:
        return None
    try:
        return _stamp(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def is_ours(instance: Instance) -> bool:
    """Whether the instance is where its stamp says, and so no copy made by somebody else."""
    stamp = stamp_of(instance)
    return stamp is not None and instance.name in {
        stamp.name,
        parked_name(stamp.name, stamp.role, stamp.transaction),
    }


def encoded(stamp: Stamp) -> str:
    """Return the stamp as the value of its key, on one line, the same for the same stamp."""
    document: dict[str, object] = {
        "format": _FORMAT,
        "transaction": stamp.transaction,
        "role": stamp.role,
        "phase": stamp.phase,
        "name": stamp.name,
        "fingerprint": stamp.fingerprint,
    }
    if stamp.saved is not None:
        document["saved"] = saved_document(stamp.saved)
    if stamp.until is not None:
        document["until"] = stamp.until.astimezone(UTC).isoformat()
    if stamp.blame:
        document["blame"] = True
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def saved_document(saved: Saved) -> dict[str, object]:
    """Return what is saved as plain values for JSON."""
    return {
        "architecture": saved.architecture,
        "config": dict(saved.config),
        "devices": {name: dict(device) for name, device in saved.devices.items()},
        "profiles": list(saved.profiles),
        "description": saved.description,
        "ephemeral": saved.ephemeral,
        "stateful": saved.stateful,
        "hardware_addresses": dict(saved.hardware_addresses),
        "nics": {name: dict(device) for name, device in saved.nics.items()},
        "running": saved.running,
        "idmap_base": saved.idmap_base,
    }


def rejected_versions(instance: Instance) -> tuple[str, ...]:
    """Fingerprints that were rolled back on this instance since its last good update, in order."""
    return tuple(instance.config.get(REJECTED_KEY, "").split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """One update: which name in which project, to which image."""

    id: str
    project: str
    name: str
    fingerprint: str

    def parked(self, role: Role) -> str:
        """Where the instance of this role waits."""
        return parked_name(self.name, role, self.id)

    def stamp(self, role: Role, phase: Phase, saved: Saved | None) -> Stamp:
        """Return a stamp of this transaction."""
        return Stamp(
            transaction=self.id,
            role=role,
            phase=phase,
            name=self.name,
            fingerprint=self.fingerprint,
            saved=saved,
        )


def transaction_of(instance: Instance, stamp: Stamp) -> Transaction:
    """Return the transaction that a stamp tells of."""
    return Transaction(
        id=stamp.transaction,
        project=instance.project,
        name=stamp.name,
        fingerprint=stamp.fingerprint,
    )


def with_running(stamp: Stamp, running: bool) -> Stamp:
    """Return the stamp for a name that is to end running, or stopped."""
    if stamp.saved is None:
        return stamp
    return replace(stamp, saved=replace(stamp.saved, running=running))


@dataclass(frozen=True, slots=True)
class _Fields:
    """Typed reads of a decoded stamp; TypeError for another type."""

    values: Mapping[str, object] = field(default_factory=dict)

    def text(self, key: str) -> str:
        value = self.values[key]
        if not isinstance(value, str):
            raise TypeError(key)
        return value

    def flag(self, key: str) -> bool:
        return self.values.get(key) is True

    def texts(self, key: str) -> dict[str, str]:
        return _texts(self.values[key], key)

    def devices(self, key: str) -> dict[str, dict[str, str]]:
        value = self.values[key]
        if not isinstance(value, dict):
            raise TypeError(key)
        return {name: _texts(device, key) for name, device in value.items()}


def _texts(value: object, key: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise TypeError(key)
    return dict(value)


def _stamp(document: Mapping[str, object]) -> Stamp:
    fields = _Fields(document)
    saved = document.get("saved")
    until = document.get("until")
    return Stamp(
        transaction=fields.text("transaction"),
        role=Role(fields.text("role")),
        phase=Phase(fields.text("phase")),
        name=fields.text("name"),
        fingerprint=fields.text("fingerprint"),
        saved=_saved(saved) if isinstance(saved, dict) else None,
        until=datetime.fromisoformat(fields.text("until")) if until is not None else None,
        blame=fields.flag("blame"),
    )


def _saved(document: Mapping[str, object]) -> Saved:
    fields = _Fields(document)
    profiles = document["profiles"]
    if not isinstance(profiles, list) or not all(isinstance(name, str) for name in profiles):
        raise TypeError("profiles")
    return Saved(
        architecture=fields.text("architecture"),
        config=fields.texts("config"),
        devices=fields.devices("devices"),
        profiles=tuple(profiles),
        description=fields.text("description"),
        ephemeral=fields.flag("ephemeral"),
        stateful=fields.flag("stateful"),
        hardware_addresses=fields.texts("hardware_addresses"),
        nics=fields.devices("nics"),
        running=fields.flag("running"),
        idmap_base=fields.text("idmap_base"),
    )
