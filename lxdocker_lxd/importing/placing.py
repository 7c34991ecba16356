"""One image under its names in one project of a LXD: all of it, or nothing.

The image comes first, then its aliases; when any of them fails, what was done is taken back in
reverse, so that no nameless image and no half-moved name stays. Replaced images go last, after the
new one has all its names.
"""

from collections.abc import Callable, Collection, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace

from lxdocker_lxd.errors import LxdError, LxdockerError
from lxdocker_lxd.lxd.failures import AbsentError, ImageExistsError
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Alias, Image


class AliasTakenError(LxdError):
    """A name that is wanted belongs to another image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """The names wanted, and what may happen to images that have them now.

    ``ours`` are fingerprints of earlier versions of the same import: their names move without
    asking. ``replace`` moves names of other images too. ``delete_ours`` and ``delete_others`` tell
    what becomes of images that lost their last name by that.
    """

    aliases: tuple[str, ...]
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

    def check(self, naming: Naming) -> None:
        """Raise AliasTakenError for a name that may not be moved, before any work is done."""
        self._check(naming, self._held(naming.aliases), "")

    def _held(self, wanted: Iterable[str]) -> dict[str, Alias]:
        names = set(wanted)
        listed = self._lxd.aliases.list(project=self._project)
        return {alias.name: alias for alias in listed if alias.name in names}

    def _check(self, naming: Naming, held: dict[str, Alias], fingerprint: str) -> None:
        for alias in held.values():
            mine = alias.fingerprint in naming.ours or alias.fingerprint == fingerprint
            if not (mine or naming.replace):
                raise AliasTakenError(
                    f"the alias {alias.name!r} of project {self._project} names another image"
                    f" ({alias.fingerprint[:12]})",
                    hint="move it with --replace, or choose another name with --alias",
                )

    def image(self, fingerprint: str) -> Image | None:
        """Return an image of the project, if it is there."""
        try:
            return self._lxd.images.get(fingerprint, project=self._project)
        except AbsentError:
            return None

    def place(
        self, fetch: Callable[[], str], naming: Naming, *, fingerprint: str = "", public: bool
    ) -> Placed:
        """Bring an image in with ``fetch``, unless ``fingerprint`` is there, and name it."""
        with ExitStack() as undo:
            there = self.image(fingerprint) if fingerprint else None
            sent = there is None
            if there is None:
                before = {one.fingerprint for one in self._lxd.images.list(project=self._project)}
                try:
                    fingerprint = fetch()
                    # A pull may end with an image that was there all the time.
                    sent = fingerprint not in before
                except ImageExistsError as error:
                    fingerprint, sent = error.fingerprint, False
                if sent:
                    undo.callback(self._delete, fingerprint)
            elif public and not there.public:
                self._lxd.images.edit(replace(there, public=True), project=self._project)
                undo.callback(self._unpublish, fingerprint)
            made, moved = self._name(naming, fingerprint, undo)
            undo.pop_all()
        deleted = self._retire({alias.fingerprint for alias in moved}, naming)
        return Placed(
            fingerprint=fingerprint,
            sent=sent,
            named=bool(made or moved),
            aliases=naming.aliases,
            moved=tuple(alias.name for alias in moved),
            deleted=deleted,
        )

    def _name(
        self, naming: Naming, fingerprint: str, undo: ExitStack
    ) -> tuple[list[str], list[Alias]]:
        """Give the image its names; return new ones, and as they were those of other images."""
        held = self._held(naming.aliases)
        self._check(naming, held, fingerprint)
        made: list[str] = []
        moved: list[Alias] = []
        for name in naming.aliases:
            if name not in held:
                self._lxd.aliases.create(name, fingerprint, project=self._project)
                undo.callback(self._unname, name)
                made.append(name)
            elif held[name].fingerprint != fingerprint:
                alias = self._lxd.aliases.get(name, project=self._project)
                self._lxd.aliases.move(alias, fingerprint)
                undo.callback(self._move_back, alias)
                moved.append(alias)
        return made, moved

    def _retire(self, fingerprints: Collection[str], naming: Naming) -> tuple[str, ...]:
        """Delete replaced images that nothing names any more, as far as that is wanted."""
        named = {alias.fingerprint for alias in self._lxd.aliases.list(project=self._project)}
        gone = []
        for fingerprint in sorted(fingerprints):
            unwanted = naming.delete_ours if fingerprint in naming.ours else naming.delete_others
            if unwanted and fingerprint not in named:
                self._delete(fingerprint)
                gone.append(fingerprint)
        return tuple(gone)

    # ---- taking back; the first failure is what a user is told, not one of these

    def _delete(self, fingerprint: str) -> None:
        self._quietly(lambda: self._lxd.images.delete(fingerprint, project=self._project))

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
    def _quietly(act: Callable[[], None]) -> None:
        try:
            act()
        except LxdockerError:
            return
