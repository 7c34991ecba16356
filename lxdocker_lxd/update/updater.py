"""One update at a time, from its beginning or from wherever it was interrupted, to its end.

The loop looks, decides and does one step, until there is nothing to do. What it was told by LXD
about the last step hardly matters: the next look tells.
"""

import contextlib
from typing import Unpack

from lxdocker_lxd.errors import LxdError, LxdockerError, StorageError
from lxdocker_lxd.lxd.failures import (
    BusyError,
    NoSpaceError,
    NotRunningError,
    RefusedError,
    StartFailedError,
    UnreachableError,
    WrongStateError,
)
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Instance
from lxdocker_lxd.lxd.server_records import ServerInfo
from lxdocker_lxd.update.absence import AWAY, LOOK_AGAIN, Absence
from lxdocker_lxd.update.adoption import take_over
from lxdocker_lxd.update.attempt import Attempt, Noted, resumed
from lxdocker_lxd.update.configuration import PROTECT_START_EXTENSION
from lxdocker_lxd.update.dependants import Dependants
from lxdocker_lxd.update.ending import has_crashed
from lxdocker_lxd.update.journal import Journal
from lxdocker_lxd.update.journal_record import Event, accounts, was_put_off
from lxdocker_lxd.update.means import Judgement, Means, Outcome, PutOffError
from lxdocker_lxd.update.observer import Observer
from lxdocker_lxd.update.permissions import ACCESS_EXTENSION, permissions_left_with
from lxdocker_lxd.update.procedure import BEFORE_OUTAGE, ENDS, Act, Step, decide
from lxdocker_lxd.update.steps import AnotherUpdaterError, Handling, HeldError, Steps
from lxdocker_lxd.update.stopping import killed_remark
from lxdocker_lxd.update.transaction import Role, Transaction, VolumeName
from lxdocker_lxd.update.view import View

MOST_STEPS = 80
INTERRUPTED = "interrupted before its outage"
MOST_FAILURES = 6
# Each further try prolongs the outage, and the way back is open.
_MOST_REFUSALS_FORWARD = 2
# A snapshot of a large instance on a plain directory freezes it for as long as the copy takes.
LONGEST_WAIT_SECONDS = 900.0
_WAIT_SECONDS = 2.0
# What follows from something that isn't there, and so is looked at twice.
_LAST_WORDS = (ENDS - {Act.COMMITTED}) | {Act.DISCARD, Act.TURN_BACK, Act.RELEASE}
_CONFIRM_SECONDS = 0.3
# LXD serves the files of a stopped instance for some time after the last one was read. Where the
# instance was renamed meanwhile, a start waits for that, and so would an outage; and LXD 5.0 can't
# read files of either name any more.
_FILE_SERVER_SECONDS = 16.0
_REMAPPING = frozenset({Act.PREPARE, Act.REMAP})
_WITHOUT_OUTAGE = BEFORE_OUTAGE | {Act.END_STAGE, Act.STAGE_AGAIN, Act.RELEASE, Act.DISCARD}
# An answer that nobody understands may be another one a moment later.
_PERHAPS_ONCE = (RefusedError, StartFailedError)
_NOTHING_ASKED = (BusyError, NotRunningError, UnreachableError)
_FORWARD = frozenset(
    {
        Act.STOP,
        Act.SNAPSHOT_VOLUMES,
        Act.PARK,
        Act.GIVE_NAME_UP,
        Act.TAKE_NAME,
        Act.RESTORE,
        Act.START,
    }
)


