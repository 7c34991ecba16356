"""Dependants: stopped before what they depend on has its outage, and started after it, in order.

Each restart is owed from the moment before its first step until the dependant was seen running with a
start later than its dependency's, or was started here. What is owed is in the journal, so that a
restart which was interrupted anywhere, or failed, is taken up again.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from lxdocker_lxd.errors import LxdockerError, StorageError
from lxdocker_lxd.lxd.failures import AbsentError, BusyError, RefusedError, WrongStateError
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Instance
from lxdocker_lxd.update.absence import AWAY, Absence
from lxdocker_lxd.update.enrolment import Mode, Policy, is_enrolled, policy_of
from lxdocker_lxd.update.journal import Journal
from lxdocker_lxd.update.journal_record import (
    Account,
    Entry,
    Event,
    Restart,
    accounts,
    owed_restarts,
    owes_start,
    still_open,
)
from lxdocker_lxd.update.means import Means
from lxdocker_lxd.update.plan import Key, dependency_order
from lxdocker_lxd.update.problem import Problems
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.stopping import killed_remark, stop_or_kill
from lxdocker_lxd.update.transaction import Phase, Stamp, Transaction, stamp_of

# An answer that nobody understands may be another one a moment later; a LXD that is away has its time.
_MOST_TRIES = 6
_EVERYWHERE: frozenset[str] = frozenset()
# The dependency has another root file system than before, or had one in between.
_RESTARTED_IT = frozenset({Act.COMMITTED, Act.ROLLED_BACK})
_AT_REST = frozenset({Phase.COMMITTED, Phase.KEPT, Phase.REJECTED, Phase.RETIRED})


@dataclass(frozen=True, slots=True)
class _Graph:
    """Enrolled instances, dependencies first, with their policies."""

    instances: dict[Key, Instance]
    policies: dict[Key, Policy]
    order: tuple[Key, ...]


@dataclass(slots=True)
class Dependants:
    """Restarts what depends on an updated instance. What goes wrong with one is a problem of it.

    Raises what the ports raise when LXD is away, and what the journal raises; the end of an update
    is told here without raising. ``updating`` are instances whose own update comes in the same
    round: these are restarted only if that comes to nothing.
    """

    lxd: Lxd
    journal: Journal
    means: Means
    problems: Problems = field(default_factory=Problems)
    updating: frozenset[Key] = frozenset()
    restarted: list[str] = field(default_factory=list)
    _graph: _Graph | None = None

    def begin(self, problems: Problems) -> None:
        """Begin a round, whose problems are collected there."""
        self.problems, self.updating, self.restarted = problems, frozenset(), []
        self._graph = None

    def look(self, instances: tuple[Instance, ...], updating: frozenset[Key]) -> None:
        """Take the instances as the round saw them, so that they aren't listed for each update."""
        self._graph, self.updating = _graph(instances), updating

    # ---- before and after an outage

    def stop(self, dependency: Transaction) -> None:
        """Stop what runs and depends on the transaction's instance, last of a chain first."""
        found = tuple(self._of(dependency))
        later = self._later(found, dependency)
        asked = {one.dependant for one in self._owed() if one.dependency.id == dependency.id}
        for instance in reversed(found):
            key = (instance.project, instance.name)
            with self.problems.about(*key, f"stop it before {dependency.name}"):
                if instance.name not in asked:
                    self._note(Event.RESTART_OWED, dependency, instance.name)
                if key in later:
                    continue
                fresh = self._get(instance.name, instance.project)
                if fresh is not None and fresh.running:
                    self._stop(fresh, dependency)

    def stopped_with(self, project: str, name: str) -> frozenset[Key]:
        """Return what is stopped before an outage of the instance, until its outcome is known."""
        dependency = Transaction(id="", project=project, name=name, fingerprint="")
        found = tuple(self._of(dependency))
        keys = frozenset((one.project, one.name) for one in found)
        return keys - self._later(found, dependency)

    def _later(self, found: tuple[Instance, ...], dependency: Transaction) -> frozenset[Key]:
        """Return which of them are restarted by an update that comes later in the same round.

        That is each that gets a new version itself, and what depends on no other than these.
        """
        reached, later = {(dependency.project, dependency.name)}, set[Key]()
        for instance in found:
            key = (instance.project, instance.name)
            names = policy_of(instance.expanded_config).depends
            through = {(instance.project, name) for name in names} & reached
            reached.add(key)
            if key in self.updating or through <= later:
                later.add(key)
        return frozenset(later)

    def start(self, dependency: Transaction) -> None:
        """Start again, in order, what was stopped for a transaction that has come to an end."""
        owed = [
            one
            for one in reversed(self._owed())
            if one.dependency.id == dependency.id and one.stopping
        ]
        for restart in owed:
            self._settled(restart)

    def ended(self, dependency: Transaction, act: Act, *, fresh: bool) -> None:
        """Start what was stopped for an update that came to an end; raises nothing.

        What can't be done now is owed, and done by a later round.
        """
        try:
            if not fresh and act in _RESTARTED_IT:
                self.owe(dependency)
            self.start(dependency)
        except LxdockerError as error:
            self.problems.add(
                f"start its dependants: {error.message}",
                project=dependency.project,
                name=dependency.name,
            )

    def owe(self, dependency: Transaction) -> None:
        """Write down what else is to be restarted after a transaction that others began."""
        known = {one.key for one in self._owed() if one.dependency.id == dependency.id}
        holder = self._get(dependency.name, dependency.project)
        for instance in reversed(tuple(self._of(dependency))):
            key = (instance.project, instance.name)
            if key not in known and not _is_later(instance, holder):
                self._note(Event.RESTART_OWED, dependency, instance.name)

    def restart(self, instance: Instance, cause: Transaction) -> bool:
        """Stop and start a running instance for a reason of its own; return whether it runs again.

        Once it is stopped the start is owed, and a later round does what fails here.
        """
        if not self._stop(instance, cause):
            return False
        self._start(instance, cause, None)
        return True

    # ---- instances whose own update comes while their start is owed

    def owes_start(self, project: str, name: str) -> bool:
        """Whether an instance that is stopped is so because of the updater, and is to run."""
        return owes_start(self.journal.read(), project, name)

    def note_start(self, update: Transaction, reason: str = "") -> None:
        """Write down that an update has done what was owed; a ``reason`` says why it isn't wanted.

        Raises nothing: the next round would see that it runs.
        """
        try:
            known = accounts(self.journal.read())
            for restart in self._owed():
                if restart.stopping and restart.key == (update.project, update.name):
                    account = None if reason else known.get(restart.dependency.id)
                    self._note_started(restart.dependency, update.name, account, reason)
        except LxdockerError as error:
            self.problems.add(error.message, project=update.project, name=update.name)

    # ---- by rounds

    def start_stopped(self) -> None:
        """Start what was stopped for an update and isn't running again."""
        for restart in reversed(self._owed()):
            if restart.stopping:
                self._settled(restart)

    def work_off(self) -> None:
        """Do all that is owed; of dependants that run as well."""
        for restart in reversed(self._owed()):
            self._settled(restart, even_running=True)

    def _settled(self, restart: Restart, *, even_running: bool = False) -> None:
        what = f"restart it after {restart.dependency.name}"
        with self.problems.about(*restart.key, what):
            try:
                self._settle_patiently(restart, even_running=even_running)
            except StorageError as error:
                # It is still owed, and the others are to be started as well.
                project, name = restart.key
                self.problems.add(f"{what}: {error.message}", project=project, name=name)

    def _settle_patiently(self, restart: Restart, *, even_running: bool) -> None:
        """Take one restart on, waiting for LXD where it was away with the dependant stopped."""
        absence = Absence(pause=self.means.pause, tell=self.means.tell)
        tries = 0
        while True:
            try:
                return self._settle(restart, even_running=even_running)
            except (*AWAY, BusyError, RefusedError) as error:
                tries += 1
                if tries > _MOST_TRIES and not isinstance(error, AWAY):
                    raise
                key = (restart.dependency.id, restart.dependant)
                owed = {(one.dependency.id, one.dependant): one for one in self._owed()}
                if key not in owed or not owed[key].stopping:
                    raise
                restart = owed[key]
                absence.wait(restart.dependant, error)

    def _settle(self, restart: Restart, *, even_running: bool) -> None:
        """Take one restart as far as it can be taken now."""
        dependency = restart.dependency
        instance = self._get(restart.dependant, dependency.project)
        known = accounts(self.journal.read())
        account = known.get(dependency.id)
        holder = self._get(dependency.name, dependency.project)
        due, reason = _due(restart, instance, account, holder)
        if instance is None and restart.key in _under_update(known):
            # Between the renames of its own update nobody has the name.
            return
        if due is _Due.OVER or instance is None:
            self._note(Event.RESTARTED, dependency, restart.dependant, reason)
        elif due is _Due.LATER and reason:
            self.problems.add(
                f"restart it after {dependency.name}: {reason}",
                project=instance.project,
                name=instance.name,
            )
        elif due is _Due.START or (
            due is _Due.RESTART
            and even_running
            and self._stop(instance, dependency, asked=restart.stopping)
        ):
            self._start(instance, dependency, account)

    def _start(self, instance: Instance, dependency: Transaction, account: Account | None) -> None:
        try:
            self.lxd.power.start(instance.name, project=instance.project)
        except WrongStateError:
            # A user was faster. The next look says when it was.
            return
        self.restarted.append(instance.name)
        try:
            self._note_started(dependency, instance.name, account)
        except StorageError as error:
            # It runs, and the others are to be started as well.
            self.problems.add(error.message, project=instance.project, name=instance.name)

    def _note_started(
        self, dependency: Transaction, name: str, account: Account | None, reason: str = ""
    ) -> None:
        # While the dependency isn't settled, it may be restarted once more.
        event = Event.RESTART_OWED if _is_open(account) else Event.RESTARTED
        self._note(event, dependency, name, reason)

    def _stop(self, instance: Instance, dependency: Transaction, *, asked: bool = False) -> bool:
        """Stop a running dependant; return whether it is this updater that stopped it.

        ``asked``: it was asked before, by an updater that is gone, and LXD may have been late.
        """
        name = instance.name
        self._note(Event.RESTARTING, dependency, name)
        try:
            seconds = stop_or_kill(self.lxd, instance)
        except WrongStateError:
            if asked:
                return True
            # A user was faster, and it is theirs.
            self._note(Event.RESTARTED, dependency, name, "it was stopped by a user")
            return False
        if seconds is not None:
            self.problems.add(
                f"restart: {killed_remark(name, seconds)}", project=instance.project, name=name
            )
        return True

    # ---- what is there, and what is owed

    def _of(self, dependency: Transaction) -> Iterator[Instance]:
        """Yield what is to be restarted with a running dependency, each after what it depends on."""
        graph = self._graph or _graph(self.lxd.instances.list(project=dependency.project))
        reached = {(dependency.project, dependency.name)}
        for key in graph.order:
            names = graph.policies[key].depends
            if key in reached or not any((key[0], name) in reached for name in names):
                continue
            instance = graph.instances[key]
            if instance.running and _is_restartable(instance) and not _is_in_transaction(instance):
                reached.add(key)
                yield instance

    def _owed(self) -> tuple[Restart, ...]:
        return owed_restarts(self.journal.read())

    def _get(self, name: str, project: str) -> Instance | None:
        try:
            return self.lxd.instances.get(name, project=project)
        except AbsentError:
            return None

    def _note(
        self, event: Event, dependency: Transaction, dependant: str, reason: str = ""
    ) -> None:
        self.journal.append(
            Entry(
                at=self.means.clock(),
                event=event,
                transaction=dependency,
                dependant=dependant,
                reason=reason,
            )
        )


