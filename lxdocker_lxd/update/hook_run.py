"""Runs hooks: inside their instance, or on the host where root's configuration says so."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from lxdocker_lxd.errors import LxdError, LxdockerError, ToolError, UsageError
from lxdocker_lxd.lxd.calls import Command
from lxdocker_lxd.lxd.failures import (
    BusyError,
    CommandTimedOutError,
    NotRunningError,
    UnknownOutcomeError,
)
from lxdocker_lxd.lxd.ports import EventStream, Guests, Lxd
from lxdocker_lxd.lxd.records import Config
from lxdocker_lxd.ownership import ROOT
from lxdocker_lxd.trusted_path import check_trusted
from lxdocker_lxd.update.hook import (
    Choice,
    Hook,
    HookDeferredError,
    HookRefusedError,
    Occasion,
    Point,
    Said,
    environment_of,
    hooks_of,
    said_by,
)
from lxdocker_lxd.update.host_program import ProgramRun, run_program
from lxdocker_lxd.update.means import Gate, Judgement, PutOffError, Verdict
from lxdocker_lxd.update.transaction import Transaction, readable_stamp

_OUTPUT_BYTES = 4096
# LXD was restarted, or is at work on the instance: no reason to blame a version. Or whoever waits for
# the hook doesn't want to any more.
_NOTHING_OF_THE_HOOK = (UnknownOutcomeError, NotRunningError, BusyError, PutOffError)


class HookRunner:
    """Runs the hooks of one point in order, until one doesn't say go.

    Never raises for what a hook does. What says nothing of the hook passes: a connection to LXD that
    broke, an instance that is gone. After that, or a crash, a hook may be run again. ``heartbeat`` is
    called about each second while one runs on the host; ``program`` runs those as ``run_program`` does.
    """

    def __init__(
        self,
        guests: Guests,
        defined: Mapping[str, Hook],
        *,
        owner: int = ROOT,
        heartbeat: Callable[[], None] = lambda: None,
        program: Callable[..., ProgramRun] = run_program,
    ) -> None:
        self._guests = guests
        self._defined = defined
        self._owner = owner
        self._heartbeat = heartbeat
        self._program = program

    def run(self, occasion: Occasion, config: Config, *, running: bool) -> Said:
        """Return what the hooks say that expanded ``config`` names.

        In an instance that doesn't run, its own hooks are left out: there is nothing to prepare.
        """
        try:
            hooks = hooks_of(config, occasion.point, self._defined, project=occasion.project)
        except UsageError as error:
            return Said(choice=Choice.ABORT, reason=error.message)
        for hook in hooks:
            if hook.where == "host":
                said = self._on_host(hook, occasion)
            elif running:
                said = self._inside(hook, occasion)
            else:
                continue
            if said.choice is not Choice.GO:
                return said
        return Said()

    def _on_host(self, hook: Hook, occasion: Occasion) -> Said:
        try:
            check_trusted(Path(hook.words[0]), owner=self._owner, executable=True)
            ended = self._program(
                hook.words,
                environment=environment_of(occasion, hook),
                timeout_seconds=hook.timeout_seconds,
                output_bytes=_OUTPUT_BYTES,
                heartbeat=self._heartbeat,
            )
        except (ToolError, UsageError) as error:
            return Said(choice=Choice.ABORT, reason=f"the hook {hook.name}: {error.message}")
        return said_by(hook, ended.exit_code, ended.output, timed_out=ended.timed_out)

    def _inside(self, hook: Hook, occasion: Occasion) -> Said:
        command = Command(
            words=hook.words,
            environment=environment_of(occasion, hook),
            user_id=hook.user_id,
            group_id=hook.group_id,
            timeout_seconds=hook.timeout_seconds,
            output_bytes=_OUTPUT_BYTES,
        )
        try:
            ended = self._guests.execute(occasion.name, command, project=occasion.project)
        except CommandTimedOutError:
            return said_by(hook, 0, b"", timed_out=True)
        except _NOTHING_OF_THE_HOOK:
            raise
        except LxdError as error:
            return Said(choice=Choice.ABORT, reason=f"the hook {hook.name}: {error.message}")
        return said_by(hook, ended.exit_code, ended.stderr or ended.stdout)


class HookedUpdate:
    """The points of an update at which hooks are run, for an updater to call.

    ``complain`` is told what hooks said that nothing depends on.
    """

    def __init__(
        self, lxd: Lxd, runner: HookRunner, *, complain: Callable[[str], None] = lambda _said: None
    ) -> None:
        self._lxd = lxd
        self._runner = runner
        self._complain = complain

    def before_outage(self, transaction: Transaction) -> None:
        """Run the hooks before the outage; raise HookRefusedError when one doesn't say go,
        of the kind HookDeferredError when it only puts it off.
        """
        self._ask(_occasion(Point.BEFORE, transaction))

    def before_stage(self, transaction: Transaction) -> None:
        """Run the same hooks before anything is made; they are run again before the outage."""
        self._ask(replace(_occasion(Point.BEFORE, transaction), early=True))

    def _ask(self, occasion: Occasion) -> None:
        said = self._run(occasion)
        if said.choice is not Choice.GO:
            refused = HookDeferredError if said.choice is Choice.DEFER else HookRefusedError
            raise refused(said.reason, hint="the old version still runs, untouched")

    def after_start(self, name: str, project: str) -> Said:
        """Run the hooks after the health gate; what isn't go turns the update back."""
        return self._run(Occasion(point=Point.AFTER, project=project, name=name))

    def went_back(self, transaction: Transaction, reason: str) -> None:
        """Run the hooks after a rollback; the old version is back whatever they say."""
        try:
            said = self._run(replace(_occasion(Point.BACK, transaction), reason=reason))
        except LxdockerError as error:
            said = Said(choice=Choice.ABORT, reason=error.message)
        if said.choice is not Choice.GO:
            self._complain(f"{transaction.name}: after the rollback: {said.reason}")

    def _run(self, occasion: Occasion) -> Said:
        """Run the hooks of the occasion's point; the instance tells what the caller didn't know."""
        instance = self._lxd.instances.get(occasion.name, project=occasion.project)
        state = self._lxd.power.state(occasion.name, project=occasion.project)
        stamp = readable_stamp(instance)
        if occasion.point is Point.AFTER:
            told = replace(
                occasion,
                fingerprint=instance.base_image,
                transaction=stamp.transaction if stamp is not None else "",
            )
        else:
            told = replace(occasion, running=instance.base_image)
        return self._runner.run(told, instance.expanded_config, running=state.status == "Running")


def _occasion(point: Point, transaction: Transaction) -> Occasion:
    return Occasion(
        point=point,
        project=transaction.project,
        name=transaction.name,
        fingerprint=transaction.fingerprint,
        transaction=transaction.id,
    )


class HookedGate:
    """Implements :class:`Gate`: healthy is what the inner gate and then the ``after`` hooks accept."""

    def __init__(self, gate: Gate, hooks: HookedUpdate) -> None:
        self._gate = gate
        self._hooks = hooks

    def listen(self) -> AbstractContextManager[EventStream | None]:
        """Listen to LXD's events as the inner gate does."""
        return self._gate.listen()

    def judge(self, name: str, *, project: str, events: EventStream | None = None) -> Verdict:
        """Watch the instance, then ask its hooks."""
        verdict = self._gate.judge(name, project=project, events=events)
        if not verdict.healthy:
            return verdict
        said = self._hooks.after_start(name, project)
        if said.choice is Choice.GO:
            return verdict
        return Verdict(judgement=Judgement.FAILED, reason=said.reason, check="hook.after")
