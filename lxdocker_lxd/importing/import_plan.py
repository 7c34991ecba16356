"""How one source becomes an image: whose specification, which catalogue, which names go with it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from lxdocker_lxd.catalogue import Product
from lxdocker_lxd.catalogue_directory import CatalogueDirectory
from lxdocker_lxd.convert.delivery import Delivery
from lxdocker_lxd.convert.pipeline import convert
from lxdocker_lxd.convert.run import ConvertOptions
from lxdocker_lxd.convert.spec_directory import read_specs, select
from lxdocker_lxd.importing.conversion import (
    OnTheWay,
    Published,
    converted,
    foreseen,
    outcome_of,
    published,
)
from lxdocker_lxd.importing.import_directory import ImportDirectory
from lxdocker_lxd.importing.import_record import Kind
from lxdocker_lxd.importing.naming import local_alias, spec_name
from lxdocker_lxd.importing.source_choice import CatalogueChoice, SourceChoice, SpecChoice
from lxdocker_lxd.progress import Progress
from lxdocker_lxd.reference import ArchiveSource, ImageSource, LayoutSource

Clock = Callable[[], datetime]
PlannedChoice = SourceChoice | SpecChoice | CatalogueChoice


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportPlan:
    """One product of one catalogue.

    ``source`` is None where only the catalogue knows the image. ``foreign`` is the architecture when
    it isn't this machine's. ``aliases`` go without saying.
    """

    kind: Kind
    name: str
    source: ImageSource | None
    options: ConvertOptions
    architecture: str
    aliases: tuple[str, ...]
    foreign: str = ""

    def product(self) -> Product | None:
        """Return what the catalogue has of it now."""
        catalogue = CatalogueDirectory(self.options.lxdimages).read()
        return catalogue.product(self.name, self.architecture)

    def convert(self, progress: Progress, now: Clock, delivery: Delivery) -> Published:
        """Bring the product up to date and return its newest version.

        Only what is converted for imports alone goes to ``delivery`` directly: the user's own
        catalogue keeps its files, for others read it.
        """
        if self.kind == "catalogue":
            return published(self.options.lxdimages, self.name, self.architecture)
        way = delivery if self.kind == "source" else None
        return converted(self.options, self.architecture, progress, now=now, delivery=way)

    def would_build(self, progress: Progress, now: Clock, delivery: Delivery) -> bool:
        """Tell whether ``convert`` would make a new version; change nothing."""
        if self.kind == "catalogue":
            return False
        if self.kind == "spec":
            report = convert(replace(self.options, dry_run=True), OnTheWay(progress), now=now)
        else:
            text = str(self.source)
            report = foreseen(
                self.options, text, self.foreign, progress, now=now, delivery=delivery
            )
        outcome = outcome_of(report, self.name, self.architecture)
        if outcome.error is not None:
            raise outcome.error
        return outcome.outcome == "would-build"


class Planner:
    """Makes plans for one architecture. ``options`` are those of ``convert``, for the user's specs."""

    def __init__(
        self, options: ConvertOptions, directory: ImportDirectory, architecture: str
    ) -> None:
        self._options = options
        self._directory = directory
        self._architecture = architecture

    def plan(self, choice: PlannedChoice) -> ImportPlan:
        """Return the plan for a choice; raises what its specification fails with."""
        if isinstance(choice, SourceChoice):
            return self._of_source(choice.source)
        if isinstance(choice, SpecChoice):
            return self._of_spec(choice.name)
        found = published(self._options.lxdimages, choice.name, self._architecture)
        return ImportPlan(
            kind="catalogue",
            name=choice.name,
            source=None,
            options=self._options,
            architecture=self._architecture,
            aliases=(choice.name, *found.product.aliases),
        )

    def _of_source(self, given: ImageSource) -> ImportPlan:
        source = _absolute(given)
        own = self._options.host.lxd_architecture
        foreign = "" if self._architecture == own else self._architecture
        name = spec_name(source, foreign)
        return ImportPlan(
            kind="source",
            name=name,
            source=source,
            options=self.own_options(name),
            architecture=self._architecture,
            aliases=(local_alias(source),),
            foreign=foreign,
        )

    def own_options(self, *names: str) -> ConvertOptions:
        """Return the options for the specifications that imports wrote; all without ``names``."""
        return replace(
            self._options,
            specs=self._directory.specs,
            cache=self._directory.cache,
            lxdimages=self._directory.images,
            names=names,
        )

    def _of_spec(self, name: str) -> ImportPlan:
        (entry,) = select(read_specs(self._options.specs), (name,))
        if entry.loaded is None:
            assert entry.error is not None  # noqa: S101 - one of the two is always there
            raise entry.error
        return ImportPlan(
            kind="spec",
            name=name,
            source=entry.loaded.source,
            options=replace(self._options, names=(name,)),
            architecture=self._architecture,
            aliases=(name, *entry.loaded.spec.aliases),
        )


def _absolute(source: ImageSource) -> ImageSource:
    """Return ``source`` with a path that means the same from everywhere."""
    if isinstance(source, LayoutSource):
        return replace(source, directory=str(Path(source.directory).absolute()))
    if isinstance(source, ArchiveSource):
        return replace(source, file=str(Path(source.file).absolute()))
    return source
