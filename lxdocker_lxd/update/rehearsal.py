"""What would be done, call by call: the updater itself, at work on a LXD that only pretends.

There is no second list of steps to fall behind the first. Whatever a round, a return, recovery or the
removal of copies would ask of LXD is asked of a picture of it, which notes each request. Commands
inside instances and programs of the host end well here, and so does a health check that can be
understood: what follows a failure can't be known before.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime

from lxdocker_lxd.lxd.ports import EventStream, Lxd
from lxdocker_lxd.lxd.records import Instance
from lxdocker_lxd.lxd.rehearsed_lxd import RehearsedLxd
from lxdocker_lxd.lxd.request import Request
from lxdocker_lxd.ownership import ROOT
from lxdocker_lxd.update.call import Call, Difference, call_of, differences_of
from lxdocker_lxd.update.claim import Claim, OtherUpdaterError
from lxdocker_lxd.update.copy_ages import CopyAges
from lxdocker_lxd.update.declared_volumes import DeclaredVolumes
from lxdocker_lxd.update.gate import watched_instance
from lxdocker_lxd.update.health_check import HealthError, Kind
from lxdocker_lxd.update.hook import Hook
from lxdocker_lxd.update.hook_run import HookedGate, HookedUpdate, HookRunner
from lxdocker_lxd.update.host_program import ProgramRun
from lxdocker_lxd.update.instance_probe import InstanceProbe
from lxdocker_lxd.update.journal_record import Entry
from lxdocker_lxd.update.means import Judgement, Means, Outcome, Verdict
from lxdocker_lxd.update.polled_images import PolledImages
from lxdocker_lxd.update.problem import Problems
from lxdocker_lxd.update.procedure import ENDS, Step
from lxdocker_lxd.update.recovery import reap, recover
from lxdocker_lxd.update.remapping import BARRIER
from lxdocker_lxd.update.retention import RetentionDefaults
from lxdocker_lxd.update.rounds import Report, Rounds
from lxdocker_lxd.update.scene import Picture
from lxdocker_lxd.update.transaction import Role, Transaction
from lxdocker_lxd.update.updater import Updater

MISSING = frozenset({BARRIER["source"]})
# What a round does outside of transactions, by the request's method and whether it is an instance's.
_ERRANDS = {
    ("patch", True): "note source",
    ("post", False): "fetch image",
    ("delete", True): "remove copy",
    ("delete", False): "remove image",
    ("patch", False): "claim",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """What an instance's name would stand for afterwards that it doesn't stand for now."""

    project: str
    name: str
    differences: tuple[Difference, ...]


def _is_of(transaction: Transaction, name: str) -> bool:
    """Whether an instance is one of an update's, and none that depends on it."""
    return name in {transaction.name, *(transaction.parked(role) for role in Role)}


class _Notes:
    """Implements the port Journal in memory, beginning with what the real one holds."""

    def __init__(self, entries: tuple[Entry, ...]) -> None:
        self._entries = list(entries)

    def reserve(self) -> None:
        """Need no room on any disk."""

    def append(self, entry: Entry) -> None:
        """Note the entry."""
        self._entries.append(entry)

    def read(self) -> tuple[Entry, ...]:
        """All of them."""
        return tuple(self._entries)


class _Gate:
    """Implements the port Gate: asks once what can be asked, and takes it for healthy.

    What the new image asks for isn't known before it is unpacked: that of ``real``'s instance stands
    for it.
    """

    def __init__(self, lxd: Lxd, real: Lxd, note: Callable[[str, str, str], None]) -> None:
        self._lxd = lxd
        self._real = real
        self._note = note

    def listen(self) -> AbstractContextManager[EventStream | None]:
        """Hear nothing: what only pretends to start sends no events."""
        return contextlib.nullcontext()

    def judge(
        self,
        name: str,
        *,
        project: str,
        events: EventStream | None = None,  # noqa: ARG002 - the port's
    ) -> Verdict:
        """Say that it is healthy, unless nobody can understand its check."""
        instance = self._lxd.instances.get(name, project=project)
        try:
            watched = watched_instance(self._real, instance)
        except HealthError as error:
            return Verdict(judgement=Judgement.UNDECIDED, reason=error.message)
        check = watched.check
        if check.kind in {Kind.TCP, Kind.HTTP}:
            self._note(project, name, f"ask its port: {check.label}")
        else:
            InstanceProbe(self._lxd, name, project, converted=watched.converted).look(check)
        return Verdict(judgement=Judgement.HEALTHY)


