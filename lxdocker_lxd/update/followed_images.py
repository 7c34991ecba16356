"""Images that instances follow: where they come from is written down, and LXD is made to hold them."""

from collections.abc import Iterable

from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Image, Instance, UpdateSource
from lxdocker_lxd.update.enrolment import is_enrolled, policy_of
from lxdocker_lxd.update.holder import HOLDER_KEY, holder_of
from lxdocker_lxd.update.polled_images import PolledImages, let_look
from lxdocker_lxd.update.problem import Problems
from lxdocker_lxd.update.scene import Picture
from lxdocker_lxd.update.source import (
    CERTIFICATE_KEY,
    SOURCE_KEY,
    FollowedImage,
    Source,
    certificate_of,
    discovered,
    followed_image,
    newest,
)


class FollowedImages:
    """The images of a round; what is changed in LXD is read again into the picture."""

    def __init__(
        self,
        lxd: Lxd,
        picture: Picture,
        problems: Problems,
        *,
        polled: PolledImages | None = None,
    ) -> None:
        self._lxd = lxd
        self._picture = picture
        self._problems = problems
        self._polled = polled

    def learn_sources(self) -> None:
        """Write down of each enrolled instance whom its keys are for, and where its image comes from."""
        picture = self._picture
        for instance in picture.instances:
            key = (instance.project, instance.name)
            if not is_enrolled(instance, picture.projects) or not picture.knows(instance.project):
                continue
            images = picture.images(instance.project)
            with self._problems.about(*key):
                if self._learn(instance, images):
                    picture.renew(key)

    def _learn(self, instance: Instance, images: Iterable[Image]) -> bool:
        """Write down what is missing; return whether something was."""
        wrote = False
        if not instance.config.get(HOLDER_KEY):
            write_key(self._lxd, instance, HOLDER_KEY, holder_of(instance))
            wrote = True
        if not instance.expanded_config.get(SOURCE_KEY):
            source = discovered(instance, images)
            write_key(self._lxd, instance, SOURCE_KEY, str(source))
            remember_certificate(self._lxd, instance, source, images)
            return True
        known = policy_of(instance.expanded_config).source
        if known is not None and remember_certificate(self._lxd, instance, known, images):
            return True
        return wrote

    def fetch_polled(self, remarks: list[str], *, refresh: bool) -> None:
        """Bring what servers have that are asked directly; with ``refresh`` ask them now."""
        if self._polled is None:
            return
        said: list[str] = []
        scene = self._picture.scene(standing=self._polled.standing())
        self._polled.follow(scene)
        if refresh:
            self._polled.poll.look(at_once=True)
        fetched = self._polled.fetch(self._lxd, scene, said, remarks, at_once=refresh)
        for text in said:
            self._problems.add(text)
        for project in fetched:
            self._picture.renew_images(project)

    def hold(self, *, refresh: bool) -> None:
        """Fetch tracked images that the store hasn't, and look for newer ones if asked to.

        What LXD fetched for an instance it removes some days later (and would not keep if it was
        asked to fetch it again); what we fetch then it keeps, and follows by itself.
        """
        picture = self._picture
        standing = self._polled.standing() if self._polled is not None else {}
        tracked: dict[tuple[str, FollowedImage], tuple[Image | None, str]] = {}
        for instance in picture.instances:
            policy = policy_of(instance.expanded_config)
            source, project = policy.source, instance.project
            if not is_enrolled(instance, picture.projects) or not picture.knows(project):
                continue
            if source is not None and source.server:
                images = picture.images(project)
                followed = followed_image(source, instance)
                image = newest(followed, images, (), standing.get((project, followed), frozenset()))
                certificate = certificate_of(source, images) or policy.certificate
                tracked[(project, followed)] = (image, certificate)
        changed = set()
        for (project, followed), (image, certificate) in tracked.items():
            with self._problems.about(project, "", str(followed.source)):
                if image is None:
                    changed.add(project)
                    self._pull(project, followed, certificate)
                elif refresh:
                    changed.add(project)
                    let_look(self._lxd, image, project=project)
        for project in sorted(changed):
            picture.renew_images(project)

    def _pull(self, project: str, followed: FollowedImage, certificate: str) -> None:
        source = followed.source
        wanted = UpdateSource(
            server=source.server,
            alias=source.alias,
            protocol=source.protocol,
            certificate=certificate,
            image_type=followed.type,
        )
        fingerprint = self._lxd.images.pull(wanted, project=project)
        if self._polled is not None:
            self._polled.remember((project, followed), fingerprint)

    def clear_up(self) -> None:
        """Delete images that were fetched anew and that nobody needs any more."""
        if self._polled is None:
            return
        said: list[str] = []
        scene = self._picture.scene(standing=self._polled.standing())
        self._polled.clear_up(self._lxd, scene, said)
        for text in said:
            self._problems.add(text)


def write_key(lxd: Lxd, instance: Instance, key: str, value: str) -> None:
    """Set one key of an instance, on the condition that nobody changed it since it was read."""
    fresh = lxd.instances.get(instance.name, project=instance.project)
    lxd.instances.patch(fresh.name, config={key: value}, etag=fresh.etag, project=fresh.project)


def remember_certificate(
    lxd: Lxd, instance: Instance, source: Source, images: Iterable[Image]
) -> bool:
    """Write down what LXD trusts for the image's server, before it forgets it with the image.

    Return whether there was anything to write down.
    """
    certificate = certificate_of(source, images) if source.server else ""
    if not certificate or instance.expanded_config.get(CERTIFICATE_KEY):
        return False
    write_key(lxd, instance, CERTIFICATE_KEY, certificate)
    return True
