"""A catalogue directory with real files, for tests of what is exported and checked."""

import hashlib
import lzma
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from lxdocker_lxd import atomic
from lxdocker_lxd.catalogue import Catalogue, LxcSettings, Product, PublishedFile, Version
from lxdocker_lxd.catalogue_directory import CatalogueDirectory
from lxdocker_lxd.catalogue_document import render
from lxdocker_lxd.progress import Event, Silent
from lxdocker_lxd.serve import contents
from lxdocker_lxd.serve.entry import Signer
from lxdocker_lxd.serve.export import ExportReport, export
from lxdocker_lxd.serve.site import Site, SiteContext, SiteSettings
from tests.serve.trees import NOW, file_contents

URL = "https://images.example"


def lxc_rootfs(word: str) -> bytes:
    """A file in xz form; what is in it doesn't matter here."""
    return lzma.compress(word.encode() * 100)


def for_lxc(version: Version) -> Version:
    """The version with a root filesystem for plain LXC."""
    content = lxc_rootfs(version.rebuild_key)
    digest = hashlib.sha256(content).hexdigest()
    file = PublishedFile(
        role="lxc-rootfs",
        path=f"images/{digest}.tar.xz",
        sha256=digest,
        size_bytes=len(content),
    )
    settings = LxcSettings(uid=0, gid=0, groups=(), home="/", stop_signal=15, tmpfs=())
    return replace(version, files=(*version.files, file), lxc=settings)


class Heard:
    """Remembers the events of some work."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event, /) -> None:
        self.events.append(event)


class Shop:
    """A catalogue whose versions are made of words, and its exports."""

    def __init__(self, directory: Path, signer: Signer | None = None) -> None:
        self.directory = CatalogueDirectory(directory)
        self.directory.images.mkdir(parents=True, exist_ok=True)
        self.signer = signer
        self.at = NOW

    def publish(self, *products: Product) -> None:
        """Make these products the whole catalogue, with their files in place."""
        for product in products:
            for version in product.versions:
                self._write(version)
        listed = tuple(sorted(products, key=lambda product: product.key))
        atomic.write(
            self.directory.document, render(Catalogue(products=listed, updated_at=self.at))
        )

    def _write(self, version: Version) -> None:
        contents = file_contents([replace(version, files=version.files[:2])])
        if len(version.files) > 2:
            contents[version.files[2].path] = lxc_rootfs(version.rebuild_key)
        for path, content in contents.items():
            place = self.directory.directory / path
            if not place.exists():
                atomic.write(place, content)

    def site(self) -> Site:
        return contents.site(
            SiteContext(
                catalogue=self.directory.read(),
                settings=SiteSettings(base_url=URL, lxe_publish_delay_seconds=0),
                at=self.at,
                signer=self.signer,
            )
        )

    def export(
        self, target: Path, *, at: datetime | None = None, dry_run: bool = False
    ) -> ExportReport:
        self.at = at or self.at
        return export(
            self.site(), self.directory, target, at=self.at, progress=Silent(), dry_run=dry_run
        )
