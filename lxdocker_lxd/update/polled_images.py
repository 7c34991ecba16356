"""Images of names whose servers are asked directly: has LXD fetch them anew, and clears up.

LXD reads a server once an hour by the text of its URL. Where the server has its tree under other
URLs too, the new version is fetched under one that nobody has used. LXD keeps that URL with the
image, and its own updates go on from there. A server that has none is told of, and LXD is asked to
look each time, until its hour is over.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.lxd.failures import AbsentError
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Image, Instance, UpdateSource
from lxdocker_lxd.update.enrolment import Poll, is_enrolled, policy_of
from lxdocker_lxd.update.image_server_poll import ImageServerPoll, Server
from lxdocker_lxd.update.plan import Scene
from lxdocker_lxd.update.source import (
    FollowedImage,
    Source,
    certificate_of,
    followed_image,
    is_fetched_anew,
    newest,
    plain_server,
)
from lxdocker_lxd.update.stream_listing import Listed, Wanted

_HOUR = timedelta(hours=1)
_FIRST_REST_SECONDS = 60.0
_LONGEST_REST_SECONDS = 3600.0
_BELIEVED_SECONDS = 3600.0
_MOST_DOUBLINGS = 10
_STREAMS = "simplestreams"

Name = tuple[str, FollowedImage]
"""A project, and what is followed there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Polled:
    """A name whose server is asked: by which trust, and what is wanted of it."""

    project: str
    followed: FollowedImage
    server: Server
    wanted: Wanted

    @property
    def name(self) -> Name:
        """Project and what is followed."""
        return (self.project, self.followed)

    @property
    def source(self) -> Source:
        """The name, without type and architecture."""
        return self.followed.source


@dataclass(slots=True)
class _Attempt:
    """What was tried to get one listed version into the store."""

    listed: Listed
    first: datetime
    not_before_seconds: float
    failures: int = 0
    told: bool = False