def _graph(instances: tuple[Instance, ...]) -> _Graph:
    found = {(one.project, one.name): one for one in instances if is_enrolled(one, _EVERYWHERE)}
    policies = {key: policy_of(one.expanded_config) for key, one in found.items()}
    order, _cycle = dependency_order(policies)
    return _Graph(found, policies, order)


class _Due(Enum):
    """What a restart that is owed needs next."""

    OVER = auto()
    LATER = auto()
    START = auto()
    RESTART = auto()


def _due(
    restart: Restart, instance: Instance | None, account: Account | None, holder: Instance | None
) -> tuple[_Due, str]:
    """Decide by the dependant, its dependency's update and whoever has the dependency's name."""
    if instance is not None and _is_in_transaction(instance):
        # What is to become of it can be told when its own update has ended.
        return _Due.LATER, ""
    if instance is None or not _is_restartable(instance):
        return _Due.OVER, "it is gone, or isn't followed"
    if instance.status == "Stopped":
        if restart.stopping:
            return _Due.START, ""
        return _Due.OVER, "it was stopped by a user"
    if not instance.running:
        return _Due.LATER, f"it is {instance.status.lower()}"
    if _is_open(account):
        return _Due.LATER, ""
    if restart.is_of_itself:
        started = instance.last_used_at
        done = started is not None and started >= restart.at
        return (_Due.OVER if done else _Due.RESTART), ""
    if not _was_restarted(account, holder) or _is_later(instance, holder):
        return _Due.OVER, ""
    return _Due.RESTART, ""


