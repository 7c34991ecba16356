"""The use case ``import``: one source, converted or copied, in one project of one LXD.

Order: look whether the aliases are free; convert (nothing is pulled or built that the catalogue has
already); send what LXD hasn't got; name it; remember it. A failure before the last step leaves LXD
as it was.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from lxdocker_lxd.convert.run import ConvertOptions
from lxdocker_lxd.errors import LxdockerError, UsageError
from lxdocker_lxd.importing.conversion import Published
from lxdocker_lxd.importing.import_directory import ImportDirectory
from lxdocker_lxd.importing.import_plan import Clock, ImportPlan, PlannedChoice, Planner
from lxdocker_lxd.importing.import_record import ImportRecord, with_record
from lxdocker_lxd.importing.lxc_remotes import LxcRemote
from lxdocker_lxd.importing.naming import lxe_aliases
from lxdocker_lxd.importing.placing import Naming, Placed, Shelf
from lxdocker_lxd.importing.sending import send, steps
from lxdocker_lxd.importing.source_choice import Choice, RemoteChoice, SourceChoice
from lxdocker_lxd.importing.streaming import Streaming
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import DEFAULT_PROJECT, UpdateSource
from lxdocker_lxd.platform import Platform
from lxdocker_lxd.progress import ImageFinished, Progress, StageStarted

# Image properties that only ours have: one from metadata.yaml, one from upload or image server.
ORIGIN_KEYS = ("lxdocker.product", "requirements.lxdocker.image")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What was said beside the source. No ``aliases`` means those that go without saying.

    ``replace`` may take names from any image. ``delete_old`` None deletes earlier versions of the
    same import and keeps other images; True and False do so with all.
    """

    aliases: tuple[str, ...] = ()
    lxe: bool = False
    public: bool = False
    replace: bool = False
    delete_old: bool | None = None

    def naming(self, aliases: tuple[str, ...], ours: frozenset[str]) -> Naming:
        """Return these wishes for an image with these names."""
        return Naming(
            aliases=tuple(dict.fromkeys(aliases)),
            ours=ours,
            replace=self.replace,
            delete_ours=self.delete_old is not False,
            delete_others=self.delete_old is True,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where to: ``remote`` is lxc's name for that LXD, empty for this machine's."""

    lxd: Lxd
    remote: str = ""
    project: str = DEFAULT_PROJECT


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOutcome:
    """What came of an import.

    ``outcome`` is ``imported``, ``renamed`` (LXD had the image under other names), ``unchanged``,
    ``would-import``, ``would-keep``, ``forgotten`` or ``failed``.
    """

    source: str
    name: str
    outcome: str
    project: str = DEFAULT_PROJECT
    remote: str = ""
    fingerprint: str = ""
    serial: str = ""
    size_bytes: int | None = None
    aliases: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    seconds: float = 0.0
    error: LxdockerError | None = None


class Importer:
    """Imports into one destination. ``options`` are those of ``convert``, for the user's specs.

    ``certificate`` returns the PEM text that is trusted for a remote's server, or an empty one.
    """

    def __init__(
        self,
        options: ConvertOptions,
        directory: ImportDirectory,
        destination: Destination,
        progress: Progress,
        *,
        now: Clock,
        certificate: Callable[[LxcRemote], str],
    ) -> None:
        self._directory = directory
        self._lxd = destination.lxd
        self._destination = destination
        self._project = destination.project
        self._progress = progress
        self._now = now
        self._certificate = certificate
        self._shelf = Shelf(destination.lxd, destination.project)
        self._planner = Planner(options, directory, architecture_of(destination.lxd))

    def run(
        self, text: str, choice: Choice, wishes: Wishes, *, dry_run: bool = False
    ) -> ImportOutcome:
        """Import what ``choice`` is, which ``text`` named. Raises LxdockerError."""
        started = time.monotonic()
        if isinstance(choice, RemoteChoice):
            outcome = self._copy(text, choice, wishes, dry_run=dry_run)
        else:
            outcome = self._import(text, choice, wishes, dry_run=dry_run)
        self._progress.emit(ImageFinished(image=outcome.name, outcome=outcome.outcome, detail=""))
        return replace(outcome, seconds=time.monotonic() - started)

    def has(self, alias: str) -> bool:
        """Whether the alias names one of our images in LXD."""
        found = {one.name: one.fingerprint for one in self._lxd.aliases.list(project=self._project)}
        image = self._shelf.image(found[alias]) if alias in found else None
        return image is not None and any(image.properties.get(key) for key in ORIGIN_KEYS)

    def alias_of(self, choice: Choice) -> str:
        """Return the alias that an import of this choice gets without being told."""
        if isinstance(choice, RemoteChoice):
            return _label(choice)
        return self._planner.plan(choice).aliases[0]

    # ---- converted here

    def _import(
        self, text: str, choice: PlannedChoice, wishes: Wishes, *, dry_run: bool
    ) -> ImportOutcome:
        plan = self._planner.plan(choice)
        aliases = (*(wishes.aliases or plan.aliases), *_wanted_by_lxe(text, plan, wishes))
        naming = wishes.naming(aliases, self._ours(plan))
        self._shelf.check(naming)
        if dry_run:
            return self._foreseen(text, plan, naming)
        written = isinstance(choice, SourceChoice) and self._directory.write_spec(
            plan.name, str(plan.source), plan.foreign
        )
        try:
            found, placed = self._brought(plan, naming, wishes)
        except BaseException:
            if written:
                self._directory.remove_spec(plan.name)
            raise
        record = self._record(text, plan, wishes, naming, placed.fingerprint)
        self._directory.change(lambda records: with_record(records, record))
        return self.outcome(text, found, placed)

    def _ours(self, plan: ImportPlan) -> frozenset[str]:
        """Return the fingerprints of this product's versions, and of what was sent before."""
        product = plan.product()
        versions = {version.fingerprint for version in product.versions} if product else set()
        key = self._record("", plan, Wishes(), Naming(aliases=()), "").key
        sent = {one.fingerprint for one in self._directory.records() if one.key == key}
        return self._shelf.without_source(versions | sent)

    def _brought(
        self, plan: ImportPlan, naming: Naming, wishes: Wishes
    ) -> tuple[Published, Placed]:
        """Convert, send what wasn't sent meanwhile unless LXD has it, and give it its names."""
        with self._delivery(public=wishes.public) as delivery:
            found = plan.convert(self._progress, self._now, delivery)
            brought = delivery.hand_over(found.version.fingerprint)
        version = found.version
        if wishes.lxe and plan.source is not None:
            digests = (version.source.top_digest, version.source.manifest_digest)
            naming = replace(naming, extra=lxe_aliases(plan.source, digests))

        def fetch() -> str:
            return send(
                self._lxd,
                found.directory,
                found.product,
                version,
                project=self._project,
                public=wishes.public,
                progress=self._progress,
            )

        fingerprint = version.fingerprint
        placed = self._shelf.place(
            fetch,
            naming,
            fingerprint=fingerprint,
            public=wishes.public,
            brought=brought,
        )
        return found, placed

    def _delivery(self, *, public: bool) -> Streaming:
        return Streaming(self._lxd, self._project, public=public)

    def _foreseen(self, text: str, plan: ImportPlan, naming: Naming) -> ImportOutcome:
        product = plan.product()
        there = product is not None and self._shelf.image(product.newest.fingerprint) is not None
        # Says what would fail too, at least as far as documents tell.
        delivery = self._delivery(public=False)
        kept = not plan.would_build(self._progress, self._now, delivery) and there
        newest = product.newest if product and kept else None
        return ImportOutcome(
            source=text,
            name=plan.name,
            outcome="would-keep" if kept else "would-import",
            project=self._project,
            remote=self._destination.remote,
            fingerprint=newest.fingerprint if newest else "",
            serial=newest.serial if newest else "",
            aliases=naming.aliases,
            moved=self._shelf.check(naming, newest.fingerprint if newest else ""),
        )

    def outcome(self, text: str, found: Published, placed: Placed) -> ImportOutcome:
        """Return what came of a version that was sent or found."""
        return ImportOutcome(
            source=text,
            name=found.product.name,
            outcome=word_for(placed),
            project=self._project,
            remote=self._destination.remote,
            fingerprint=placed.fingerprint,
            serial=found.version.serial,
            size_bytes=found.version.size_bytes,
            aliases=placed.aliases,
            moved=placed.moved,
            deleted=placed.deleted,
        )

    def _record(
        self, text: str, plan: ImportPlan, wishes: Wishes, naming: Naming, fingerprint: str
    ) -> ImportRecord:
        return ImportRecord(
            kind=plan.kind,
            name=plan.name,
            source=text,
            aliases=naming.aliases,
            architecture=plan.architecture,
            fingerprint=fingerprint,
            remote=self._destination.remote,
            project=self._project,
            public=wishes.public,
            lxe=wishes.lxe,
            keep_old=wishes.delete_old is False,
        )

    # ---- copied by the daemon

    def _copy(
        self, text: str, choice: RemoteChoice, wishes: Wishes, *, dry_run: bool
    ) -> ImportOutcome:
        remote, project = choice.remote, self._project
        if wishes.lxe:
            raise UsageError(
                f"--lxe is for images that are converted here, and {text} is copied from a server",
                hint="name the aliases you want with --alias",
            )
        label = _label(choice)
        source = UpdateSource(
            server=remote.address,
            protocol=remote.protocol,
            alias=choice.alias,
            certificate=self._certificate(remote),
        )
        naming = wishes.naming(wishes.aliases or (label,), self._from(source))
        self._shelf.check(naming)
        outcome = ImportOutcome(
            source=text,
            name=label,
            outcome="would-import",
            project=project,
            remote=self._destination.remote,
            aliases=naming.aliases,
        )
        if dry_run:
            return outcome
        self._progress.emit(StageStarted(image=label, stage="copy"))

        def fetch() -> str:
            on_transfer = steps(self._progress, label)
            return self._lxd.images.pull(
                source, project=project, public=wishes.public, on_transfer=on_transfer
            )

        placed = self._shelf.place(fetch, naming, public=wishes.public)
        image = self._lxd.images.get(placed.fingerprint, project=project)
        return replace(
            outcome,
            outcome=word_for(placed),
            fingerprint=placed.fingerprint,
            serial=image.properties.get("serial", ""),
            size_bytes=image.size_bytes,
            moved=placed.moved,
            deleted=placed.deleted,
        )

    def _from(self, source: UpdateSource) -> frozenset[str]:
        """Return the images that came from this source: a name may move from one to the next."""
        images = self._lxd.images.list(project=self._project)
        return frozenset(
            image.fingerprint
            for image in images
            if image.update_source is not None and image.update_source.key == source.key
        )


def _label(choice: RemoteChoice) -> str:
    return f"{choice.remote.name}/{choice.alias}".lstrip("/")


def _wanted_by_lxe(text: str, plan: ImportPlan, wishes: Wishes) -> tuple[str, ...]:
    if not wishes.lxe:
        return ()
    found = lxe_aliases(plan.source) if plan.source is not None else ()
    if not found:
        raise UsageError(
            f"LXE never looks for {text} in the local store: it copies it from a remote",
            hint="serve the image, and give LXE the remotes of `lxdocker-lxd serve --print-remotes`",
        )
    return found


def word_for(placed: Placed) -> str:
    """Return in a word what placing did."""
    if placed.sent:
        return "imported"
    return "renamed" if placed.named else "unchanged"


def architecture_of(lxd: Lxd) -> str:
    """Return the architecture that LXD runs best, in the words of images (``amd64``)."""
    architectures = lxd.server.info().architectures
    return Platform.parse(architectures[0]).lxd_architecture
