"""The steps of an update as calls to LXD; each changes one thing and may be repeated.

Writes are conditional on what was just read, so a user's change in between is never overwritten:
the write is refused, and the next look decides anew.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from lxdocker_lxd.errors import LxdError
from lxdocker_lxd.lxd.calls import NewInstance
from lxdocker_lxd.lxd.failures import (
    InUseError,
    StartFailedError,
)
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Instance, InstanceSettings
from lxdocker_lxd.update import configuration
from lxdocker_lxd.update.procedure import Act, Step
from lxdocker_lxd.update.rejection import (
    after_good_update,
    merged,
    rejections_of,
    with_rejection,
)
from lxdocker_lxd.update.remapping import barred_settings, ended_at_barrier
from lxdocker_lxd.update.removal import lost_with, remove_volume_snapshots
from lxdocker_lxd.update.retention import next_sequence, proof_of
from lxdocker_lxd.update.root_volume import carry_settings
from lxdocker_lxd.update.stopping import stop_or_kill
from lxdocker_lxd.update.transaction import (
    STAMP_KEY,
    Phase,
    Proof,
    Role,
    Stamp,
    Unreadable,
    VolumeName,
    VolumeSnapshots,
    encoded,
    is_ours,
    stamp_of,
)
from lxdocker_lxd.update.user_change import absorbed
from lxdocker_lxd.update.view import Party, View
from lxdocker_lxd.update.volume_selection import running_users

_Thing = TypeVar("_Thing")
_AT_WORK = frozenset(
    {
        Phase.STAGED,
        Phase.REMAPPING,
        Phase.PROVED,
        Phase.RESTORED,
        Phase.LEASED,
        Phase.OUTAGE,
        Phase.ROLLBACK,
        Phase.RETURNED,
    }
)


class AnotherUpdaterError(LxdError):
    """Another updater is at work on the instance."""


class HeldError(LxdError):
    """A step would lose something; nothing was done."""


class UnbarredStartError(LxdError):
    """A stage ran, although its start was to end before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handling:
    """How an update treats its instance; ``retention_until`` is when a copy left may be removed.

    ``check`` names the health check that the new version has passed. ``volumes`` are to be snapshotted
    after the stop; ``restore_volumes`` gives them that content again when a committed update goes back.
    ``on_kill`` hears of an instance that didn't stop, and of the seconds it had.
    """

    on_kill: Callable[[Instance, int], None] = lambda _instance, _seconds: None
    protect_start: bool = False
    now: datetime
    retention_until: datetime
    blame: bool = False
    check: str = ""
    volumes: tuple[VolumeName, ...] = ()
    restore_volumes: bool = False


