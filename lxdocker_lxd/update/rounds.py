"""A round: finish what is open, learn sources, hold images, plan, and do what the plan says.

One instance at a time; the first update that fails ends the round, so that a bad version stops one
service and not all that share it. One that was put off, or that somebody changed meanwhile, hasn't
failed: the round goes on without it, and those that depend on it aren't restarted.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lxdocker_lxd.errors import LxdError, LxdockerError
from lxdocker_lxd.lxd.failures import StopTimedOutError
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Image, Instance, UpdateSource
from lxdocker_lxd.update.enrolment import HOLDER_KEY, holder_of, is_enrolled, policy_of
from lxdocker_lxd.update.journal import Journal
from lxdocker_lxd.update.journal_record import Entry, Event
from lxdocker_lxd.update.means import Outcome
from lxdocker_lxd.update.plan import Choice, Decision, Key, Scene, chosen, plan
from lxdocker_lxd.update.polled_images import PolledImages, let_look
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.recovery import reap, recover
from lxdocker_lxd.update.scene import read_scene
from lxdocker_lxd.update.source import (
    CERTIFICATE_KEY,
    SOURCE_KEY,
    Source,
    certificate_of,
    discovered,
    newest,
)
from lxdocker_lxd.update.updater import Updater

_TRIED_AGAIN = frozenset({Act.GIVEN_UP, Act.ROLLED_BACK})
_FIRST_REST = timedelta(minutes=5)
_LONGEST_REST = timedelta(hours=6)
_MOST_DOUBLINGS = 10
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
_ROOM_FACTOR = 3
_ROOM_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a round did: decisions as planned, outcomes as they came, and what went wrong beside."""

    recovered: tuple[Outcome, ...] = ()
    decisions: tuple[Decision, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    restarted: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def bad(self) -> bool:
        """Whether something needs somebody's eyes."""
        outcomes = (*self.recovered, *self.outcomes)
        return bool(self.problems) or any(outcome.bad for outcome in outcomes)


class Rounds:
    """Does rounds. Raises what LXD's connection and the journal raise; the rest is reported."""

    def __init__(
        self,
        lxd: Lxd,
        updater: Updater,
        journal: Journal,
        clock: Callable[[], datetime],
        *,
        projects: frozenset[str] = frozenset(),
        polled: PolledImages | None = None,
    ) -> None:
        self._lxd = lxd
        self._updater = updater
        self._journal = journal
        self._clock = clock
        self._projects = projects
        self._polled = polled

    def plan(
        self, names: frozenset[str] = frozenset(), *, by_hand: bool = False
    ) -> tuple[Decision, ...]:
        """Return the decisions as they are now, changing nothing."""
        return chosen(plan(self._scene(by_hand=by_hand)), names)

    def _scene(self, *, by_hand: bool = False) -> Scene:
        return read_scene(
            self._lxd,
            self._clock(),
            projects=self._projects,
            by_hand=by_hand,
            standing=self._polled.standing() if self._polled is not None else {},
        )

    def run(
        self,
        names: frozenset[str] = frozenset(),
        *,
        by_hand: bool = False,
        refresh: bool = False,
    ) -> Report:
        """Do one round; ``names`` limits what is updated, ``refresh`` asks servers first."""
        problems: list[str] = []
        remarks: list[str] = []
        recovered = recover(self._lxd, self._updater, self._journal)
        self._learn_sources(problems)
        self._fetch_polled(problems, remarks, refresh=refresh)
        self._hold_images(problems, refresh=refresh)
        decisions = self.plan(names, by_hand=by_hand)
        outcomes: list[Outcome] = []
        restarted: list[str] = []
        moved: set[Key] = set()
        for decision in decisions:
            if decision.choice is Choice.UPDATE:
                outcome = self._update(decision, problems, by_hand=by_hand)
                if outcome is None:
                    continue
                outcomes.append(outcome)
                if outcome.bad:
                    break
                if outcome.act is Act.COMMITTED:
                    moved.add(decision.key)
            elif decision.choice is Choice.RESTART and any(
                (decision.project, name) in moved for name in decision.because
            ):
                moved.add(decision.key)
                self._restart(decision, restarted, problems)
        reaped = reap(self._lxd, self._clock())
        problems += [f"remove the copy {name}: {reason}" for _, name, reason in reaped.failed]
        if self._polled is not None:
            self._polled.clear_up(self._lxd, self._scene(), problems)
        return Report(
            recovered=recovered,
            decisions=decisions,
            outcomes=tuple(outcomes),
            restarted=tuple(restarted),
            removed=reaped.removed,
            problems=tuple(problems),
            remarks=tuple(remarks),
        )

    def _update(self, decision: Decision, problems: list[str], *, by_hand: bool) -> Outcome | None:
        """Update one instance, if that is still what is to be done, and there is room for it."""
        still = self.plan(frozenset({decision.name}), by_hand=by_hand)
        if decision.key not in {one.key for one in still if one.choice is Choice.UPDATE}:
            return None
        (now,) = (one for one in still if one.key == decision.key)
        if not by_hand and self._clock() < rests_until(self._journal.read(), now):
            return None
        lack = self._lack_of_room(now)
        if lack:
            problems.append(f"{now.name}: {lack}")
            return None
        return self._updater.update(now.name, now.fingerprint, project=now.project)

    def _lack_of_room(self, decision: Decision) -> str:
        instance = self._lxd.instances.get(decision.name, project=decision.project)
        usage = self._lxd.projects.usage(decision.project).get("instances")
        if usage is not None and usage.limit is not None and usage.used >= usage.limit:
            return f"the project allows {usage.limit} instances, and an update needs one more"
        image = self._lxd.images.get(decision.fingerprint, project=decision.project)
        roots = [one for one in instance.expanded_devices.values() if one.get("path") == "/"]
        pool = roots[0].get("pool", "") if roots else ""
        target = "" if instance.location in ("", "none") else instance.location
        if not pool:
            return "it has no root disk"
        free = self._lxd.pools.space(pool, target=target).free_bytes
        needed = _ROOM_FACTOR * image.size_bytes + _ROOM_BYTES
        return (
            ""
            if free >= needed
            else (
                f"the pool {pool} has {free >> 20} MiB left, and an update needs {needed >> 20} MiB"
            )
        )

    def _restart(self, decision: Decision, restarted: list[str], problems: list[str]) -> None:
        power, name, project = self._lxd.power, decision.name, decision.project
        try:
            try:
                power.stop(name, project=project)
            except StopTimedOutError:
                power.kill(name, project=project)
            power.start(name, project=project)
            restarted.append(name)
        except LxdError as error:
            problems.append(f"restart {name}: {error.message}")

    # ---- sources and images

    def _learn_sources(self, problems: list[str]) -> None:
        """Write down of each enrolled instance whom its keys are for, and where its image comes from."""
        scene = self._scene()
        for instance in scene.instances:
            if not is_enrolled(instance, self._projects):
                continue
            images = scene.images.get(instance.project, ())
            try:
                if not instance.config.get(HOLDER_KEY):
                    write_key(self._lxd, instance, HOLDER_KEY, holder_of(instance))
                if not instance.expanded_config.get(SOURCE_KEY):
                    source = discovered(instance, images)
                    write_key(self._lxd, instance, SOURCE_KEY, str(source))
                    remember_certificate(self._lxd, instance, source, images)
                elif (known := policy_of(instance.expanded_config).source) is not None:
                    remember_certificate(self._lxd, instance, known, images)
            except LxdockerError as error:
                problems.append(error.message)

    def _fetch_polled(self, problems: list[str], remarks: list[str], *, refresh: bool) -> None:
        """Bring what servers have that are asked directly; with ``refresh`` ask them now."""
        if self._polled is None:
            return
        scene = self._scene()
        self._polled.follow(scene)
        if refresh:
            self._polled.poll.look(at_once=True)
        self._polled.fetch(self._lxd, scene, problems, remarks, at_once=refresh)

    def _hold_images(self, problems: list[str], *, refresh: bool) -> None:
        """Fetch tracked images that the store hasn't, and look for newer ones if asked to.

        What LXD fetched for an instance it removes some days later (and would not keep if it was
        asked to fetch it again); what we fetch then it keeps, and follows by itself.
        """
        scene = self._scene()
        tracked: dict[tuple[str, Source], tuple[Image | None, str]] = {}
        for instance in scene.instances:
            policy = policy_of(instance.expanded_config)
            source = policy.source
            if is_enrolled(instance, self._projects) and source is not None and source.server:
                images = scene.images.get(instance.project, ())
                standing = scene.standing.get((instance.project, source), frozenset())
                image = newest(source, images, (), standing)
                certificate = certificate_of(source, images) or policy.certificate
                tracked[(instance.project, source)] = (image, certificate)
        for (project, source), (image, certificate) in tracked.items():
            try:
                if image is None:
                    self._pull(project, source, certificate)
                elif refresh:
                    let_look(self._lxd, image, project=project)
            except LxdockerError as error:
                problems.append(f"{source}: {error.message}")

    def _pull(self, project: str, source: Source, certificate: str) -> None:
        wanted = UpdateSource(
            server=source.server,
            alias=source.alias,
            protocol=source.protocol,
            certificate=certificate,
        )
        fingerprint = self._lxd.images.pull(wanted, project=project)
        if self._polled is not None:
            self._polled.remember((project, source), fingerprint)


def rests_until(entries: tuple[Entry, ...], decision: Decision) -> datetime:
    """Return when an update that came to nothing is worth another attempt."""
    waits, last = 0, _LONG_AGO
    for entry in entries:
        one = entry.transaction
        if entry.event is not Event.ENDED or (one.project, one.name) != decision.key:
            continue
        if one.fingerprint != decision.fingerprint or entry.result not in _TRIED_AGAIN:
            waits, last = 0, _LONG_AGO
            continue
        waits, last = waits + 1, entry.at
    rest: timedelta = _FIRST_REST * (1 << min(waits, _MOST_DOUBLINGS))
    return last + min(rest, _LONGEST_REST)


def write_key(lxd: Lxd, instance: Instance, key: str, value: str) -> None:
    """Set one key of an instance, on the condition that nobody changed it since it was read."""
    fresh = lxd.instances.get(instance.name, project=instance.project)
    lxd.instances.patch(fresh.name, config={key: value}, etag=fresh.etag, project=fresh.project)


def remember_certificate(
    lxd: Lxd, instance: Instance, source: Source, images: Iterable[Image]
) -> None:
    """Write down what LXD trusts for the image's server, before it forgets it with the image."""
    certificate = certificate_of(source, images) if source.server else ""
    if certificate and not instance.expanded_config.get(CERTIFICATE_KEY):
        write_key(lxd, instance, CERTIFICATE_KEY, certificate)
