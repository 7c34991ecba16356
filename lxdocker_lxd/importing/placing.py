"""One image under its names in one project of a LXD: all of it, or nothing.

The image comes first, then its aliases; when any of them fails, what was done is taken back in
reverse, so that no nameless image and no half-moved name stays. Replaced images go last, after the
new one has all its names.
"""

from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass, replace

from lxdocker_lxd.errors import LxdError, LxdockerError
from lxdocker_lxd.importing.naming import pinned_digest
from lxdocker_lxd.lxd.failures import AbsentError, ImageExistsError, UnknownOutcomeError
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Alias, Image

_DIGEST_KEYS = ("requirements.lxdocker.digest", "requirements.lxdocker.manifest")


class AliasTakenError(LxdError):
    """A name that is wanted belongs to another image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """The names wanted, and what may happen to images that have them now.

    ``ours`` are fingerprints of earlier versions of the same import: their names move without
    asking. ``replace`` moves names of other images too. A name by digest moves from any image that
    was made from the same digest; those among ``extra`` stay with it, for it serves as well.
    ``delete_ours`` and ``delete_others`` tell what becomes of images that lost their last name, those
    by digest not counted.
    """

    aliases: tuple[str, ...]
    extra: tuple[str, ...] = ()
    ours: frozenset[str] = frozenset()
    replace: bool = False
    delete_ours: bool = True
    delete_others: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """What happened: whether the image was sent, and got any name; which names moved from other
    images, and which images went.
    """

    fingerprint: str
    sent: bool
    named: bool
    aliases: tuple[str, ...]
    moved: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()


class Shelf:
    """A project's image store, as far as placing needs it."""

    def __init__(self, lxd: Lxd, project: str) -> None:
        self._lxd = lxd
        self._project = project

    def check(self, naming: Naming, fingerprint: str = "") -> tuple[str, ...]:
        """Return the names that would move to an image from other ones, before any work is done.

        Raises AliasTakenError for a name that may not be moved.
        """
        held = self._refuse_taken(naming, fingerprint)
        return tuple(
            name
            for name in dict.fromkeys((*naming.aliases, *naming.extra))
            if name in held and _moves(held[name], naming, fingerprint)
        )

    def _refuse_taken(self, naming: Naming, fingerprint: str) -> dict[str, Alias]:
        """Return the wanted names that exist; raise AliasTakenError for one that may not be moved."""
        wanted = {*naming.aliases, *naming.extra}
        listed = self._lxd.aliases.list(project=self._project)
        held = {alias.name: alias for alias in listed if alias.name in wanted}
        for alias in held.values():
            mine = alias.fingerprint in naming.ours or alias.fingerprint == fingerprint
            if not (mine or naming.replace or self._same_content(alias)):
                raise AliasTakenError(
                    f"the alias {alias.name!r} of project {self._project} names another image"
                    f" ({alias.fingerprint[:12]})",
                    hint="move it with --replace, or choose another name with --alias",
                )
        return held

    def _same_content(self, alias: Alias) -> bool:
        """Whether a name by digest stands for an image made from that digest."""
        digest = pinned_digest(alias.name)
        image = self.image(alias.fingerprint) if digest else None
        return image is not None and digest in {image.properties.get(key) for key in _DIGEST_KEYS}

    def image(self, fingerprint: str) -> Image | None:
        """Return an image of the project, if it is there."""
        try:
            return self._lxd.images.get(fingerprint, project=self._project)
        except AbsentError:
            return None

    def without_source(self, fingerprints: Collection[str]) -> frozenset[str]:
        """Return those that are there and that LXD doesn't follow itself.

        Images with an update source are LXD's.
        """
        return frozenset(
            image.fingerprint
            for image in self._lxd.images.list(project=self._project)
            if image.update_source is None and image.fingerprint in fingerprints
        )

    def place(
        self,
        fetch: Callable[[], str],
        naming: Naming,
        *,
        fingerprint: str = "",
        public: bool,
        brought: bool = False,
    ) -> Placed:
        """Bring an image in with ``fetch``, unless ``fingerprint`` is there, and name it.

        An image that was ``brought`` a moment ago goes again too when it can't be named.
        """
        with ExitStack() as undo:
            if brought:
                undo.callback(self._delete, fingerprint)
            there = self.image(fingerprint) if fingerprint else None
            sent = there is None or brought
            if there is None:
                fingerprint, sent = self._fetched(fetch, fingerprint)
                if sent and not brought:
                    undo.callback(self._delete, fingerprint)
            elif public and not there.public:
                undo.callback(self._unpublish, fingerprint)
                self._lxd.images.edit(replace(there, public=True), project=self._project)
            made, moved = self._name(naming, fingerprint, undo)
            undo.pop_all()
        # A try that was killed may have left earlier versions that nothing names.
        replaced = {alias.fingerprint for alias in moved} | naming.ours
        deleted = self._retire(replaced - {fingerprint}, naming)
        return Placed(
            fingerprint=fingerprint,
            sent=sent,
            named=bool(made or moved),
            aliases=tuple(dict.fromkeys((*naming.aliases, *naming.extra))),
            moved=tuple(alias.name for alias in moved),
            deleted=deleted,
        )

    def _fetched(self, fetch: Callable[[], str], expected: str) -> tuple[str, bool]:
        """Run ``fetch``; return the image and whether it is new in the project."""
        before = {image.fingerprint for image in self._lxd.images.list(project=self._project)}
        try:
            fingerprint = fetch()
        except ImageExistsError as error:
            return error.fingerprint, False
        except UnknownOutcomeError:
            # The answer is lost; the image may have arrived all the same.
            if not expected or not self._arrived(expected):
                raise
            fingerprint = expected
        # A pull may end with an image that was there all the time.
        return fingerprint, fingerprint not in before

    def _arrived(self, fingerprint: str) -> bool:
        try:
            return self.image(fingerprint) is not None
        except LxdockerError:
            # LXD may just be starting again; the first failure tells more.
            return False

    def _name(
        self, naming: Naming, fingerprint: str, undo: ExitStack
    ) -> tuple[list[str], list[Alias]]:
        """Give the image its names; return new ones, and as they were those of other images."""
        held = self._refuse_taken(naming, fingerprint)
        made: list[str] = []
        moved: list[Alias] = []
        for name in dict.fromkeys((*naming.aliases, *naming.extra)):
            now = held.get(name)
            if now is None:
                self._create_alias(name, fingerprint)
                undo.callback(self._unname, name)
                made.append(name)
            elif _moves(now, naming, fingerprint):
                alias = self._lxd.aliases.get(name, project=self._project)
                undo.callback(self._move_back, alias)
                self._lxd.aliases.move(alias, fingerprint)
                moved.append(alias)
        return made, moved

    def _create_alias(self, name: str, fingerprint: str) -> None:
        try:
            self._lxd.aliases.create(name, fingerprint, project=self._project)
        except UnknownOutcomeError:
            self._unname(name)
            raise

    def _retire(self, fingerprints: Collection[str], naming: Naming) -> tuple[str, ...]:
        """Delete replaced images that nothing names any more, as far as that is wanted."""
        try:
            listed = self._lxd.aliases.list(project=self._project)
        except LxdockerError:
            # All is in place; the next import or a user removes what is left.
            return ()
        named = {alias.fingerprint for alias in listed if not pinned_digest(alias.name)}
        gone = []
        for fingerprint in sorted(fingerprints):
            unwanted = naming.delete_ours if fingerprint in naming.ours else naming.delete_others
            if unwanted and fingerprint not in named and self._delete(fingerprint):
                gone.append(fingerprint)
        return tuple(gone)

    # ---- taking back; the first failure is what a user is told, not one of these

    def _delete(self, fingerprint: str) -> bool:
        return self._quietly(lambda: self._lxd.images.delete(fingerprint, project=self._project))

    def _unname(self, name: str) -> None:
        self._quietly(lambda: self._lxd.aliases.delete(name, project=self._project))

    def _move_back(self, alias: Alias) -> None:
        def move() -> None:
            now = self._lxd.aliases.get(alias.name, project=self._project)
            self._lxd.aliases.move(now, alias.fingerprint)

        self._quietly(move)

    def _unpublish(self, fingerprint: str) -> None:
        def edit() -> None:
            image = self._lxd.images.get(fingerprint, project=self._project)
            self._lxd.images.edit(replace(image, public=False), project=self._project)

        self._quietly(edit)

    @staticmethod
    def _quietly(act: Callable[[], None]) -> bool:
        try:
            act()
        except LxdockerError:
            return False
        return True


def _moves(now: Alias, naming: Naming, fingerprint: str) -> bool:
    """Whether a name goes from the image that has it to the one that is placed."""
    wanted = now.name in naming.aliases or now.fingerprint in naming.ours
    return wanted and now.fingerprint != fingerprint