class Steps:
    """Does single steps over the ports. Raises what the ports raise, and HeldError."""

    def __init__(self, lxd: Lxd) -> None:
        self._lxd = lxd
        self._acts: dict[Act, Callable[[View, Step, Handling], None]] = {
            Act.STAGE: self._stage,
            Act.PREPARE: self._prepare,
            Act.REMAP: self._remap,
            Act.END_STAGE: self._end_stage,
            Act.STAGE_AGAIN: self._discard,
            Act.PROVE: self._prove,
            Act.LEASE: self._lease,
            Act.OUTAGE: self._outage,
            Act.STOP: self._stop,
            Act.SNAPSHOT_VOLUMES: self._snapshot_volumes,
            Act.RESTORE_VOLUMES: self._restore_volumes,
            Act.PARK: self._park,
            Act.GIVE_NAME_UP: self._give_name_up,
            Act.TAKE_NAME: self._take_name,
            Act.RESTORE: self._restore,
            Act.START: self._start,
            Act.COMMIT: self._commit,
            Act.KEEP: self._keep,
            Act.NOTE_STARTED: self._note_started,
            Act.TURN_BACK: self._turn_back,
            Act.REJECT: self._reject,
            Act.RELEASE: self._release,
            Act.DISCARD: self._discard,
        }

    def perform(self, step: Step, view: View, handling: Handling) -> None:
        """Do the step to what was just observed."""
        self._acts[step.act](view, step, handling)

    def _write(self, instance: Instance, settings: InstanceSettings) -> None:
        self._lxd.instances.replace(
            instance.name, settings, etag=instance.etag, project=instance.project
        )

    def _stamp(self, party: Party, stamp: Stamp) -> None:
        self._write(party.instance, configuration.stamped(party.instance, stamp))

    # ---- before the outage

    def _stage(self, view: View, _step: Step, handling: Handling) -> None:
        holder = _present(view.holder)
        transaction = view.transaction
        stamp = transaction.stamp(Role.NEW, Phase.STAGED, None)
        settings = configuration.stage_settings(holder, stamp, protect_start=handling.protect_start)
        new = NewInstance(
            name=transaction.parked(Role.NEW),
            image=transaction.fingerprint,
            settings=settings,
            type=holder.type,
            target=holder.member,
        )
        self._lxd.instances.create(new, project=transaction.project)

    def _prepare(self, view: View, _step: Step, _handling: Handling) -> None:
        new = _present(view.new)
        stamp = replace(new.stamp, phase=Phase.REMAPPING)
        self._write(new.instance, barred_settings(new.instance, stamp))

    def _remap(self, view: View, _step: Step, _handling: Handling) -> None:
        stage = _present(view.new).instance
        try:
            self._lxd.power.start(stage.name, project=stage.project)
        except StartFailedError as error:
            if not ended_at_barrier(error):
                raise
            return
        raise UnbarredStartError(f"remap {stage.name}: it started, which nothing was to let it")

    def _end_stage(self, view: View, _step: Step, _handling: Handling) -> None:
        stage = _present(view.new).instance
        self._lxd.power.kill(stage.name, project=stage.project)

    def _prove(self, view: View, _step: Step, handling: Handling) -> None:
        holder, new = _present(view.holder), _present(view.new)
        carry_settings(self._lxd, holder, new.instance)
        saved = replace(configuration.saved_of(holder), running=view.wanted_running)
        stamp = view.transaction.stamp(Role.NEW, Phase.PROVED, saved)
        wanted = configuration.stage_settings(holder, stamp, protect_start=handling.protect_start)
        theirs = {
            key: value
            for key, value in new.instance.config.items()
            if key.startswith(("volatile.", "image."))
        }
        self._write(new.instance, replace(wanted, config={**theirs, **wanted.config}))

    def _lease(self, view: View, _step: Step, handling: Handling) -> None:
        holder = _present(view.holder)
        held = stamp_of(holder)
        if isinstance(held, Unreadable):
            raise HeldError(
                f"update {holder.name}: this version can't read its stamp ({held.reason})",
                hint="use the version of lxdocker-lxd that wrote it",
            )
        if held is not None and is_ours(holder) and held.phase in _AT_WORK:
            raise AnotherUpdaterError(
                f"update {holder.name}: another updater is at work on it"
                f" (transaction {held.transaction})",
                hint="if that one is gone, `lxdocker-lxd update recover` finishes its work",
            )
        crashed = view.holder_crashed and not holder.running
        saved = replace(configuration.saved_of(holder), running=view.wanted_running)
        proof, check = proof_of(holder, crashed=crashed)
        listed = self._lxd.instances.list(project=holder.project)
        stamp = replace(
            view.transaction.stamp(Role.OLD, Phase.LEASED, saved),
            proof=proof,
            check=check,
            crashed=view.wanted_running and not holder.running,
            volumes=handling.volumes,
            sequence=next_sequence(listed, holder.name, holder.project),
            covers=held if held is not None and is_ours(holder) else None,
        )
        self._write(holder, configuration.stamped(holder, stamp))

    def _outage(self, view: View, _step: Step, _handling: Handling) -> None:
        old = _present(view.old)
        self._stamp(old, replace(old.stamp, phase=Phase.OUTAGE))

    # ---- exchanging names

    def _stop(self, view: View, step: Step, handling: Handling) -> None:
        party = _party(view, step)
        if party.stamp.role is Role.OLD and party.stamp.snapshots is not None:
            # A user started it again: what was written since isn't in the snapshots.
            self._stamp(party, replace(party.stamp, snapshots=None))
        # A new version that goes is asked like an old one: both write to the same volumes.
        seconds = stop_or_kill(self._lxd, party.instance)
        if seconds is not None:
            handling.on_kill(party.instance, seconds)

    def _snapshot_volumes(self, view: View, step: Step, _handling: Handling) -> None:
        party, transaction = _party(view, step), view.transaction
        volumes, name = self._lxd.volumes, transaction.snapshot_name
        where = {"project": transaction.project, "target": party.instance.member}
        for one in party.stamp.volumes:
            if users := running_users(self._lxd, one, **where):
                raise InUseError(
                    f"snapshot the volume {one.name} of {party.instance.name}: {', '.join(users)} runs"
                    " with it, and might write to it until it is restored"
                )
            # One of an earlier try may have been made before a user let the guest run again.
            if name in {each.name for each in volumes.snapshots(one.pool, one.name, **where)}:
                volumes.delete_snapshot(one.pool, one.name, name, **where)
            volumes.create_snapshot(one.pool, one.name, name, **where)
        self._stamp(party, replace(party.stamp, snapshots=VolumeSnapshots.TAKEN))

    def _restore_volumes(self, view: View, step: Step, _handling: Handling) -> None:
        party, transaction = _party(view, step), view.transaction
        where = {"project": transaction.project, "target": party.instance.member}
        for one in party.stamp.volumes:
            self._lxd.volumes.restore_snapshot(
                one.pool, one.name, transaction.snapshot_name, **where
            )
        self._stamp(party, replace(party.stamp, snapshots=VolumeSnapshots.RETURNED))

    def _park(self, view: View, step: Step, handling: Handling) -> None:
        party = _party(view, step)
        stamp = party.stamp
        if stamp.role is Role.OLD and stamp.saved is not None:
            stamp = replace(stamp, saved=absorbed(party.instance, stamp.saved))
        settings = configuration.parked_settings(
            party.instance, stamp, protect_start=handling.protect_start
        )
        self._write(party.instance, settings)

    def _give_name_up(self, view: View, step: Step, _handling: Handling) -> None:
        party = _party(view, step)
        self._lxd.instances.rename(
            party.instance.name,
            view.transaction.parked(party.stamp.role),
            project=view.transaction.project,
        )

    def _take_name(self, view: View, step: Step, _handling: Handling) -> None:
        party = _party(view, step)
        self._lxd.instances.rename(
            party.instance.name, view.transaction.name, project=view.transaction.project
        )

    def _restore(self, view: View, step: Step, _handling: Handling) -> None:
        party = _party(view, step)
        old = party.stamp.role is Role.OLD
        saved = party.stamp.saved if old else view.saved
        if old and saved is not None:
            saved = absorbed(party.instance, saved)
        if saved is None:
            raise HeldError(f"restore {party.instance.name}: its stamp holds no configuration")
        phase = Phase.RETURNED if old else Phase.RESTORED
        stamp = replace(party.stamp, phase=phase, saved=saved)
        # Even when nothing differs the phase has to be written: restoring is over then.
        settings = configuration.next_write(party.instance, saved, stamp)
        self._write(party.instance, settings or configuration.stamped(party.instance, stamp))

    def _start(self, view: View, step: Step, _handling: Handling) -> None:
        party = _party(view, step)
        self._lxd.power.start(party.instance.name, project=party.instance.project)

    # ---- the end of it

    def _commit(self, view: View, _step: Step, handling: Handling) -> None:
        new = _present(view.new)
        # A name that is to run is committed after its gate, and only then.
        ran = _present(view.saved).running
        stamp = replace(
            new.stamp,
            phase=Phase.COMMITTED,
            saved=None,
            proof=Proof.GATE if ran else Proof.NEVER_RAN,
            check=handling.check if ran else "",
            ran=ran,
        )
        known = rejections_of(view.old.instance.config) if view.old is not None else ()
        rejected = after_good_update(known, handling.now)
        settings = configuration.released(new.instance, rejected)
        self._write(
            new.instance,
            configuration.stamped(replace(new.instance, config=settings.config), stamp),
        )

    def _keep(self, view: View, _step: Step, handling: Handling) -> None:
        old = _present(view.old)
        stamp = replace(
            old.stamp, phase=Phase.KEPT, until=handling.retention_until, since=handling.now
        )
        self._stamp(old, stamp)

    def _note_started(self, view: View, _step: Step, _handling: Handling) -> None:
        old = _present(view.old)
        saved = _present(old.stamp.saved)
        self._stamp(old, replace(old.stamp, saved=replace(saved, running=True)))

    def _turn_back(self, view: View, _step: Step, handling: Handling) -> None:
        old = _present(view.old)
        saved = view.target_of_return
        if saved is None:
            raise HeldError(f"go back to {old.instance.name}: no stamp holds its configuration")
        blame = handling.blame or old.stamp.blame
        stamp = replace(old.stamp, phase=Phase.ROLLBACK, saved=saved, blame=blame, until=None)
        # What was written since a good update is a user's; only a wish of theirs undoes it.
        given_up = old.stamp.phase is Phase.KEPT and not handling.restore_volumes
        if given_up and stamp.snapshots is not None:
            stamp = replace(stamp, snapshots=VolumeSnapshots.LEFT)
        if not old.parked or old.named:
            self._stamp(old, stamp)
            return
        settings = configuration.reparked_settings(
            old.instance, saved, stamp, protect_start=handling.protect_start
        )
        self._write(old.instance, settings)

    def _reject(self, view: View, _step: Step, handling: Handling) -> None:
        new, old = _present(view.new), _present(view.old)
        # A failed version isn't missed; one that somebody went back from may hold data.
        failed = old.stamp.blame
        left = old.stamp.snapshots is VolumeSnapshots.LEFT
        stamp = replace(
            new.stamp,
            phase=Phase.REJECTED if failed else Phase.RETIRED,
            saved=None,
            until=handling.retention_until,
            since=handling.now,
            sequence=old.stamp.sequence,
            # Snapshots that the return didn't need go with the version that it leaves.
            volumes=old.stamp.volumes if left else (),
            snapshots=VolumeSnapshots.LEFT if left else None,
        )
        self._stamp(new, stamp)

    def _release(self, view: View, _step: Step, handling: Handling) -> None:
        old = _present(view.old)
        rejected = rejections_of(old.instance.config)
        if view.new is not None:
            # What failed after the update that is undone failed nevertheless.
            rejected = merged(rejected, rejections_of(view.new.instance.config))
        failed = old.stamp.fingerprint
        if view.new is not None and view.new.stamp.phase in {Phase.REJECTED, Phase.RETIRED}:
            failed = view.new.instance.base_image or failed
        if old.stamp.blame or _is_unwanted(view):
            rejected = with_rejection(rejected, failed, handling.now)
        if old.stamp.snapshots is not VolumeSnapshots.LEFT:
            # The instance goes free whatever becomes of them: a round removes what is left.
            remove_volume_snapshots(self._lxd, old.instance, old.stamp)
        settings = configuration.released(old.instance, rejected)
        covered = old.stamp.covers
        if covered is not None and covered.phase is Phase.COMMITTED:
            # The copy that its last good update keeps is still the way back.
            settings = replace(settings, config={**settings.config, STAMP_KEY: encoded(covered)})
        self._write(old.instance, settings)

    def _discard(self, view: View, _step: Step, _handling: Handling) -> None:
        new = _present(view.new)
        name, project = new.instance.name, new.instance.project
        if lost := lost_with(self._lxd, name, project=project):
            raise HeldError(
                f"remove {name}: a user made {lost} of it",
                hint=f"`lxc delete {name}` when they aren't needed",
            )
        if new.running:
            raise HeldError(f"remove {name}: somebody started it")
        self._lxd.instances.delete(name, project=project)


def _is_unwanted(view: View) -> bool:
    """Whether a user went back from the new version: it isn't to come again by itself.

    One that turned back for nobody's fault (a snapshot's freeze, a host that went down, a full pool)
    is tried again. What was committed once goes back only because a user says so.
    """
    new = view.new
    if new is None or new.stamp.phase not in {Phase.REJECTED, Phase.RETIRED}:
        return False
    return view.asked_back or view.stays_stopped or new.stamp.proof is not None


def _party(view: View, step: Step) -> Party:
    return _present(view.old if step.role is Role.OLD else view.new)


def _present(value: _Thing | None) -> _Thing:
    """Return what the decision saw; it never names a step for something that isn't there."""
    if value is None:
        raise HeldError("the updater chose a step for an instance that isn't there")
    return value
