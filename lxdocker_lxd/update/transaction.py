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
FORMAT = 1
_LONGEST_STAMP = 1 << 20
_DEEPEST_COVER = 1
MOST_UPDATES = 1 << 53
"""The highest number of an update; whatever is beyond isn't what this program wrote."""


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


class Proof(StrEnum):
    """How a root file system was shown to work.

    ``GATE``: it passed a health gate. ``RAN``: it ran for a day. ``NEVER_RAN``: it was installed on
    a stopped instance and nothing of it ran. ``CRASHED``: it passed its gate and later ended by
    itself.
    """

    GATE = "gate"
    RAN = "ran"
    NEVER_RAN = "never ran"
    CRASHED = "crashed"


class VolumeSnapshots(StrEnum):
    """What became of the snapshots of an instance's volumes that an update made.

    ``TAKEN``: after the old version was stopped. ``RETURNED``: the volumes have that content again.
    ``LEFT``: a user went back without them; the volumes keep what was written since.
    """

    TAKEN = "taken"
    RETURNED = "returned"
    LEFT = "left"


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeName:
    """A custom volume of the instance's project."""

    pool: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What a name stands for apart from its root file system: all that an update preserves.

    ``config`` has no ``volatile.*``, no ``image.*`` and none of the updater's own keys.
    ``hardware_addresses`` are those LXD drew, by device; ``nics`` the network devices with what
    profiles give them, for a parked instance's own devices hide them. ``idmap_base`` is set for an
    isolated instance that doesn't name one: a new base would make LXD chown its volumes. ``volatile``
    are further keys of LXD's own that go on with the name, as the names it drew for interfaces.
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
    volatile: Config = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What a transaction writes on an instance; ``name`` is the name the update is about.

    ``until`` is when a kept, retired or rejected copy may be removed, ``since`` when it became one.
    ``blame`` says that a turn back was the new version's fault. ``proof`` and ``check`` tell how the
    root of this instance was shown to work, None when that isn't known; ``ran`` that it was running
    when its update was committed. ``crashed`` says of an old instance that it was stopped before the
    update began, although it is to run: it had ended by itself, or its start is owed. ``covers`` is the committed stamp that the instance had before.
    ``volumes`` are those of an old instance that are to be snapshotted, ``snapshots`` how far that is;
    a retired version has both where a return left the snapshots to go with it.
    ``sequence`` numbers the updates of a name, later ones higher; 0 isn't known.
    """

    transaction: str
    role: Role
    phase: Phase
    name: str
    fingerprint: str
    saved: Saved | None = None
    until: datetime | None = None
    since: datetime | None = None
    blame: bool = False
    proof: Proof | None = None
    check: str = ""
    ran: bool = False
    crashed: bool = False
    volumes: tuple[VolumeName, ...] = ()
    snapshots: VolumeSnapshots | None = None
    sequence: int = 0
    covers: "Stamp | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A stamp that this version doesn't understand: its instance is not to be touched."""

    reason: str


def parked_name(name: str, role: Role, transaction: str) -> str:
    """Return where an instance of this role waits: a name that fits LXD's rule and is ours alone."""
    suffix = f"-{role}-{transaction}"
    return name[: LONGEST_NAME - len(suffix)].rstrip("-") + suffix


def stamp_of(instance: Instance) -> Stamp | Unreadable | None:
    """Return an instance's stamp; None without one, Unreadable for one of another format.

    A stamp that can't be read may belong to an update that a newer version began, or to the only
    copy of an instance. LXD copies keys with an instance, so a stamp also has to fit the name: see
    ``is_ours``. Never raises.
    """
    text = instance.config.get(STAMP_KEY, "")
    if not text:
        return None
    if len(text) > _LONGEST_STAMP:
        return Unreadable(reason=f"it is longer than {_LONGEST_STAMP >> 20} MiB")
    try:
        # Not by the reader of tenants' JSON: what it refuses may stand in a saved value.
        document = json.loads(text)
        if not isinstance(document, dict):
            return Unreadable(reason="it is no JSON object")
        if document.get("format") != FORMAT:
            return Unreadable(
                reason=f"its format is {str(document.get('format'))[:20]}, not {FORMAT}"
            )
        return _stamp(document, _DEEPEST_COVER)
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        OverflowError,
    ) as error:
        return Unreadable(reason=f"{type(error).__name__}: {str(error)[:80]}")