@dataclass(slots=True)
class PolledImages:
    """Keeps what it tried between rounds; ``default`` counts for instances without a key.

    ``clock`` is for people, ``monotonic`` counts seconds and says when to try again.
    """

    poll: ImageServerPoll
    clock: Callable[[], datetime]
    monotonic: Callable[[], float]
    default: Poll = Poll.LXD
    _names: dict[Name, Polled] = field(default_factory=dict)
    _attempts: dict[Name, _Attempt] = field(default_factory=dict)
    _pulled: dict[Name, tuple[str, float]] = field(default_factory=dict)

    def follow(self, scene: Scene) -> None:
        """Find out which servers are to be asked, and let that begin."""
        since = self.monotonic() - _BELIEVED_SECONDS
        self._pulled = {key: one for key, one in self._pulled.items() if since < one[1]}
        self._names = {}
        for instance in scene.instances:
            polled = self._polled(instance, scene)
            if polled is not None:
                self._names[polled.name] = polled
        wanted: dict[Server, frozenset[Wanted]] = {}
        for one in self._names.values():
            wanted[one.server] = wanted.get(one.server, frozenset()) | {one.wanted}
        self.poll.follow(wanted)
        self._attempts = {key: one for key, one in self._attempts.items() if key in self._names}

    def _polled(self, instance: Instance, scene: Scene) -> Polled | None:
        policy = policy_of(instance.expanded_config)
        source = policy.source
        if (policy.poll or self.default) is not Poll.REMOTE or source is None:
            return None
        if source.protocol != _STREAMS or not is_enrolled(instance, scene.projects):
            return None
        images = scene.images.get(instance.project, ())
        return Polled(
            project=instance.project,
            followed=followed_image(source, instance),
            server=Server(
                url=source.server, certificate=certificate_of(source, images) or policy.certificate
            ),
            wanted=Wanted(
                alias=source.alias, architecture=instance.architecture, type=instance.type
            ),
        )

    def is_polled(self, name: Name) -> bool:
        """Whether the name's server is asked."""
        return name in self._names

    def standing(self) -> Mapping[Name, frozenset[str]]:
        """Return the fingerprints that names stand for, as far as their servers have said."""
        since = self.monotonic() - _BELIEVED_SECONDS
        found = {
            name: frozenset({fingerprint})
            for name, (fingerprint, at) in self._pulled.items()
            if since < at
        }
        for name, one in self._names.items():
            listed = self._listed(one)
            if listed is not None:
                found[name] = listed.fingerprints
        return found

    def remember(self, name: Name, fingerprint: str) -> None:
        """Believe for an hour what LXD said when it fetched a name.

        It keeps one name with each image. Where another was first, the image doesn't tell that it
        is this one's as well, and fetching it again would be news again.
        """
        self._pulled[name] = (fingerprint, self.monotonic())

    def _listed(self, one: Polled) -> Listed | None:
        return self.poll.listed(one.server, one.wanted)

    # ---- bringing new versions

    def fetch(
        self, lxd: Lxd, scene: Scene, problems: list[str], remarks: list[str], *, at_once: bool
    ) -> frozenset[str]:
        """Let LXD fetch what the servers have and the store hasn't; ``at_once`` doesn't rest.

        Return the projects whose images may be others now.
        """
        problems += self.poll.problems()
        tried = set()
        for name, one in self._names.items():
            listed = self._listed(one)
            if listed is None or _held(listed, scene.images.get(one.project, ())):
                self._attempts.pop(name, None)
                continue
            attempt = self._attempts.get(name)
            if attempt is None or attempt.listed != listed:
                attempt = _Attempt(listed=listed, first=self.clock(), not_before_seconds=0.0)
                self._attempts[name] = attempt
            if at_once or attempt.not_before_seconds <= self.monotonic():
                tried.add(one.project)
                self._attempt(lxd, one, attempt, scene, problems, remarks)
        return frozenset(tried)

    def _attempt(
        self,
        lxd: Lxd,
        one: Polled,
        attempt: _Attempt,
        scene: Scene,
        problems: list[str],
        remarks: list[str],
    ) -> None:
        """Try once, and rest before the next time: what didn't work may never work."""
        attempt.failures += 1
        rest_seconds = _FIRST_REST_SECONDS * (1 << min(attempt.failures, _MOST_DOUBLINGS))
        url = self.poll.again_url(one.server, attempt.listed)
        try:
            if url:
                self._pull(lxd, one, url, attempt.listed)
            else:
                rest_seconds = _FIRST_REST_SECONDS
                self._let_lxd_look(lxd, one, scene)
                self._remark(one, attempt, remarks)
        except LxdockerError as error:
            problems.append(f"{one.source}: version {attempt.listed.serial}: {error.message}")
        attempt.not_before_seconds = self.monotonic() + min(rest_seconds, _LONGEST_REST_SECONDS)

    def _pull(self, lxd: Lxd, one: Polled, url: str, listed: Listed) -> None:
        source = UpdateSource(
            server=url,
            alias=one.source.alias,
            protocol=one.source.protocol,
            certificate=one.server.certificate,
            image_type=one.wanted.type,
        )
        found = lxd.images.pull(source, project=one.project)
        # A rehearsal doesn't know what would come.
        if found and found not in listed.fingerprints:
            raise LxdockerError(f"LXD got {found[:12]} instead; the server has moved on, or lies")

    def _let_lxd_look(self, lxd: Lxd, one: Polled, scene: Scene) -> None:
        image = newest(one.followed, scene.images.get(one.project, ()), ())
        if image is not None:
            let_look(lxd, image, project=one.project)

    def _remark(self, one: Polled, attempt: _Attempt, remarks: list[str]) -> None:
        if not attempt.told:
            attempt.told = True
            sees = (attempt.first + _HOUR).astimezone().strftime("%H:%M")
            remarks.append(
                f"{one.source}: there is a newer version, {attempt.listed.serial}; LXD, which reads"
                f" this server once an hour, sees it by {sees}"
            )

    # ---- clearing up

    def clear_up(self, lxd: Lxd, scene: Scene, problems: list[str]) -> tuple[str, ...]:
        """Delete images that were fetched anew and that another version has taken the place of.

        Only those nobody has given a name, made public or made an instance of, that is still there.
        """
        removed = []
        used = {one.base_image for one in scene.instances}
        for project, images in scene.images.items():
            for image in images:
                if image.fingerprint in used or not _is_left_over(image, project, scene):
                    continue
                try:
                    lxd.images.delete(image.fingerprint, project=project)
                    removed.append(image.fingerprint)
                except AbsentError:
                    continue
                except LxdockerError as error:
                    problems.append(f"delete the superseded image: {error.message}")
        return tuple(removed)


def _is_left_over(image: Image, project: str, scene: Scene) -> bool:
    origin = image.update_source
    if origin is None or not is_fetched_anew(image) or image.aliases or image.public:
        return False
    if image.project != project:
        # It belongs to the project whose images this one shows, and is judged there.
        return False
    source = Source(
        alias=origin.alias, server=plain_server(origin.server), protocol=origin.protocol
    )
    followed = FollowedImage(
        source=source, type=image.type or "container", architecture=image.architecture
    )
    standing = scene.standing.get((project, followed), frozenset())
    held = newest(followed, scene.images.get(project, ()), (), standing)
    return held is not None and held.fingerprint != image.fingerprint


def _held(listed: Listed, images: tuple[Image, ...]) -> bool:
    return any(image.fingerprint in listed.fingerprints for image in images)


def let_look(lxd: Lxd, image: Image, *, project: str) -> None:
    """Let LXD look for a newer version of an image; what it found is read from the store."""
    try:
        lxd.images.refresh(image.fingerprint, project=project)
    except AbsentError:
        # Its place was taken by an image that came from another URL of the same server.
        return