class Rehearsal:
    """One rehearsal: ask it for one piece of work, then for its calls. Changes nothing."""

    def __init__(  # noqa: PLR0913 - what the real updater is given
        self,
        lxd: Lxd,
        entries: tuple[Entry, ...],
        clock: Callable[[], datetime],
        *,
        projects: frozenset[str] = frozenset(),
        hooks: Mapping[str, Hook] | None = None,
        owner: int = ROOT,
        polled: PolledImages | None = None,
        ages: CopyAges | None = None,
        retention: RetentionDefaults | None = None,
        claimant: str = "",
    ) -> None:
        self._real = lxd
        self._projects = projects
        self._claimant = claimant
        self._polled = polled
        self._ages = ages
        self._retention = retention
        self._clock = clock
        self._drawn = 0
        self._at_work: tuple[Transaction, Step] | None = None
        self._found: list[Call] = []
        self._pretending = RehearsedLxd(lxd, self._asked, missing=MISSING, clock=clock)
        self._journal = _Notes(entries)
        runner = HookRunner(
            self._pretending.guests, hooks or {}, owner=owner, program=self._program
        )
        hooked = HookedUpdate(self._pretending, runner)
        means = Means(
            gate=HookedGate(_Gate(self._pretending, lxd, self._checked), hooked),
            obstacle=DeclaredVolumes(self._pretending).problem,
            before_stage=hooked.before_stage,
            before_outage=hooked.before_outage,
            went_back=hooked.went_back,
            clock=clock,
            pause=lambda _seconds: None,
            draw_id=self._draw_id,
            on_step=self._began,
        )
        self._updater = Updater(self._pretending, self._journal, means)
        self._rounds = Rounds(
            self._pretending,
            self._updater,
            self._journal,
            clock,
            projects=projects,
            polled=polled,
            ages=ages,
            retention=retention,
        )

    # ---- the work

    def ask_servers(self) -> None:
        """Ask the image servers that the service asks directly, so that a round knows of them."""
        if self._polled is not None:
            picture = Picture(self._pretending, self._clock, Problems(), projects=self._projects)
            picture.look_at_instances()
            picture.look()
            self._polled.follow(picture.scene())
            self._polled.poll.look(at_once=True)

    def round(
        self, names: frozenset[str], *, by_hand: bool = False, refresh: bool = False
    ) -> Report:
        """A round of the service, or by hand; a refresh is taken to find nothing."""
        with self._claimed():
            return self._rounds.run(names, by_hand=by_hand, refresh=refresh)

    def turn_back(self, transaction: Transaction, *, restore_volumes: bool = False) -> Outcome:
        """A return to a parked copy."""
        with self._claimed():
            return self._updater.turn_back(transaction, restore_volumes=restore_volumes)

    def recover(self) -> tuple[Outcome, ...]:
        """The end of what was interrupted."""
        with self._claimed():
            outcomes = recover(self._pretending, self._updater, self._journal)
            self._updater.dependants.work_off()
            return outcomes

    def reap(self, names: frozenset[tuple[str, str]] = frozenset()) -> tuple[str, ...]:
        """The removal of what isn't needed, or of all copies of these names."""
        with self._claimed():
            reaped = reap(
                self._pretending,
                self._clock(),
                names,
                retention=self._retention,
                ages=self._ages,
            )
            return reaped.removed

    @contextlib.contextmanager
    def _claimed(self) -> Iterator[None]:
        """Claim LXD as each piece of work does; nothing is told of it where there is no other call."""
        if not self._claimant:
            yield
            return
        claim = Claim(lambda: self._pretending.server, self._claimant, self._clock)
        # Somebody at work now is gone when this is done, or it waits.
        with contextlib.suppress(OtherUpdaterError):
            claim.take()
        alone = len(self._found)
        yield
        if len(self._found) == alone:
            self._found.clear()
        else:
            claim.release()

    # ---- what it comes to

    @property
    def calls(self) -> tuple[Call, ...]:
        """All that would be asked, in order; reads are left out."""
        return tuple(self._found)

    def changed(self, project: str, name: str) -> Changed:
        """Compare what the name stands for now with what it would stand for then."""
        before = self._real.instances.get(name, project=project)
        after = self._pretending.instances.get(name, project=project)
        return Changed(project=project, name=name, differences=differences_of(before, after))

    # ---- what is noted

    def _draw_id(self) -> str:
        self._drawn += 1
        return f"x{self._drawn:07d}"

    def _began(self, transaction: Transaction, step: Step) -> None:
        self._at_work = None if step.act in ENDS else (transaction, step)

    def _asked(self, request: Request, before: Instance | None, after: Instance | None) -> None:
        subject = before or after
        name = subject.name if subject else ""
        step = _ERRANDS.get((request.method, subject is not None), "restart")
        if self._at_work is not None and (subject is None or _is_of(self._at_work[0], name)):
            name, step = self._at_work[0].name, str(self._at_work[1].act)
        self._found.append(call_of(request, before, after, name=name, step=step))

    def _checked(self, project: str, name: str, what: str) -> None:
        self._beside(project, name, "check", what)

    def _program(self, words: tuple[str, ...], **_others: object) -> ProgramRun:
        transaction = self._at_work[0] if self._at_work else None
        project, name = (transaction.project, transaction.name) if transaction else ("", "")
        self._beside(project, name, "run", f"on the host: {' '.join(words)}")
        return ProgramRun(exit_code=0, output=b"")

    def _beside(self, project: str, name: str, method: str, what: str) -> None:
        """Note what isn't asked of LXD."""
        step = str(self._at_work[1].act) if self._at_work else ""
        self._found.append(Call(project=project, name=name, step=step, method=method, path=what))
