"""A workshop for runs of the converter: directories, specifications, images, a clock.

Nothing here needs a program: images are OCI layouts made on the spot, busybox is a minimal static
ELF file, and root filesystems are tar files unless a test asks for squashfs.
"""

import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

from lxdocker_lxd.catalogue import Catalogue, Product
from lxdocker_lxd.catalogue_directory import CatalogueDirectory
from lxdocker_lxd.convert.pipeline import convert
from lxdocker_lxd.convert.registry.settings import RegistriesSettings
from lxdocker_lxd.convert.run import ConvertOptions, ImageFormat, ImageOutcome, RunReport
from lxdocker_lxd.platform import Platform
from lxdocker_lxd.progress import Event
from tests.harness.tiny_image import TinyImage, tiny_image

HOST = Platform.parse("linux/amd64")
MACHINES = {"amd64": 62, "arm64": 183}


def static_program(architecture: str = "amd64", *, interpreter: bool = False) -> bytes:
    """Return an ELF file with one program header: enough to be looked at, not to run."""
    header = struct.pack(
        "<4sBBBBB7xHHIQQQIHHHHHH",
        b"\x7fELF",
        *(2, 1, 1, 0, 0, 2, MACHINES[architecture], 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0),
    )
    return header + struct.pack("<IIQQQQQQ", 3 if interpreter else 1, 5, 0, 0, 0, 0, 0, 0)


class Events:
    """Collects events; safe for threads."""

    def __init__(self) -> None:
        self.all: list[Event] = []
        self._lock = threading.Lock()

    def emit(self, event: Event, /) -> None:
        with self._lock:
            self.all.append(event)


@dataclass
class Workshop:
    """One set of directories, and a clock that stands still until told otherwise."""

    root: Path
    now: datetime = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
    events: Events = field(default_factory=Events)

    def __post_init__(self) -> None:
        self.specs = self.root / "specs"
        self.specs.mkdir(parents=True)
        busybox = self.root / "busybox"
        busybox.write_bytes(static_program())
        self.options = ConvertOptions(
            specs=self.specs,
            cache=self.root / "cache",
            lxdimages=self.root / "lxdimages",
            host=HOST,
            registries=RegistriesSettings(),
            image_format="tar",
            jobs=2,
            busybox=MappingProxyType({"amd64": busybox}),
        )

    def image(self, name: str, files: Mapping[str, bytes], **options: object) -> TinyImage:
        """Make (or replace) the layout ``NAME.layout`` beside the specifications."""
        made = tiny_image({"bin/app": b"program", **files}, **options)  # type: ignore[arg-type]
        made.write_layout(self.specs / f"{name}.layout")
        return made

    def spec(self, name: str, text: str = "") -> None:
        """Write a specification; without ``image:`` it is that of the layout of its name."""
        image = "" if "image:" in text else f"image: oci:{name}.layout\n"
        (self.specs / f"{name}.yaml").write_text(image + text)

    def both(self, name: str, content: bytes, text: str = "") -> None:
        """Make an image whose one file has ``content``, and its specification."""
        self.image(name, {"etc/content": content})
        self.spec(name, text)

    def run(
        self,
        *names: str,
        dry_run: bool = False,
        image_format: ImageFormat | None = None,
        hours_later: float = 0,
    ) -> RunReport:
        """Run the converter once."""
        self.now += timedelta(hours=hours_later)
        options = replace(
            self.options,
            names=names,
            dry_run=dry_run,
            image_format=image_format or self.options.image_format,
        )
        return convert(options, self.events, now=lambda: self.now)

    @property
    def directory(self) -> CatalogueDirectory:
        return CatalogueDirectory(self.options.lxdimages)

    @property
    def catalogue(self) -> Catalogue:
        return self.directory.read()

    def product(self, name: str, architecture: str = "amd64") -> Product:
        """Return a published product."""
        found = self.catalogue.product(name, architecture)
        assert found is not None, f"{name}/{architecture} is not published"
        return found

    def file(self, name: str, role: str = "rootfs", architecture: str = "amd64") -> Path:
        """Return where a file of the newest version is."""
        version = self.product(name, architecture).newest
        file = next(file for file in version.files if file.role == role)
        return self.directory.path(file)


def outcomes(report: RunReport) -> dict[str, str]:
    """Return outcomes by name (``name/architecture`` where a name has several)."""
    count = [one.name for one in report.outcomes].count
    return {
        one.name if count(one.name) == 1 else f"{one.name}/{one.architecture}": one.outcome
        for one in report.outcomes
    }


def outcome(report: RunReport, name: str) -> ImageOutcome:
    """Return the one outcome of a name."""
    (found,) = [one for one in report.outcomes if one.name == name]
    return found