class Updater:
    """Updates, turns back and finishes what was interrupted; one transaction at a time.

    Without room in the journal no update begins, nor does an outage. From the outage on a journal that
    can't be written is a problem to report: what is done is also written into LXD, before the next
    step. LXD that is away in an outage is waited for, fifteen minutes at most; then, and before the
    outage, the error passes through, and the transaction stays open.
    """

    def __init__(self, lxd: Lxd, journal: Journal, means: Means) -> None:
        self._lxd = lxd
        self._journal = journal
        self._means = means
        self._observer = Observer(lxd)
        self._steps = Steps(lxd)
        self.draw_id = means.draw_id
        self.dependants = Dependants(lxd, journal, means)
        self._absence = Absence(pause=means.pause, tell=means.tell)
        self._server: ServerInfo | None = None

    @property
    def interrupted(self) -> bool:
        """Whether nothing more is to begin: whoever started the updater wants an end."""
        return self._means.interrupted()

    def update(
        self,
        name: str,
        fingerprint: str,
        *,
        project: str,
        volumes: tuple[VolumeName, ...] = (),
    ) -> Outcome:
        """Bring an instance to an image that is in its project's store.

        Its ``volumes`` are snapshotted after the stop, and get that content again if the update
        turns back.
        """
        transaction = Transaction(
            id=self._means.draw_id(), project=project, name=name, fingerprint=fingerprint
        )
        holder = self._observer.instance(name, project)
        previous = holder.base_image if holder is not None else ""
        down = holder if holder is not None and holder.status == "Stopped" else None
        owed = down is not None and self.dependants.owes_start(project, name)
        crashed = down is not None and not owed and has_crashed(self._lxd, down, self._means.pause)
        run = Attempt(
            transaction=transaction,
            fresh=True,
            holder_crashed=crashed,
            start_owed=owed,
            files_read=holder is not None and not holder.running,
            volumes=volumes,
        )
        run.ask_early = was_put_off(self._journal.read(), transaction)
        self._journal.reserve()
        self._note(run, Event.BEGUN, previous=previous)
        return self._loop(run)

    def resume(self, transaction: Transaction) -> Outcome:
        """Finish an interrupted transaction, whatever of it is left in LXD and in the journal."""
        account = accounts(self._journal.read()).get(transaction.id)
        owed = self.dependants.owes_start(transaction.project, transaction.name)
        return self._loop(resumed(transaction, account, start_owed=owed))

    def obstacle(self, instance: Instance, fingerprint: str) -> str:
        """Return why no update of the instance to the image is to begin; empty when nothing is known."""
        return self._means.obstacle(instance, fingerprint)

    def turn_back(self, transaction: Transaction, *, restore_volumes: bool = False) -> Outcome:
        """Return a committed update to its parked copy, because a user asks for it.

        Volumes keep what was written since, unless ``restore_volumes``. Raises NotItsCopyError when
        the name belongs to an instance that isn't the copy's successor.
        """
        take_over(self._lxd, transaction)
        run = Attempt(
            transaction=transaction,
            back=True,
            became=True,
            asked_back=True,
            restore_volumes=restore_volumes,
            reason="asked for",
        )
        # A version that filled the disk is one to go back from.
        with contextlib.suppress(StorageError):
            self._journal.reserve()
        self._note(run, Event.BACK, reason="asked for")
        try:
            self.dependants.stop(transaction)
        except StorageError as error:
            run.problems.append(error.message)
        return self._loop(run)

    # ---- the loop

    def _loop(self, run: Attempt) -> Outcome:
        with run.listening:
            return self._work(run)

    def _work(self, run: Attempt) -> Outcome:
        self._absence.end()
        while run.steps < MOST_STEPS:
            run.steps += 1
            view = self._look(run)
            if view is None:
                continue
            step = decide(view)
            if step.act in _LAST_WORDS and run.confirmed != step:
                # The reads of a look aren't one: LXD may finish something between them.
                run.confirmed = step
                self._means.pause(_CONFIRM_SECONDS)
                continue
            run.confirmed = None
            if step.act is Act.WAIT:
                if run.waited_seconds >= LONGEST_WAIT_SECONDS:
                    return self._end(run, Step(act=Act.HOLD, reason=step.reason))
                run.waited_seconds += _WAIT_SECONDS
                run.steps -= 1
                self._means.pause(_WAIT_SECONDS)
                continue
            if self.interrupted and step.act in BEFORE_OUTAGE and not run.give_up:
                run.give_up, run.interrupted, run.reason = True, True, INTERRUPTED
                continue
            self._means.on_step(run.transaction, step)
            if step.act in ENDS:
                return self._end(run, step)
            try:
                self._do(step, view, run)
            except HeldError as error:
                return self._end(run, Step(act=Act.HOLD, reason=error.message))
            except LOOK_AGAIN as error:
                self._failed_softly(step, run, error)
            except LxdockerError as error:
                held = self._failed(step, run, error)
                if held is not None:
                    return self._end(run, held)
        return self._end(run, Step(act=Act.HOLD, reason="too many steps without an end"))

    def _look(self, run: Attempt) -> View | None:
        """Return what is seen, or None after a pause when nothing could be."""
        try:
            return self._observer.look(run)
        except (LxdError, UnreachableError) as error:
            self._count(run, error)
            return None

    def _do(self, step: Step, view: View, run: Attempt) -> None:
        run.outage = run.outage or step.act not in _WITHOUT_OUTAGE
        match step.act:
            case Act.STAGE if run.ask_early:
                self._means.before_stage(run.transaction)
                run.ask_early = False
            case Act.OUTAGE:
                self._enter_outage(run)
            case Act.STOP | Act.PARK:
                run.outage_began = run.outage_began or self._means.clock()
                run.stop_asked = True
            case Act.LEASE if run.files_read:
                run.files_read = False
                self._means.pause(_FILE_SERVER_SECONDS)
                return
            case Act.TAKE_NAME if step.role is Role.NEW:
                self._note(run, Event.BECAME)
                run.became = True
            case Act.GATE:
                self._gate(run)
                return
            case Act.COMMIT if not run.committed:
                self._note(run, Event.COMMITTED)
                run.committed = True
            case Act.TURN_BACK:
                self._turn(run, step.reason or run.reason, blame=run.blame)
            case Act.END_STAGE:
                run.cold = True
            case Act.RELEASE | Act.DISCARD:
                run.give_up = True
                run.reason = run.reason or step.reason
        self._perform(step, view, run)

    def _perform(self, step: Step, view: View, run: Attempt) -> None:
        if step.act is Act.START and step.role is Role.NEW:
            # What is done right after the start counts as well.
            run.listen(self._means.gate)
        self._steps.perform(step, view, self._handling(run))
        if step.act is Act.STAGE:
            run.files_read = self._means.check_stage(run.transaction) or run.files_read
        self._done(step, view, run)

    def _enter_outage(self, run: Attempt) -> None:
        if not run.agreed:
            self._means.before_outage(run.transaction)
            run.agreed = True
        if self.interrupted:
            run.interrupted = True
            raise PutOffError(INTERRUPTED)
        # What was staged since, or a hook's backup, may have filled the disk.
        self._journal.reserve()
        run.patient = True
        self.dependants.stop(run.transaction)
        self._note(run, Event.OUTAGE)
        run.outage, run.stop_asked = True, False

    def _done(self, step: Step, view: View, run: Attempt) -> None:
        run.failures = 0
        self._absence.end()
        if step.act is Act.RESTORE and step.role is Role.NEW:
            run.restored = True
        elif step.act is Act.REMAP:
            # Any start ends LXD's file server, even one that fails: the stage's own. Who looked into
            # the old instance waits still.
            run.remapped, run.files_read = True, not _runs(view)
        elif step.act is Act.START:
            run.started = step.role is Role.NEW
            run.outage_ended = self._means.clock()
        elif step.act is Act.NOTE_STARTED:
            run.stays_stopped = False
        elif step.act is Act.COMMIT and view.old is None:
            run.reason = run.reason or "the parked copy was removed by a user"
        elif step.act is Act.COMMIT and view.saved is not None and not view.saved.running:
            run.reason = run.reason or "it is stopped, so nothing of the new version has run yet"
        if step.act is Act.COMMIT and view.old is not None:
            self._tell_permissions(run, view.old.instance)

    def _gate(self, run: Attempt) -> None:
        one = run.transaction
        verdict = self._means.gate.judge(one.name, project=one.project, events=run.events)
        if verdict.healthy:
            run.passed, run.check = True, verdict.check or verdict.reason
        else:
            run.stays_stopped = verdict.judgement is Judgement.STOPPED
            if run.stays_stopped:
                self.dependants.note_start(run.transaction, "it was stopped by a user")
            run.evidence = verdict.evidence
            self._turn(run, verdict.reason, blame=verdict.judgement is Judgement.FAILED)

    def _turn(self, run: Attempt, reason: str, *, blame: bool) -> None:
        """Write down that the transaction goes back, before the first step that does."""
        if not run.back:
            run.back, run.blame, run.reason = True, blame, reason
            self._note(run, Event.BACK, reason=reason, blame=blame, evidence=run.evidence)

    # ---- what goes wrong

    def _failed_softly(self, step: Step, run: Attempt, error: LxdockerError) -> None:
        if step.act is Act.STAGE and not isinstance(error, NotRunningError | UnreachableError):
            # Made or not, nobody watched it being unpacked: it doesn't count as proved.
            run.give_up, run.failed, run.reason = True, True, error.message
        elif step.act is Act.REMAP and not isinstance(error, _NOTHING_ASKED):
            run.cold = True
        elif step.act is Act.STOP and isinstance(error, WrongStateError) and run.fresh:
            # Nobody but a user did it, unless an earlier request of ours was late.
            run.stop_asked = run.stop_unsure
        elif step.act is Act.STOP:
            run.stop_unsure = True
        self._count(run, error)

    def _count(self, run: Attempt, error: LxdockerError) -> None:
        if (run.outage or run.patient) and isinstance(error, AWAY):
            run.steps -= 1
            self._absence.wait(run.transaction.name, error)
            return
        run.failures += 1
        if run.failures > MOST_FAILURES:
            if not isinstance(error, AWAY):
                self._note_held(run, error.message)
            raise error
        self._means.pause(min(0.1 * 2**run.failures, 10))

    def _failed(self, step: Step, run: Attempt, error: LxdockerError) -> Step | None:
        """Give up, try again, turn back or hold, as far as the step had come."""
        if step.act in _REMAPPING and not isinstance(error, NoSpaceError):
            # The real start decides.
            run.cold = True
            return None
        if step.act in BEFORE_OUTAGE or isinstance(error, AnotherUpdaterError):
            run.give_up, run.reason = True, error.message
            run.put_off = isinstance(error, PutOffError)
            run.failed = not run.put_off and not isinstance(error, AnotherUpdaterError)
            return None
        forward = step.act in _FORWARD and not run.back and isinstance(error, LxdError)
        most = _MOST_REFUSALS_FORWARD if forward else MOST_FAILURES
        if run.failures < most and (not forward or isinstance(error, _PERHAPS_ONCE)):
            self._count(run, error)
        elif forward:
            # A full pool, a taken address and a lost request are no fault of the version.
            # What keeps the old version from its start may well keep the new one from it, too.
            refused = step.act is Act.START and isinstance(error, StartFailedError)
            blame = refused and not run.start_owed
            self._turn(run, error.message, blame=blame)
            run.failures = 0
        else:
            return Step(act=Act.HOLD, reason=error.message)
        return None

    # ---- the end

    def _end(self, run: Attempt, step: Step) -> Outcome:
        reason = step.reason or run.reason
        seconds = run.outage_seconds
        if step.act is not Act.HOLD:
            # Nothing is left to be done, whether that can be written down or not.
            run.outage = True
            self._note(
                run,
                Event.ENDED,
                result=step.act,
                reason=reason,
                blame=run.blame,
                outage_seconds=seconds,
                evidence=run.evidence,
                killed=run.killed,
                put_off=run.put_off,
                interrupted=run.interrupted and step.act is Act.GIVEN_UP,
            )
        else:
            self._note_held(run, reason)
        if step.act is Act.ROLLED_BACK:
            # The old version is back whatever they say who are told.
            with contextlib.suppress(LxdError):
                self._means.went_back(run.transaction, reason)
        if step.act is Act.COMMITTED and run.passed:
            self.dependants.note_start(run.transaction)
        self.dependants.ended(run.transaction, step.act, fresh=run.fresh)
        return Outcome(
            transaction=run.transaction,
            act=step.act,
            reason=reason,
            blame=run.blame,
            failed=run.failed and step.act is Act.GIVEN_UP,
            outage_seconds=seconds,
            evidence=run.evidence,
            killed=run.killed,
            problems=tuple(dict.fromkeys(run.problems)),
        )

    def _note_held(self, run: Attempt, reason: str) -> None:
        """Write down, once, that it waits for what stands in its way."""
        if run.fresh:
            with contextlib.suppress(StorageError):
                self._note(run, Event.HELD, reason=reason)

    def _note(self, run: Attempt, event: Event, **fields: Unpack[Noted]) -> None:
        """Write down what was decided; what can't be written stops nothing that is on its way."""
        run.write(self._journal, event, self._means.clock(), **fields)

    def _supports(self, extension: str) -> bool:
        if self._server is None:
            self._server = self._lxd.server.info()
        return self._server.supports(extension)

    def _tell_permissions(self, run: Attempt, copy: Instance) -> None:
        # The update is done, whatever becomes of a remark.
        with contextlib.suppress(LxdockerError):
            if self._supports(ACCESS_EXTENSION):
                remark = permissions_left_with(self._lxd, copy, run.transaction.name)
                run.reason = "; ".join(text for text in (run.reason, remark) if text)

    def _handling(self, run: Attempt) -> Handling:

        def note_kill(instance: Instance, seconds: int) -> None:
            run.killed = killed_remark(instance.name, seconds)

        return Handling(
            on_kill=note_kill,
            protect_start=self._supports(PROTECT_START_EXTENSION),
            now=self._means.clock(),
            retention_until=self._means.clock() + self._means.retention,
            blame=run.blame,
            check=run.check,
            volumes=run.volumes,
            restore_volumes=run.restore_volumes,
        )


def _runs(view: View) -> bool:
    return view.holder is not None and view.holder.running
