"""What pages, feed and ``images.json`` say about images: one view of the catalogue for all of them.

Pure. An image is a name with all its architectures. The version "in use" is the one that its name stands
for; a newer one may be listed already and wait (``publish_delay_seconds``).
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from lxdocker_lxd.catalogue import Product, PublishedFile, Version
from lxdocker_lxd.serve import lxc_index
from lxdocker_lxd.serve.run_config import RunConfig
from lxdocker_lxd.serve.site import SiteContext
from lxdocker_lxd.serve.staging import standing
from lxdocker_lxd.serve.stream_document import stream_files
from lxdocker_lxd.serve.version_comparison import VersionChanges, compare

OLD_DAYS = 90
"""Images in registries are rebuilt about monthly; after three months without, people should look."""

State = Literal["current", "waiting", "superseded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionView:
    """A version, what it runs, and what changed since the one before it, if that is still listed.

    ``takes_over_at`` is when a waiting version gets the name.
    """

    version: Version
    state: State
    config: RunConfig
    changes: VersionChanges | None
    takes_over_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """An image on one architecture: ``current`` is the version in use."""

    product: Product
    current: Version

    @property
    def architecture(self) -> str:
        """LXD's name of the architecture."""
        return self.product.architecture


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageView:
    """An image: its builds in the order of architectures, never none."""

    name: str
    builds: tuple[Build, ...]
    is_old: bool

    @property
    def latest(self) -> Version:
        """Of the versions in use, the one that was published last."""
        return max(
            (build.current for build in self.builds), key=lambda version: version.published_at
        )

    @property
    def aliases(self) -> tuple[str, ...]:
        """Every further name, once."""
        return tuple(
            dict.fromkeys(alias for build in self.builds for alias in build.product.aliases)
        )

    @property
    def description(self) -> str:
        """The first description there is."""
        return next(filter(None, (build.product.description for build in self.builds)), "")

    @property
    def properties(self) -> Mapping[str, str]:
        """What the specification says about the image."""
        return self.builds[0].product.properties

    @property
    def sources(self) -> tuple[str, ...]:
        """Every reference that a version in use was made from, once."""
        return tuple(dict.fromkeys(build.current.source.reference for build in self.builds))


def images(context: SiteContext) -> Iterator[ImageView]:
    """Yield all images in the order of names."""
    delay_seconds = context.settings.publish_delay_seconds
    groups = itertools.groupby(context.catalogue.products, key=lambda product: product.name)
    for name, products in groups:
        builds = tuple(
            Build(
                product=product,
                current=standing(product, delay_seconds=delay_seconds, at=context.at),
            )
            for product in products
        )
        is_old = any(_is_old(build, context.at) for build in builds)
        yield ImageView(name=name, builds=builds, is_old=is_old)


def history(build: Build, context: SiteContext) -> tuple[VersionView, ...]:
    """Return all listed versions of a build, the newest first."""
    versions = build.product.versions
    delay = timedelta(seconds=context.settings.publish_delay_seconds)
    place = versions.index(build.current)
    views = []
    for number, version in enumerate(versions):
        state: State = "current" if version is build.current else "superseded"
        if number > place:
            state = "waiting"
        views.append(
            VersionView(
                version=version,
                state=state,
                config=RunConfig.read(version.config),
                changes=compare(versions[number - 1], version) if number else None,
                takes_over_at=version.published_at + delay if state == "waiting" else None,
            )
        )
    return tuple(reversed(views))


def file_path(product: Product, version: Version, file: PublishedFile) -> str | None:
    """Return where the tree has a version's file, if it has; an export knows no other place."""
    if file.role == "lxc-rootfs":
        return lxc_index.rootfs_path(product, version)
    return file.path if stream_files(version) else None


def next_change(context: SiteContext) -> datetime | None:
    """Return when the next image becomes an old one; None if none will."""
    moments = (
        build.current.published_at + timedelta(days=OLD_DAYS)
        for one in images(context)
        for build in one.builds
        if not _is_pinned(build.current)
    )
    return min((moment for moment in moments if moment > context.at), default=None)


def _is_old(build: Build, at: datetime) -> bool:
    age = at - build.current.published_at
    return age >= timedelta(days=OLD_DAYS) and not _is_pinned(build.current)


def _is_pinned(version: Version) -> bool:
    """Whether the source is a digest: it never changes, so nobody waits for a rebuild."""
    return "@" in version.source.reference
