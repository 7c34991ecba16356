"""What is to be done now, and why: a pure function of what LXD holds, the policy and the time.

Every enrolled instance gets exactly one decision with a reason. Those to be updated come in an
order in which each follows what it depends on; after a dependency's update its running dependants
are restarted, unless they are updated themselves. A cycle of dependencies is refused as a whole.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter

from lxdocker_lxd.lxd.records import Alias, Image, Instance
from lxdocker_lxd.update.cause import Cause
from lxdocker_lxd.update.delay import delay_of
from lxdocker_lxd.update.enrolment import (
    Enrolment,
    Mode,
    Policy,
    enrolment_of,
    policy_of,
)
from lxdocker_lxd.update.holder import HOLDER_KEY
from lxdocker_lxd.update.problem import internal_error
from lxdocker_lxd.update.redaction import cleaned
from lxdocker_lxd.update.rejection import Rejection, rejection_now, rejections_of, series_of
from lxdocker_lxd.update.release import changes_between, release_of, running_release
from lxdocker_lxd.update.source import FollowedImage, followed_image, held_by_alias, newest
from lxdocker_lxd.update.transaction import (
    Phase,
    Stamp,
    Unreadable,
    stamp_of,
)

BREAKER = 3

Key = tuple[str, str]


class Choice(StrEnum):
    """What is done with an instance."""

    UPDATE = "update"
    RESTART = "restart"
    NOTIFY = "notify"
    WAIT = "wait"
    CURRENT = "current"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One instance's decision; ``fingerprint`` is the image it would get.

    ``cause`` says why to programs, ``reason`` to people. ``because`` are names of those whose update
    makes a restart necessary. ``changes`` say what is another in the version it would get, and
    ``release_notes`` is the address its publisher gives for it; both are what the images say.
    """

    project: str
    name: str
    choice: Choice
    cause: Cause
    reason: str
    fingerprint: str = ""
    running: str = ""
    because: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    release_notes: str = ""

    @property
    def key(self) -> Key:
        """Project and name."""
        return (self.project, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """All that a plan is made from.

    ``images`` and ``aliases`` are by project, of every project the updater may look at. ``busy``
    are instances LXD is at work on, ``unfinished`` those of whose name an update is open,
    ``absent_members`` cluster members that aren't online.
    ``by_hand`` ignores windows, age and snooze, as somebody asks for the update now.
    """

    instances: tuple[Instance, ...]
    images: Mapping[str, tuple[Image, ...]]
    aliases: Mapping[str, tuple[Alias, ...]]
    now: datetime
    projects: frozenset[str] = frozenset()
    busy: frozenset[Key] = frozenset()
    unfinished: frozenset[Key] = frozenset()
    absent_members: frozenset[str] = frozenset()
    by_hand: bool = False
    standing: Mapping[tuple[str, FollowedImage], frozenset[str]] = field(default_factory=dict)


def plan(scene: Scene) -> tuple[Decision, ...]:
    """Return a decision for every enrolled instance, in the order in which to act.

    Whatever goes wrong with one instance is a refusal of that one.
    """
    followed: dict[Key, tuple[Instance, Policy]] = {}
    refused: dict[Key, Decision] = {}
    for instance in scene.instances:
        key = (instance.project, instance.name)
        try:
            enrolment = enrolment_of(instance, scene.projects)
            if enrolment is Enrolment.FOLLOWED:
                followed[key] = (instance, policy_of(instance.expanded_config))
            elif (refusal := _refuse_unfollowed(instance, enrolment)) is not None:
                refused[key] = refusal
        except Exception as error:  # noqa: BLE001 - a bug met with one instance is that one's trouble
            refused[key] = _internal_error(instance, error)
    order, cycle = dependency_order({key: policy for key, (_, policy) in followed.items()})
    decisions: dict[Key, Decision] = {}
    for key in order:
        instance, policy = followed[key]
        updated = [name for name in policy.depends if _moves(decisions.get((key[0], name)))]
        try:
            decision = _decide(instance, policy, scene)
            decisions[key] = _after(decision, instance, policy, updated, scene)
        except Exception as error:  # noqa: BLE001 - as above
            decisions[key] = _internal_error(instance, error)
    for key in cycle:
        reason = f"its dependencies form a cycle: {_chain(cycle)}"
        decisions[key] = _decision(followed[key][0], Choice.REFUSE, Cause.CYCLE, reason)
    return (*decisions.values(), *refused.values())


def _internal_error(instance: Instance, error: Exception) -> Decision:
    return _decision(
        instance, Choice.REFUSE, Cause.INTERNAL_ERROR, cleaned(internal_error(error).message)
    )


def _refuse_unfollowed(instance: Instance, enrolment: Enrolment) -> Decision | None:
    """Tell of an instance whose keys ask for updates that it must not get."""
    stamp = stamp_of(instance)
    if enrolment is Enrolment.UNREADABLE and isinstance(stamp, Unreadable):
        return _decision(
            instance,
            Choice.REFUSE,
            Cause.UNREADABLE_STAMP,
            f"its update stamp can't be read by this version ({cleaned(stamp.reason)}): it is left"
            " alone",
        )
    if enrolment is not Enrolment.COPY:
        return None
    meant = cleaned(instance.config.get(HOLDER_KEY, ""))
    whom = f" of {meant}" if meant else ""
    return _decision(
        instance,
        Choice.REFUSE,
        Cause.COPY,
        f"it is a copy{whom}, or was renamed, and isn't followed: `lxdocker-lxd update enable"
        f" {instance.name}` if it is meant to be",
    )


def _chain(cycle: tuple[Key, ...]) -> str:
    return ", ".join(name for _, name in cycle)


def _moves(decision: Decision | None) -> bool:
    return decision is not None and decision.choice in {Choice.UPDATE, Choice.RESTART}


def _after(
    decision: Decision, instance: Instance, policy: Policy, updated: list[str], scene: Scene
) -> Decision:
    """Restart a running dependant of what is updated, unless it is updated itself."""
    restartable = decision.choice in {Choice.CURRENT, Choice.WAIT}
    if not updated or not restartable or not instance.running:
        return decision
    if decision.key in scene.busy or policy.mode is not Mode.AUTO:
        return decision
    reason = f"{', '.join(updated)} is updated"
    restart = _decision(instance, Choice.RESTART, Cause.DEPENDENCY, reason)
    return replace(restart, because=tuple(updated))


def dependency_order(
    policies: Mapping[Key, Policy],
) -> tuple[tuple[Key, ...], tuple[Key, ...]]:
    """Return the keys with dependencies first, and those of cycles; names break ties."""
    left = dict(sorted(policies.items()))
    refused: set[Key] = set()
    while True:
        graph = {
            key: [(key[0], name) for name in sorted(set(policy.depends)) if (key[0], name) in left]
            for key, policy in left.items()
        }
        try:
            return tuple(TopologicalSorter(graph).static_order()), tuple(sorted(refused))
        except CycleError as error:
            members = set(error.args[1])
            refused |= members
            left = {key: policy for key, policy in left.items() if key not in members}


def _decide(instance: Instance, policy: Policy, scene: Scene) -> Decision:
    obstacle = _obstacle(instance, policy, scene)
    if obstacle is not None:
        return obstacle
    source = policy.source
    if source is None:
        return _decision(
            instance, Choice.REFUSE, Cause.NO_SOURCE, "it isn't known where its image comes from"
        )
    project, followed = instance.project, followed_image(source, instance)
    images, aliases = scene.images.get(project, ()), scene.aliases.get(project, ())
    standing = scene.standing.get((project, followed), frozenset())
    image = newest(followed, images, aliases, standing)
    if image is None:
        return _without_image(instance, followed, held_by_alias(source, images, aliases))
    if image.fingerprint == instance.base_image:
        return _decision(
            instance, Choice.CURRENT, Cause.CURRENT, f"it has the newest {source.alias}"
        )
    base = next((one for one in images if one.fingerprint == instance.base_image), None)
    release = release_of(image)
    return replace(
        _timing(instance, policy, image, base, scene),
        changes=changes_between(running_release(instance, base), release),
        release_notes=release.notes_url,
    )


def _without_image(instance: Instance, followed: FollowedImage, other: Image | None) -> Decision:
    """Decide where there is no image that fits; ``other`` is what the local alias names instead."""
    if other is None:
        return _decision(
            instance,
            Choice.WAIT,
            Cause.NO_IMAGE,
            f"the image store holds no {followed.source} for a {followed.type} on"
            f" {followed.architecture}",
        )
    kind = other.type or "container"
    what = f"a {kind}" if kind != followed.type else other.architecture
    return _decision(
        instance, Choice.REFUSE, Cause.OTHER_IMAGE_TYPE, f"the new image is for {what}"
    )


def _obstacle(instance: Instance, policy: Policy, scene: Scene) -> Decision | None:
    """Return what stands against any update of this instance now."""
    stamp, key = stamp_of(instance), (instance.project, instance.name)
    if policy.problems:
        return _decision(instance, Choice.REFUSE, Cause.PROBLEM, "; ".join(policy.problems))
    if instance.ephemeral:
        return _decision(
            instance, Choice.REFUSE, Cause.EPHEMERAL, "it is ephemeral: stopping it would delete it"
        )
    if not instance.base_image:
        return _decision(instance, Choice.REFUSE, Cause.NO_BASE_IMAGE, "it wasn't made of an image")
    if (isinstance(stamp, Stamp) and stamp.phase is not Phase.COMMITTED) or key in scene.unfinished:
        return _decision(
            instance, Choice.WAIT, Cause.UNFINISHED, "an earlier update isn't finished"
        )
    if not instance.running and instance.status != "Stopped":
        return _decision(instance, Choice.WAIT, Cause.STATUS, f"it is {instance.status.lower()}")
    if key in scene.busy:
        return _decision(instance, Choice.WAIT, Cause.BUSY, "LXD is at work on it")
    if instance.location in scene.absent_members:
        return _decision(
            instance,
            Choice.WAIT,
            Cause.MEMBER_OFFLINE,
            f"the member {instance.location} isn't online",
        )
    return None


def _timing(
    instance: Instance, policy: Policy, image: Image, base: Image | None, scene: Scene
) -> Decision:
    """Decide about an image that is new and fits; ``base`` is the one the instance was made of."""
    fingerprint = image.fingerprint
    rejections = rejections_of(instance.config)
    series = series_of(rejections)

    def decided(choice: Choice, cause: Cause, reason: str) -> Decision:
        return _decision(instance, choice, cause, reason, fingerprint)

    if policy.pin and not fingerprint.startswith(policy.pin):
        return decided(Choice.WAIT, Cause.PINNED, f"it is pinned to {policy.pin}")
    if any(fingerprint.startswith(skipped) for skipped in policy.skip):
        return decided(Choice.WAIT, Cause.SKIPPED, "this version is to be skipped")
    rejection = rejection_now(rejections, fingerprint, scene.now, policy.retry_rejected)
    if rejection is not None:
        return decided(Choice.WAIT, Cause.REJECTED, _told(rejection, policy))
    if len(series) >= BREAKER:
        return decided(
            Choice.REFUSE,
            Cause.BREAKER,
            f"{len(series)} versions in a row were rolled back; nothing is tried until"
            f" `lxdocker-lxd update enable {instance.name}`",
        )
    if policy.mode is Mode.NOTIFY:
        reason = "there is a new version; it is only told"
        return decided(Choice.NOTIFY, Cause.NEW_VERSION, reason)
    delay = None if scene.by_hand else delay_of(policy, instance, image, base, scene.now)
    if delay is not None:
        return decided(Choice.WAIT, *delay)
    return decided(Choice.UPDATE, Cause.NEW_VERSION, "there is a new version")


def _told(rejection: Rejection, policy: Policy) -> str:
    again = rejection.at + policy.retry_rejected if rejection.at is not None else None
    until = f", and isn't tried again before {again:%Y-%m-%d %H:%M} UTC" if again else ""
    return f"this version was tried and rolled back{until}"


def _decision(
    instance: Instance, choice: Choice, cause: Cause, reason: str, fingerprint: str = ""
) -> Decision:
    return Decision(
        project=instance.project,
        name=instance.name,
        choice=choice,
        cause=cause,
        reason=reason,
        fingerprint=fingerprint,
        running=instance.base_image,
    )


def chosen(decisions: Iterable[Decision], names: frozenset[str]) -> tuple[Decision, ...]:
    """Return the decisions about these names, or all when there are none."""
    return tuple(decision for decision in decisions if not names or decision.name in names)