def readable_stamp(instance: Instance) -> Stamp | None:
    """Return the stamp where there is one and it can be read.

    Only for what is not in danger by a stamp of another version: such an instance looks unstamped.
    """
    stamp = stamp_of(instance)
    return stamp if isinstance(stamp, Stamp) else None


def is_hands_off(instance: Instance) -> bool:
    """Whether the instance has a stamp that can't be read, and so must be left as it is."""
    return isinstance(stamp_of(instance), Unreadable)


def is_ours(instance: Instance) -> bool:
    """Whether the instance is where its stamp says, and so no copy made by a user."""
    stamp = stamp_of(instance)
    return isinstance(stamp, Stamp) and instance.name in {
        stamp.name,
        parked_name(stamp.name, stamp.role, stamp.transaction),
    }


def encoded(stamp: Stamp) -> str:
    """Return the stamp as the value of its key, on one line, the same for the same stamp."""
    return json.dumps(_document(stamp), sort_keys=True, separators=(",", ":"))


def _document(stamp: Stamp) -> dict[str, object]:
    document: dict[str, object] = {
        "format": FORMAT,
        "transaction": stamp.transaction,
        "role": stamp.role,
        "phase": stamp.phase,
        "name": stamp.name,
        "fingerprint": stamp.fingerprint,
    }
    if stamp.saved is not None:
        document["saved"] = saved_document(stamp.saved)
    if stamp.covers is not None:
        document["covers"] = _document(stamp.covers)
    moments = {"until": stamp.until, "since": stamp.since}
    document |= {
        key: moment.astimezone(UTC).isoformat() for key, moment in moments.items() if moment
    }
    optional = {
        "blame": stamp.blame,
        "proof": stamp.proof,
        "check": stamp.check,
        "ran": stamp.ran,
        "crashed": stamp.crashed,
        "volumes": [[volume.pool, volume.name] for volume in stamp.volumes],
        "snapshots": stamp.snapshots,
        "sequence": stamp.sequence,
    }
    return document | {key: value for key, value in optional.items() if value}


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
        **({"volatile": dict(saved.volatile)} if saved.volatile else {}),
    }


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

    @property
    def snapshot_name(self) -> str:
        """How the snapshots are called that this update makes of volumes."""
        return f"lxdocker-{self.id}"

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

    def optional(self, key: str) -> str:
        return self.text(key) if key in self.values else ""

    def moment(self, key: str) -> datetime | None:
        if self.values.get(key) is None:
            return None
        moment = datetime.fromisoformat(self.text(key))
        if moment.tzinfo is None:
            raise ValueError(f"{key} has no time zone")
        return moment

    def volumes(self, key: str) -> tuple[VolumeName, ...]:
        found = []
        for pool, name in self.values.get(key) or ():  # type: ignore[attr-defined] # TypeError is caught
            if not isinstance(pool, str) or not isinstance(name, str):
                raise TypeError(key)
            found.append(VolumeName(pool=pool, name=name))
        return tuple(found)

    def flag(self, key: str) -> bool:
        return self.values.get(key) is True

    def number(self, key: str, *, most: int) -> int:
        """A number from 0, which is what its absence means."""
        value = self.values.get(key, 0)
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(key)
        if not 0 <= value <= most:
            raise ValueError(key)
        return value

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


def _stamp(document: Mapping[str, object], depth: int) -> Stamp:
    fields = _Fields(document)
    saved = document.get("saved")
    covers = document.get("covers")
    proof, snapshots = fields.optional("proof"), fields.optional("snapshots")
    return Stamp(
        transaction=fields.text("transaction"),
        role=Role(fields.text("role")),
        phase=Phase(fields.text("phase")),
        name=fields.text("name"),
        fingerprint=fields.text("fingerprint"),
        saved=_saved(saved) if isinstance(saved, dict) else None,
        until=fields.moment("until"),
        since=fields.moment("since"),
        blame=fields.flag("blame"),
        proof=Proof(proof) if proof else None,
        check=fields.optional("check"),
        ran=fields.flag("ran"),
        crashed=fields.flag("crashed"),
        volumes=fields.volumes("volumes"),
        snapshots=VolumeSnapshots(snapshots) if snapshots else None,
        sequence=fields.number("sequence", most=MOST_UPDATES),
        covers=_stamp(covers, depth - 1) if isinstance(covers, dict) and depth else None,
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
        volatile=fields.texts("volatile") if "volatile" in document else {},
    )
