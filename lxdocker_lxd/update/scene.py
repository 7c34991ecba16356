"""Everything a plan is made from: read from LXD once, and then piece by piece where it changes.

Names of images come with the images, what LXD is at work on is only asked where something is about
to be done, and projects that share their images are asked once.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from urllib.parse import parse_qs, urlsplit

from lxdocker_lxd.lxd.failures import AbsentError
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import DEFAULT_PROJECT, Alias, Config, Image, Instance
from lxdocker_lxd.lxd.server_records import Operation
from lxdocker_lxd.update.enrolment import is_enrolled, policy_of
from lxdocker_lxd.update.plan import Key, Scene
from lxdocker_lxd.update.problem import Problems
from lxdocker_lxd.update.rejection import rejections_of
from lxdocker_lxd.update.source import FollowedImage
from lxdocker_lxd.update.transaction import stamp_of

_INSTANCES_PATH = ("1.0", "instances")
# A wave may take hours, and images move meanwhile.
_IMAGES_AGE = timedelta(minutes=1)


@dataclass(slots=True)
class _Store:
    """A project's images, and when they were read."""

    images: tuple[Image, ...]
    at: datetime


@dataclass(slots=True)
class Picture:
    """LXD as a round sees it. ``look`` reads it, the other methods read parts of it again.

    What can't be read of one instance or project is a problem, and leaves that one out. Raises what
    the ports raise when LXD itself can't be asked.
    """

    lxd: Lxd
    clock: Callable[[], datetime]
    problems: Problems
    projects: frozenset[str] = frozenset()
    unfinished: frozenset[Key] = frozenset()
    _instances: dict[Key, Instance] = field(default_factory=dict)
    _configs: dict[str, Config] = field(default_factory=dict)
    _stores: dict[str, _Store] = field(default_factory=dict)
    _absent_members: frozenset[str] = frozenset()

    # ---- instances

    def look_at_instances(self) -> tuple[Instance, ...]:
        """Read all instances, and return them."""
        listed = self.lxd.instances.list(project=None)
        self._instances = {(one.project, one.name): one for one in listed if self._is_legible(one)}
        return self.instances

    def _is_legible(self, instance: Instance) -> bool:
        """Whether its keys can be read: whatever they say, it harms that instance alone."""
        with self.problems.about(instance.project, instance.name):
            is_enrolled(instance, self.projects)
            policy_of(instance.expanded_config)
            stamp_of(instance)
            rejections_of(instance.config)
            return True
        return False

    @property
    def instances(self) -> tuple[Instance, ...]:
        """The instances as they were read last."""
        return tuple(self._instances.values())

    def get(self, key: Key) -> Instance | None:
        """Return an instance as it was read last."""
        return self._instances.get(key)

    def renew(self, key: Key) -> Instance | None:
        """Read one instance again; None when it isn't there any more."""
        try:
            instance = self.lxd.instances.get(key[1], project=key[0])
        except AbsentError:
            self._instances.pop(key, None)
            return None
        if not self._is_legible(instance):
            self._instances.pop(key, None)
            return None
        self._instances[key] = instance
        return instance

    # ---- projects and images

    def look(self) -> None:
        """Read what belongs to the instances: projects, images, members of a cluster."""
        self._configs = {one.name: one.config for one in self.lxd.projects.list()}
        self._stores = {}
        for project in followed_projects(self.instances, self.projects):
            self._read_images(project)
        clustered = any(one.location not in {"", "none"} for one in self.instances)
        members = self.lxd.server.members() if clustered else ()
        self._absent_members = frozenset(one.name for one in members if one.status != "Online")

    def config(self, project: str) -> Config:
        """Return a project's keys; none for one that wasn't there."""
        return self._configs.get(project, {})

    def _owner(self, project: str) -> str:
        """Whose images a project sees."""
        shared = self.config(project).get("features.images", "true") == "false"
        return DEFAULT_PROJECT if shared else project

    def _read_images(self, project: str) -> None:
        owner = self._owner(project)
        if owner in self._stores:
            return
        with self.problems.about(project, ""):
            self._stores[owner] = _Store(self.lxd.images.list(project=project), self.clock())

    def renew_images(self, project: str, *, aged: bool = False) -> None:
        """Read a project's images again; with ``aged`` only those that were read a while ago."""
        held = self._stores.get(self._owner(project))
        if aged and held is not None and held.at <= self.clock() < held.at + _IMAGES_AGE:
            return
        self._stores.pop(self._owner(project), None)
        self._read_images(project)

    def images(self, project: str) -> tuple[Image, ...]:
        """Return the images a project sees."""
        held = self._stores.get(self._owner(project))
        return held.images if held is not None else ()

    def knows(self, project: str) -> bool:
        """Whether the project's images could be read."""
        return self._owner(project) in self._stores

    # ---- what a plan is made from

    def busy(self, projects: Iterable[str]) -> frozenset[Key]:
        """Ask which instances of these projects LXD is at work on."""
        return frozenset(
            key
            for project in sorted(set(projects))
            for operation in self.lxd.server.operations(project=project)
            for key in _worked_on(operation)
        )

    def scene(
        self,
        *,
        by_hand: bool = False,
        busy: frozenset[Key] = frozenset(),
        standing: Mapping[tuple[str, FollowedImage], frozenset[str]] = MappingProxyType({}),
        only: Instance | None = None,
    ) -> Scene:
        """Return what a plan is made from; with ``only`` the plan of this instance alone.

        ``standing`` is what servers said themselves; see :func:`newest`.
        """
        followed = followed_projects(self.instances, self.projects)
        images = {project: self.images(project) for project in followed if self.knows(project)}
        return Scene(
            instances=self.instances if only is None else (only,),
            images=images,
            aliases={project: _aliases(held, project) for project, held in images.items()},
            now=self.clock(),
            projects=self.projects,
            busy=busy,
            unfinished=self.unfinished,
            absent_members=self._absent_members,
            by_hand=by_hand,
            standing=standing,
        )


def followed_projects(instances: tuple[Instance, ...], projects: frozenset[str]) -> tuple[str, ...]:
    """Return the projects with enrolled instances, in order."""
    return tuple(sorted({one.project for one in instances if is_enrolled(one, projects)}))


def _aliases(images: tuple[Image, ...], project: str) -> tuple[Alias, ...]:
    """Return the names that images say they have."""
    return tuple(
        Alias(name=name, fingerprint=image.fingerprint, project=project, type=image.type)
        for image in images
        for name in image.aliases
    )


def _worked_on(operation: Operation) -> list[Key]:
    if operation.ended:
        return []
    found = []
    for path in operation.resources:
        parts = urlsplit(path)
        pieces = tuple(parts.path.strip("/").split("/"))
        if pieces[:2] == _INSTANCES_PATH and len(pieces) > len(_INSTANCES_PATH):
            project = parse_qs(parts.query).get("project", [operation.project or DEFAULT_PROJECT])
            found.append((project[0], pieces[2]))
    return found
