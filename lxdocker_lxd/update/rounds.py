"""A round: finish what is open, learn sources, hold images, plan, and do what the plan says.

One instance at a time, and what goes wrong with one is that one's: it is told, and the round goes on.
A version that failed is not given to others in the same round, and what depends on an instance whose
update failed waits for a later one. Only when LXD is away or the journal can't be read the round ends.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from lxdocker_lxd.errors import LxdockerError, StorageError
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Image, Instance
from lxdocker_lxd.update.cause import PASSING
from lxdocker_lxd.update.copy_ages import CopyAges
from lxdocker_lxd.update.enrolment import policy_of
from lxdocker_lxd.update.followed_images import FollowedImages
from lxdocker_lxd.update.healing import Healing
from lxdocker_lxd.update.journal import Journal
from lxdocker_lxd.update.journal_record import Entry, Event, owed_restarts
from lxdocker_lxd.update.liveness_monitor import LivenessMonitor
from lxdocker_lxd.update.means import Outcome
from lxdocker_lxd.update.plan import Choice, Decision, Key, chosen, plan
from lxdocker_lxd.update.polled_images import PolledImages
from lxdocker_lxd.update.problem import Problem, Problems
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.recovery import reap, recover, remove_copy, unfinished
from lxdocker_lxd.update.retention import Copy, RetentionDefaults, copies_of
from lxdocker_lxd.update.scene import Picture
from lxdocker_lxd.update.source import Source
from lxdocker_lxd.update.stage_room import StageRoom
from lxdocker_lxd.update.updater import Updater
from lxdocker_lxd.update.volume_selection import select_volumes
from lxdocker_lxd.update.volume_snapshots import remove_leftovers

_TRIED_AGAIN = frozenset({Act.GIVEN_UP, Act.ROLLED_BACK, Act.HOLD})
_FIRST_REST = timedelta(minutes=5)
_LONGEST_REST = timedelta(hours=6)
_FREE_INTERRUPTIONS = 3
_MOST_DOUBLINGS = 10
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a round did: decisions as planned, outcomes as they came, and what went wrong beside.

    ``healed`` are instances that were restarted for their health, ``unhealthy`` those that now are.
    ``passing`` are the instances that are worth another look soon: something that ends by itself stood
    in their way, their update is held, or they don't run again yet.
    """

    recovered: tuple[Outcome, ...] = ()
    decisions: tuple[Decision, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    restarted: tuple[str, ...] = ()
    healed: tuple[str, ...] = ()
    unhealthy: tuple[Key, ...] = ()
    removed: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    remarks: tuple[str, ...] = ()
    passing: frozenset[Key] = frozenset()

    @property
    def bad(self) -> bool:
        """Whether something needs somebody's eyes."""
        outcomes = (*self.recovered, *self.outcomes)
        return bool(self.problems) or any(outcome.bad for outcome in outcomes)


@dataclass(slots=True, kw_only=True)
class _Wave:
    """What has become of a round's updates so far; ``failed`` are versions, ``waiting`` instances."""

    outcomes: list[Outcome] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    failed: set[tuple[str, Source | None, str]] = field(default_factory=set)
    waiting: set[Key] = field(default_factory=set)
    passing: set[Key] = field(default_factory=set)


class Rounds:
    """Does rounds. Raises what LXD's connection and the journal raise; the rest is reported."""

    def __init__(  # noqa: PLR0913 - parts that a round may do without
        self,
        lxd: Lxd,
        updater: Updater,
        journal: Journal,
        clock: Callable[[], datetime],
        *,
        projects: frozenset[str] = frozenset(),
        polled: PolledImages | None = None,
        ages: CopyAges | None = None,
        retention: RetentionDefaults | None = None,
        monitor: LivenessMonitor | None = None,
    ) -> None:
        self._lxd = lxd
        self._updater = updater
        self._journal = journal
        self._clock = clock
        self._projects = projects
        self._polled = polled
        self._ages = ages
        self._retention = retention
        self._monitor = monitor
        self._dependants = updater.dependants
        self._begin()

    def _begin(self) -> None:
        """Forget the round before."""
        self._problems = Problems()
        self._picture = Picture(self._lxd, self._clock, self._problems, projects=self._projects)
        self._room = StageRoom(self._lxd, self._clock)
        self._wave = _Wave()

    def plan(
        self, names: frozenset[str] = frozenset(), *, by_hand: bool = False
    ) -> tuple[Decision, ...]:
        """Return the decisions as they are now, changing nothing."""
        self._begin()
        self._picture.look_at_instances()
        self._picture.look()
        self._note_unfinished()
        return self._decisions(names, by_hand=by_hand)

    def run(
        self,
        names: frozenset[str] = frozenset(),
        *,
        by_hand: bool = False,
        refresh: bool = False,
    ) -> Report:
        """Do one round; ``names`` limits what is updated, ``refresh`` asks servers first."""
        self._begin()
        self._dependants.begin(self._problems)
        try:
            return self._run(names, by_hand=by_hand, refresh=refresh)
        except Exception:
            # Whatever it is: what was stopped for others isn't left so, if that can be helped.
            with contextlib.suppress(LxdockerError):
                self._dependants.start_stopped()
            raise

    def _run(self, names: frozenset[str], *, by_hand: bool, refresh: bool) -> Report:
        problems, picture, remarks = self._problems, self._picture, list[str]()
        recovered = self._recover()
        self._dependants.start_stopped()
        picture.look()
        images = FollowedImages(self._lxd, picture, problems, polled=self._polled)
        images.learn_sources()
        images.fetch_polled(remarks, refresh=refresh)
        images.hold(refresh=refresh)
        decisions = self._decisions(names, by_hand=by_hand)
        updating = frozenset(one.key for one in decisions if one.choice is Choice.UPDATE)
        self._dependants.look(picture.instances, updating)
        try:
            for decision in decisions:
                if self._updater.interrupted:
                    remarks.append("interrupted: what is left waits for a later round")
                    break
                with problems.about(*decision.key):
                    self._do(decision, by_hand=by_hand)
        except StorageError as error:
            # Without room in the journal nothing begins; what was done is reported all the same.
            problems.add(error.message)
        if not self._updater.interrupted:
            self._dependants.work_off()
        healed = () if self._updater.interrupted else self._heal()
        for outcome in (*recovered, *self._wave.outcomes):
            problems.add_of(outcome)
        if self._wave.outcomes or recovered:
            picture.look_at_instances()
        reaped = reap(
            self._lxd,
            self._clock(),
            ages=self._ages,
            retention=self._retention,
            apart=problems.about,
            instances=picture.instances,
            unhealthy=self._unhealthy(),
        )
        if reaped.removed:
            picture.look_at_instances()
        remarks += map(_snapshotted, reaped.snapshotted)
        remarks += self._remove_leftovers()
        images.clear_up()
        return Report(
            recovered=recovered,
            decisions=decisions,
            outcomes=tuple(self._wave.outcomes),
            restarted=tuple(self._dependants.restarted),
            healed=healed,
            unhealthy=self._unhealthy(),
            removed=(*self._wave.removed, *reaped.removed),
            problems=problems.found,
            remarks=tuple(remarks),
            passing=_passing(decisions) | self._wave.passing | self._left_open(recovered),
        )

    def _remove_leftovers(self) -> tuple[str, ...]:
        """Remove snapshots of volumes that ended updates left; return remarks on them."""
        listed = self._picture.instances
        return remove_leftovers(
            self._lxd,
            listed,
            frozenset(one.id for one in unfinished(listed, self._journal)),
            self._problems,
            projects=self._projects,
        )

    def _unhealthy(self) -> tuple[Key, ...]:
        """Return the instances whose health checks fail, as far as anybody asks them."""
        return self._monitor.unhealthy() if self._monitor is not None else ()

    def _heal(self) -> tuple[str, ...]:
        """Restart, or tell of, instances whose health checks fail."""
        if self._monitor is None:
            return ()
        healing = Healing(
            lxd=self._lxd,
            monitor=self._monitor,
            dependants=self._dependants,
            draw_id=self._updater.draw_id,
            projects=self._projects,
        )
        return healing.work(self._picture, self._problems)

    def _recover(self) -> tuple[Outcome, ...]:
        """Finish what is open, each for itself; what then still is gets nothing new."""
        listed = self._picture.look_at_instances()
        recovered = recover(
            self._lxd,
            self._updater,
            self._journal,
            apart=self._problems.about,
            instances=listed,
        )
        self._note_unfinished(again=bool(recovered or self._problems.found))
        return recovered

    def _note_unfinished(self, *, again: bool = False) -> None:
        listed = self._picture.look_at_instances() if again else self._picture.instances
        self._picture.unfinished = frozenset(
            (one.project, one.name) for one in unfinished(listed, self._journal)
        )

    def _left_open(self, recovered: tuple[Outcome, ...]) -> frozenset[Key]:
        """Return whose update isn't over, and what was stopped for others and doesn't run again."""
        if not (recovered or self._wave.outcomes or self._problems.found):
            return frozenset()
        left = unfinished(self._picture.instances, self._journal)
        owed = (one.key for one in owed_restarts(self._journal.read()) if one.stopping)
        return frozenset((one.project, one.name) for one in left).union(owed)

    # ---- what is to be done

    def _decisions(self, names: frozenset[str], *, by_hand: bool) -> tuple[Decision, ...]:
        """Plan; what LXD is at work on matters only where something is to be done."""
        found = self._planned(by_hand=by_hand)
        acting = {one.project for one in found if one.choice in {Choice.UPDATE, Choice.RESTART}}
        if acting:
            found = self._planned(by_hand=by_hand, busy=self._picture.busy(acting))
        return chosen(found, names)

    def _planned(
        self,
        *,
        by_hand: bool,
        busy: frozenset[Key] = frozenset(),
        only: Instance | None = None,
    ) -> tuple[Decision, ...]:
        standing = self._polled.standing() if self._polled is not None else {}
        scene = self._picture.scene(by_hand=by_hand, busy=busy, standing=standing, only=only)
        return plan(scene)

    def _do(self, decision: Decision, *, by_hand: bool) -> None:
        if decision.choice is not Choice.UPDATE or self._waits(decision):
            return
        wave = self._wave
        # Until it is known to have ended well, or not to have begun.
        wave.waiting.add(decision.key)
        outcome = self._update(decision, by_hand=by_hand)
        if outcome is None or not outcome.bad:
            wave.waiting.discard(decision.key)
        if outcome is None:
            return
        wave.outcomes.append(outcome)
        blamed = outcome.act is not Act.HOLD or outcome.blame
        if outcome.bad and blamed and not self._is_its_own_fault(decision):
            wave.failed.add(self._version(decision))

    def _waits(self, decision: Decision) -> bool:
        """Whether the version, or an instance this one depends on, failed in this round."""
        instance = self._picture.get(decision.key)
        depends = policy_of(instance.expanded_config).depends if instance is not None else ()
        if any((decision.project, name) in self._wave.waiting for name in depends):
            self._wave.waiting.add(decision.key)
        return decision.key in self._wave.waiting or self._version(decision) in self._wave.failed

    def _version(self, decision: Decision) -> tuple[str, Source | None, str]:
        """What instances of the same version share: project, source and image."""
        instance = self._picture.get(decision.key)
        source = policy_of(instance.expanded_config).source if instance is not None else None
        shared = source is not None and source.server
        return ("" if shared else decision.project, source, decision.fingerprint)

    def _update(self, decision: Decision, *, by_hand: bool) -> Outcome | None:
        """Update one instance, if that is still what is to be done, and there is room for it."""
        picture = self._picture
        instance = picture.renew(decision.key)
        if instance is None:
            return None
        picture.renew_images(decision.project, aged=True)
        busy = picture.busy([decision.project])
        still = self._planned(by_hand=by_hand, busy=busy, only=instance)
        now = next((one for one in still if one.choice is Choice.UPDATE), None)
        if now is None:
            self._wave.passing |= _passing(still)
            return None
        if not by_hand and self._clock() < rests_until(self._journal.read(), now, self._clock()):
            return None
        image = self._image(now)
        if image is None:
            return None
        lack = self._updater.obstacle(instance, now.fingerprint)
        stopped = self._dependants.stopped_with(decision.project, decision.name)
        selection = select_volumes(self._lxd, instance, stopped)
        lack = lack or selection.problem or self._lack_of_room(instance, image)
        if lack:
            self._problems.add(lack, project=now.project, name=now.name)
            return None
        return self._updater.update(
            now.name, now.fingerprint, project=now.project, volumes=selection.volumes
        )

    def _image(self, decision: Decision) -> Image | None:
        held = self._picture.images(decision.project)
        return next((one for one in held if one.fingerprint == decision.fingerprint), None)

    def _is_its_own_fault(self, decision: Decision) -> bool:
        """Whether the update failed for what the instance lacks, as a disk, and not for its version."""
        instance = self._picture.get(decision.key)
        obstacle = self._updater.obstacle
        return instance is not None and bool(obstacle(instance, decision.fingerprint))

    # ---- room

    def _lack_of_room(self, instance: Instance, image: Image) -> str:
        """Return what is missing; copies of the project that nobody needs make room before."""
        limits = self._picture.config(instance.project)
        lack = self._room.lack_in_project(instance, limits)
        if lack:
            for copy in self._early(instance.project):
                name = copy.instance.name
                with self._problems.about(instance.project, name):
                    if remove_copy(self._lxd, copy.instance, copy.stamp):
                        self._wave.removed.append(name)
                        lack = self._room.lack_in_project(instance, limits)
                if not lack:
                    break
        return lack or self._room.lack_in_pool(instance, image)

    def _early(self, project: str) -> list[Copy]:
        """Return the project's copies that may go before their time: failed ones, then the oldest."""
        listed = self._picture.look_at_instances()
        found = copies_of(listed, self._clock(), self._retention)
        mine = [one for one in found if one.instance.project == project and not one.needed]
        return sorted(mine, key=lambda one: one.order)


def _snapshotted(copy: Copy) -> str:
    since = copy.stamp.since
    when = f" of {since:%Y-%m-%d}" if since is not None else ""
    return (
        f"{copy.stamp.name}: its copy {copy.instance.name}{when} has snapshots or backups, and so"
        f" is never removed; `lxc delete {copy.instance.name}` when it isn't needed"
    )


def _passing(decisions: tuple[Decision, ...]) -> frozenset[Key]:
    """Return the instances that only something which ends by itself stands in the way of."""
    return frozenset(one.key for one in decisions if one.cause in PASSING)


def rests_until(entries: tuple[Entry, ...], decision: Decision, now: datetime) -> datetime:
    """Return when an update that came to nothing is worth another attempt.

    One whose updater died before the outage is worth it at once; the first few times, for a version
    may be what the updater dies of, as where it takes all memory. Nobody knows how long ago an attempt
    was that is dated ahead of ``now``: the next one doesn't wait for that date.
    """
    waits, interruptions, last = 0, 0, _LONG_AGO
    for entry in entries:
        one = entry.transaction
        if entry.event is not Event.ENDED or (one.project, one.name) != decision.key:
            continue
        if one.fingerprint != decision.fingerprint or entry.result not in _TRIED_AGAIN:
            waits, interruptions, last = 0, 0, _LONG_AGO
            continue
        interruptions += entry.interrupted
        if entry.interrupted and interruptions <= _FREE_INTERRUPTIONS:
            continue
        waits, last = waits + 1, entry.at if entry.at <= now else _LONG_AGO
    rest: timedelta = _FIRST_REST * (1 << min(waits, _MOST_DOUBLINGS))
    return last + min(rest, _LONGEST_REST)
