"""Park and replace: the next step of an update, from what is observed and what was decided.

There is one function for an update that goes well, for one that turns back and for one that was
interrupted anywhere: it looks at the two instances of a transaction as they are and names the next
step. Nothing is remembered between steps but what the journal and the stamps hold. A state nobody
foresaw is held: nothing is touched, somebody is told.

Forward: make the successor aside, remap its files, prove it, lease the name, stop, park the old, rename both, give
the successor the name's exact configuration, start, wait for health, commit. Back: the same with
the roles exchanged.
"""

from dataclasses import dataclass
from enum import StrEnum

from lxdocker_lxd.update.configuration import differences
from lxdocker_lxd.update.transaction import Phase, Role, VolumeSnapshots, is_ours, readable_stamp
from lxdocker_lxd.update.view import Party, View


class Act(StrEnum):
    """One step; each is one call to LXD, or one decision written down."""

    STAGE = "stage"
    PREPARE = "prepare"
    REMAP = "remap"
    END_STAGE = "end stage"
    STAGE_AGAIN = "stage again"
    PROVE = "prove"
    LEASE = "lease"
    OUTAGE = "outage"
    STOP = "stop"
    PARK = "park"
    SNAPSHOT_VOLUMES = "snapshot volumes"
    RESTORE_VOLUMES = "restore volumes"
    GIVE_NAME_UP = "give name up"
    TAKE_NAME = "take name"
    RESTORE = "restore"
    START = "start"
    GATE = "gate"
    COMMIT = "commit"
    KEEP = "keep"
    NOTE_STARTED = "note started"
    TURN_BACK = "turn back"
    REJECT = "reject"
    RELEASE = "release"
    DISCARD = "discard"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    GIVEN_UP = "given up"
    USER_TOOK_OVER = "user took over"
    WAIT = "wait"
    HOLD = "hold"


ENDS = frozenset(
    {Act.COMMITTED, Act.ROLLED_BACK, Act.GIVEN_UP, Act.USER_TOOK_OVER, Act.HOLD},
)
# What is done before anything happens to the instance itself; given up, it leaves no trace.
BEFORE_OUTAGE = frozenset(
    {Act.STAGE, Act.PREPARE, Act.REMAP, Act.PROVE, Act.LEASE, Act.OUTAGE},
)