def _is_restartable(instance: Instance) -> bool:
    """Whether it is followed, and may be stopped: an ephemeral one would be gone."""
    mode = policy_of(instance.expanded_config).mode
    return mode is Mode.AUTO and not instance.ephemeral and is_enrolled(instance, _EVERYWHERE)


def _is_in_transaction(instance: Instance) -> bool:
    """Whether an update of the dependant itself is open, which starts it or not."""
    stamp = stamp_of(instance)
    return isinstance(stamp, Stamp) and stamp.phase not in _AT_REST


def _under_update(known: Mapping[str, Account]) -> frozenset[Key]:
    """Which instances' own updates have no end yet."""
    found = (account.transaction for account in still_open(known.values()))
    return frozenset((one.project, one.name) for one in found)


def _is_open(account: Account | None) -> bool:
    return account is not None and account.ended is None


def _was_restarted(account: Account | None, dependency: Instance | None) -> bool:
    """Whether the dependency runs and had an outage; where nobody knows, it had one."""
    if dependency is None or not dependency.running:
        return False
    ended = account.ended if account is not None else None
    return ended is None or ended.result in _RESTARTED_IT


def _is_later(instance: Instance, dependency: Instance | None) -> bool:
    """Whether it was started after its dependency was, as far as LXD tells."""
    if dependency is None:
        return True
    started, before = instance.last_used_at, dependency.last_used_at
    return started is not None and before is not None and started >= before
