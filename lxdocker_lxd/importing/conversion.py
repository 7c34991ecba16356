"""An import's image, converted: the same pipeline and catalogue as ``convert``, for one name."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from lxdocker_lxd.catalogue import Product, Version
from lxdocker_lxd.catalogue_directory import CatalogueDirectory
from lxdocker_lxd.convert.delivery import Delivery
from lxdocker_lxd.convert.pipeline import convert
from lxdocker_lxd.convert.run import ConvertOptions, ImageOutcome, RunReport
from lxdocker_lxd.errors import NotFoundError
from lxdocker_lxd.importing.import_directory import spec_text
from lxdocker_lxd.progress import Event, ImageFinished, Progress

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A version in a catalogue's directory; ``built`` tells whether this run made it."""

    directory: CatalogueDirectory
    product: Product
    version: Version
    built: bool = False


class OnTheWay:
    """Passes progress on, but not the end of a conversion: the image is still on its way."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def emit(self, event: Event, /) -> None:
        """Take one event."""
        if not isinstance(event, ImageFinished):
            self._progress.emit(event)


def converted(
    options: ConvertOptions,
    architecture: str,
    progress: Progress,
    *,
    now: Clock,
    delivery: Delivery | None = None,
) -> Published:
    """Bring the one image in ``options.names`` up to date and return it for ``architecture``.

    What ``delivery`` wants goes there while it is packed, and has no file then.

    Raises whatever it failed with, NotFoundError when the specification doesn't make it for this
    architecture.
    """
    (name,) = options.names
    report = convert(options, OnTheWay(progress), now=now, delivery=delivery)
    outcome = outcome_of(report, name, architecture)
    if outcome.error is not None:
        raise outcome.error
    found = published(options.lxdimages, name, architecture)
    return replace(found, built=outcome.outcome == "built")


def outcome_of(report: RunReport, name: str, architecture: str) -> ImageOutcome:
    """Return what came of one image; raise NotFoundError when it wasn't asked for."""
    mine = [one for one in report.outcomes if one.name == name]
    for one in mine:
        if one.architecture in (architecture, ""):
            return one
    made = ", ".join(one.architecture for one in mine)
    raise NotFoundError(
        f"{name} is made for {made or 'no architecture'}, and this LXD runs {architecture}",
        hint=f"add {architecture} to the architectures of its specification",
    )


def published(images: Path, name: str, architecture: str) -> Published:
    """Return the newest version of a product that has all its files; raise NotFoundError."""
    directory = CatalogueDirectory(images)
    product = directory.read().product(name, architecture)
    if product is None:
        raise NotFoundError(
            f"there is no image {name} for {architecture} in {images}",
            hint="lxdocker-lxd images lists what is there",
        )
    return Published(directory=directory, product=product, version=product.newest)


def foreseen(
    options: ConvertOptions,
    image: str,
    architecture: str,
    progress: Progress,
    *,
    now: Clock,
    delivery: Delivery | None = None,
) -> RunReport:
    """Say what converting ``image``, which has no specification yet, would do; change nothing."""
    (name,) = options.names
    with tempfile.TemporaryDirectory(prefix="lxdocker-import-") as specs:
        (Path(specs) / f"{name}.yaml").write_text(spec_text(image, architecture), encoding="utf-8")
        wanted = replace(options, specs=Path(specs), dry_run=True)
        return convert(wanted, OnTheWay(progress), now=now, delivery=delivery)