_UP_TO_DATE = "it already has this version: another updater was faster"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What to do next, to which of the two instances, and why."""

    act: Act
    role: Role | None = None
    reason: str = ""


def decide(view: View) -> Step:
    """Return the next step; pure, total, and the same after a crash as before it."""
    old, new = view.old, view.new
    seen = [party.instance for party in (old, new) if party is not None]
    if old is None and view.holder is not None:
        seen.append(view.holder)
    strange = [one for one in seen if not (one.running or one.status == "Stopped")]
    if view.unreadable:
        return _hold(f"the stamp of {view.unreadable} can't be read by this version")
    if strange:
        # A snapshot freezes a container, LXD starts and stops others: these states pass.
        reason = f"{strange[0].name} is {strange[0].status.lower()}, neither running nor stopped"
        return Step(act=Act.WAIT, reason=reason)
    if old is not None and not old.named and not old.waiting:
        return _moved_by_user(view, old)
    if old is None:
        return _without_old(view, new)
    if old.named:
        return _old_has_name(view, old, new)
    return _old_waits(view, old, new)


def _hold(reason: str) -> Step:
    return Step(act=Act.HOLD, reason=reason)


def _without_old(view: View, new: Party | None) -> Step:
    """Before the lease, after the release, or after a user removed the old instance."""
    if new is None:
        if view.back or view.give_up or not view.fresh:
            return Step(act=Act.ROLLED_BACK if view.back else Act.GIVEN_UP)
        if view.holder is None:
            return _user("it was deleted")
        if view.is_up_to_date:
            return Step(act=Act.GIVEN_UP, reason=_UP_TO_DATE)
        return Step(act=Act.STAGE)
    if new.named:
        return _new_alone(view, new)
    if new.stamp.phase in {Phase.REJECTED, Phase.RETIRED}:
        return Step(act=Act.ROLLED_BACK)
    if new.running and new.stamp.phase is Phase.REMAPPING:
        return Step(act=Act.END_STAGE, role=Role.NEW, reason="its start was to fail")
    if view.holder is None:
        if view.became:
            return _hold("the name is gone, and only the version that took it is left")
        return Step(act=Act.DISCARD, role=Role.NEW, reason="the instance was deleted")
    if view.give_up or not view.fresh:
        return Step(act=Act.DISCARD, role=Role.NEW, reason="nothing was changed yet")
    return _staged(view, new)


def _staged(view: View, new: Party) -> Step:
    """Take one step with a successor that is made, before anything is done to the old instance."""
    phase = new.stamp.phase
    if new.running:
        return _hold(f"somebody started {new.instance.name}")
    if view.is_up_to_date:
        return Step(act=Act.DISCARD, role=Role.NEW, reason=_UP_TO_DATE)
    if phase is Phase.REMAPPING and view.cold:
        # Which of its files LXD has remapped, nobody knows.
        return Step(act=Act.STAGE_AGAIN, role=Role.NEW, reason="it wasn't remapped to the end")
    if phase is Phase.REMAPPING and not view.remapped:
        return Step(act=Act.REMAP, role=Role.NEW)
    if phase is Phase.STAGED and view.remaps:
        return Step(act=Act.PREPARE, role=Role.NEW)
    if phase in {Phase.STAGED, Phase.REMAPPING}:
        return Step(act=Act.PROVE, role=Role.NEW)
    return Step(act=Act.LEASE, role=Role.OLD)


def _new_alone(view: View, new: Party) -> Step:
    """The successor has the name and a user removed the parked instance."""
    if new.stamp.phase is Phase.COMMITTED:
        return Step(act=Act.COMMITTED)
    if view.back:
        return _hold("the new version failed, and the parked old one was removed")
    return _bring_up(view, new)


def _user(reason: str) -> Step:
    return Step(act=Act.USER_TOOK_OVER, reason=reason)


def _moved_by_user(view: View, old: Party) -> Step:
    """A user renamed the old instance: it gets its settings back where it is, and goes free."""
    if view.new is not None and view.new.named:
        return _new_alone(view, view.new)
    reason = "it was renamed by somebody"
    if old.stamp.phase is Phase.LEASED:
        return Step(act=Act.RELEASE, role=Role.OLD, reason=reason)
    return _settle_old(view, old, reason=reason)


def _old_has_name(view: View, old: Party, new: Party | None) -> Step:
    phase = old.stamp.phase
    if new is not None and new.named:
        return _hold("both instances have the name")
    if phase in {Phase.ROLLBACK, Phase.RETURNED}:
        return _settle_old(view, old, reason="")
    if phase is Phase.LEASED:
        if new is None or new.running or view.give_up or view.back or not view.fresh:
            return Step(act=Act.RELEASE, role=Role.OLD, reason="no outage began")
        saved = old.stamp.saved
        expected = saved is not None and saved.running and not old.stamp.crashed
        if old.running is not expected:
            return Step(act=Act.RELEASE, role=Role.OLD, reason="it was started or stopped")
        return Step(act=Act.OUTAGE, role=Role.OLD)
    if new is None or view.back or phase is Phase.KEPT:
        return Step(act=Act.TURN_BACK, role=Role.OLD, reason="there is no successor")
    return _give_name_up(view, old, new)


def _give_name_up(view: View, leaving: Party, coming: Party) -> Step:
    """Take one step that frees the name: stop, park, rename away."""
    role = leaving.stamp.role
    saved = view.saved
    if saved is None:
        return _hold("no stamp holds the configuration")
    if role is Role.OLD and coming.running:
        return Step(act=Act.TURN_BACK, role=Role.OLD, reason=f"{coming.instance.name} was started")
    if leaving.running and not saved.running:
        return Step(act=Act.NOTE_STARTED, role=Role.OLD, reason="somebody started it")
    if leaving.running:
        return Step(act=Act.STOP, role=role)
    if view.stopped_by_somebody and saved.running:
        return Step(act=Act.TURN_BACK, role=Role.OLD, reason="somebody stopped it")
    due = leaving.stamp.volumes and leaving.stamp.snapshots is None
    if role is Role.OLD and saved.running and due and not leaving.parked:
        return Step(act=Act.SNAPSHOT_VOLUMES, role=role)
    if not leaving.parked:
        return Step(act=Act.PARK, role=role)
    if not coming.waiting or not coming.stopped:
        return _hold(f"{coming.instance.name} isn't waiting, stopped, under its own name")
    return Step(act=Act.GIVE_NAME_UP, role=role)


def _settle_old(view: View, old: Party, *, reason: str) -> Step:
    """Take one step that makes the old instance what it was: settings, power, freedom."""
    saved = old.stamp.saved
    if saved is None:
        return _hold("the old instance's stamp doesn't hold its configuration")
    phase = old.stamp.phase
    if phase is not Phase.RETURNED:
        # NICs can't be exchanged safely below a guest that somebody started while it was parked.
        if old.running and old.parked and saved.nics:
            return Step(act=Act.STOP, role=Role.OLD, reason="it was started while parked")
        return Step(act=Act.RESTORE, role=Role.OLD, reason=reason)
    new = view.new
    if old.stopped and old.stamp.snapshots is VolumeSnapshots.TAKEN and not _never_ran(new):
        return Step(act=Act.RESTORE_VOLUMES, role=Role.OLD)
    if saved.running and old.stopped:
        return Step(act=Act.START, role=Role.OLD)
    if new is not None and new.waiting and new.stamp.phase in {Phase.RESTORED, Phase.COMMITTED}:
        return Step(act=Act.REJECT, role=Role.NEW)
    return Step(act=Act.RELEASE, role=Role.OLD, reason=reason)


def _never_ran(new: Party | None) -> bool:
    """Whether the successor surely never had the volumes: it never came so far."""
    return new is not None and new.stamp.phase in {Phase.STAGED, Phase.REMAPPING, Phase.PROVED}


def _old_waits(view: View, old: Party, new: Party | None) -> Step:
    phase = old.stamp.phase
    if new is None or not (new.named or new.waiting):
        return _successor_gone(view, old)
    if view.stranger:
        return _hold("the name was taken by an instance that isn't the updater's")
    if old.running:
        return _hold(f"somebody started the parked {old.instance.name}")
    if phase is Phase.ROLLBACK:
        if view.target_of_return != old.stamp.saved:
            return Step(act=Act.TURN_BACK, role=Role.OLD, reason="somebody changed it")
        if new.named:
            return _give_name_up(view, new, old)
        return Step(act=Act.TAKE_NAME, role=Role.OLD)
    if view.back:
        return Step(act=Act.TURN_BACK, role=Role.OLD)
    if phase is Phase.KEPT:
        return Step(act=Act.COMMITTED)
    if new.waiting and new.running:
        return Step(act=Act.TURN_BACK, role=Role.OLD, reason=f"{new.instance.name} was started")
    if new.waiting:
        return Step(act=Act.TAKE_NAME, role=Role.NEW)
    if new.stamp.phase is Phase.COMMITTED:
        return Step(act=Act.KEEP, role=Role.OLD)
    return _bring_up(view, new)


def _successor_gone(view: View, old: Party) -> Step:
    """The old instance waits, parked, and there is no successor."""
    if view.holder is not None:
        stamp = readable_stamp(view.holder)
        if stamp is not None and is_ours(view.holder) and stamp.phase is Phase.COMMITTED:
            return Step(act=Act.KEEP if old.stamp.phase is not Phase.KEPT else Act.COMMITTED)
        return _user("another instance has the name; the parked one stays")
    if old.stamp.phase is Phase.ROLLBACK:
        return Step(act=Act.TAKE_NAME, role=Role.OLD)
    if view.asked_back:
        return Step(act=Act.TURN_BACK, role=Role.OLD, reason="asked for")
    if old.stamp.phase is Phase.KEPT or view.became:
        return _user("the new version was deleted; the parked one stays")
    return Step(act=Act.TURN_BACK, role=Role.OLD, reason="the successor is gone")


def _bring_up(view: View, new: Party) -> Step:
    """Take one step that makes the successor what the name stands for."""
    saved = view.saved
    if saved is None:
        return _hold("no stamp holds the configuration")
    if view.committed or view.passed:
        return Step(act=Act.COMMIT, role=Role.NEW)
    if new.running and not saved.running and view.old is not None:
        return Step(act=Act.NOTE_STARTED, role=Role.OLD, reason="somebody started it")
    if new.stamp.phase is not Phase.RESTORED:
        if new.running:
            return Step(act=Act.STOP, role=Role.NEW, reason="it was started while parked")
        return Step(act=Act.RESTORE, role=Role.NEW)
    if new.stopped and not view.started:
        # Later differences are a user's; those right after the last write are LXD's or ours.
        asked = new.stamp.saved if view.restored else None
        left = differences(new.instance, asked) if asked is not None else ()
        if left:
            reason = f"not restored: {', '.join(left)}"
            return Step(act=Act.TURN_BACK, role=Role.OLD, reason=reason)
        return Step(act=Act.START if saved.running else Act.COMMIT, role=Role.NEW)
    return Step(act=Act.GATE, role=Role.NEW)
