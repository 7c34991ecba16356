"""What is published: the records of ``catalogue.json`` and its exact text. The contract of all parts.

Pure: records in, records or text out; the time is an argument. docs/catalogue.md describes the
format for other readers. A catalogue is a value: every change returns a new one, and
:mod:`lxdocker_lxd.catalogue_directory` replaces the file in one step.
"""

import bisect
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Literal

FORMAT = 1
GRACE = timedelta(hours=24)
"""How long a superseded version stays listed, and an unlisted file stays on disk: LXD keeps a
listing for an hour and asks for files by the names it read there."""

SERIAL_FORMAT = "%Y%m%d_%H%M%S"

FileRole = Literal["metadata", "rootfs", "lxc-rootfs"]
Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFile:
    """One file of a version. ``path`` is relative to the catalogue's directory."""

    role: FileRole
    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedLayer:
    """One layer of the source image: ``size_bytes`` and ``digest`` as it is transferred."""

    digest: str
    diff_id: str
    media_type: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceImage:
    """Where a version came from.

    ``reference`` in canonical spelling, ``top_digest`` what it named (an index or a manifest) when
    last looked at, ``manifest_digest`` the platform's own manifest, ``platform`` its OCI name.
    """

    reference: str
    top_digest: str
    manifest_digest: str
    config_digest: str
    platform: str
    created: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildInputs:
    """All that decides a version's bytes; equal inputs are never built twice."""

    manifest_digest: str
    spec_digest: str
    guest_digest: str
    packer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LxcMount:
    """A tmpfs at ``path``, with the mode and owner of the directory it covers."""

    path: str
    mode: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LxcSettings:
    """What plain LXC can't find out by itself about a version that has an ``lxc-rootfs``.

    ``uid``, ``gid``, ``groups`` (the supplementary ones) and ``home`` are the image's ``User``
    looked up in its own /etc/passwd and /etc/group; ``stop_signal`` is a number.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    stop_signal: int
    tmpfs: tuple[LxcMount, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One published build of a product.

    ``fingerprint`` is the hexadecimal sha256 of the metadata file followed by the rootfs file:
    LXD's name for the image. ``serial`` (``YYYYMMDD_HHMMSS``, UTC) sorts as text in the order of
    publication. ``superseded_at`` is set when a newer version was published. ``config`` has the
    keys of an OCI image's ``config`` (Env, Entrypoint, Cmd, …) after the specification's changes,
    Healthcheck, Volumes and ExposedPorts among them; an entry of Env that looks like a secret is its name
    alone, without ``=``. ``rootfs_bytes`` and ``rootfs_entries`` count
    the unpacked root filesystem. ``lxc`` is there when the version has an ``lxc-rootfs``.
    """

    serial: str
    fingerprint: str
    published_at: datetime
    superseded_at: datetime | None = None
    image_format: str
    compression: str
    rebuild_key: str
    inputs: RebuildInputs
    source: SourceImage
    layers: tuple[PublishedLayer, ...]
    files: tuple[PublishedFile, ...]
    rootfs_bytes: int
    rootfs_entries: int
    supervisor: bool
    config: Mapping[str, Json]
    lxc: LxcSettings | None = None

    def file(self, role: FileRole) -> PublishedFile | None:
        """Return the file with ``role``, if this version has one."""
        return next((file for file in self.files if file.role == role), None)

    @property
    def size_bytes(self) -> int:
        """What an LXD downloads: metadata and rootfs together."""
        return sum(file.size_bytes for file in self.files if file.role != "lxc-rootfs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """All listed versions of one name on one architecture (LXD's name: amd64, arm64, armhf, …).

    ``versions`` is in order of publication, the newest last, never empty.
    """

    name: str
    architecture: str
    aliases: tuple[str, ...]
    description: str
    properties: Mapping[str, str]
    versions: tuple[Version, ...]

    @property
    def key(self) -> tuple[str, str]:
        """Name and architecture: unique within a catalogue."""
        return self.name, self.architecture

    @property
    def newest(self) -> Version:
        """The version that the product's name and aliases stand for."""
        return self.versions[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetiredFile:
    """A file no listed version names any more, kept for clients that read an older listing."""

    file: PublishedFile
    retired_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Everything published, at one moment. ``products`` is sorted by name and architecture."""

    products: tuple[Product, ...] = ()
    retired: tuple[RetiredFile, ...] = ()
    updated_at: datetime = field(default=datetime(1970, 1, 1, tzinfo=UTC))

    def product(self, name: str, architecture: str) -> Product | None:
        """Return one product, or None."""
        wanted = (name, architecture)
        place = bisect.bisect_left(self.products, wanted, key=lambda product: product.key)
        if place < len(self.products) and self.products[place].key == wanted:
            return self.products[place]
        return None

    def files(self) -> Iterator[PublishedFile]:
        """Yield every file of every listed version; a shared file comes more than once."""
        for product in self.products:
            for version in product.versions:
                yield from version.files

    def servable(self) -> dict[str, PublishedFile]:
        """Return every file that may still be asked for, retired ones included, by sha256."""
        found = {retired.file.sha256: retired.file for retired in self.retired}
        found.update((file.sha256, file) for file in self.files())
        return found

    def published(
        self, product: Product, version: Version, *, keep: int, at: datetime
    ) -> "Catalogue":
        """Return the catalogue with ``version`` as the newest of ``product``'s name.

        ``product`` carries the name, architecture, aliases, description and properties to list;
        its own ``versions`` are ignored. A version with the same fingerprint is replaced: LXD
        finds no image whose fingerprint is listed twice. At least ``keep`` versions stay, and
        every version superseded less than GRACE ago.
        """
        known = self.product(*product.key)
        earlier = known.versions if known else ()
        kept = tuple(old for old in earlier if old.fingerprint != version.fingerprint)
        marked = tuple(
            replace(old, superseded_at=at) if old.superseded_at is None else old for old in kept
        )
        listed = _retained((*marked, replace(version, superseded_at=None)), keep=keep, at=at)
        return self._with(replace(product, versions=listed), at=at)

    def described(self, product: Product, *, at: datetime) -> "Catalogue":
        """Return the catalogue with ``product`` in place of the one with its key, if they differ."""
        return self if self.product(*product.key) == product else self._with(product, at=at)

    def retained(self, *, keep: int, at: datetime) -> "Catalogue":
        """Return the catalogue without versions that are neither new nor recent enough."""
        products = tuple(
            replace(product, versions=_retained(product.versions, keep=keep, at=at))
            for product in self.products
        )
        return self if products == self.products else self._replaced(products, at=at)

    def without(self, keys: Collection[tuple[str, str]], *, at: datetime) -> "Catalogue":
        """Return the catalogue without the products of these keys."""
        left = tuple(product for product in self.products if product.key not in keys)
        return self if left == self.products else self._replaced(left, at=at)

    def forgotten(self, *, at: datetime) -> tuple["Catalogue", tuple[PublishedFile, ...]]:
        """Return the catalogue without long retired files, and those files: certainly unused."""
        paths = {file.path for file in self.files()}
        left = tuple(
            retired
            for retired in self.retired
            if retired.file.path not in paths and at - retired.retired_at < GRACE
        )
        gone = tuple(
            retired.file
            for retired in self.retired
            if retired not in left and retired.file.path not in paths
        )
        return (self if left == self.retired else replace(self, retired=left, updated_at=at)), gone

    def _with(self, product: Product, *, at: datetime) -> "Catalogue":
        """Put ``product`` in; no word may then stand for two names.

        Its specification was read just now, so it takes its aliases from products that still have
        them. An alias that is another product's own name waits until that product is gone.
        """
        names = {known.name for known in self.products} - {product.name}
        product = replace(product, aliases=tuple(a for a in product.aliases if a not in names))
        words = {product.name, *product.aliases}
        others = [
            _unaliased(known, words) if known.name != product.name else known
            for known in self.products
            if known.key != product.key
        ]
        bisect.insort(others, product, key=lambda known: known.key)
        return self._replaced(tuple(others), at=at)

    def _replaced(self, products: tuple[Product, ...], *, at: datetime) -> "Catalogue":
        """Return a catalogue of ``products``; files that lost their last version are retired."""
        changed = replace(self, products=products, updated_at=at)
        listed = {file.path for file in changed.files()}
        dropped = {file.path: file for file in self.files() if file.path not in listed}
        before = tuple(old for old in self.retired if old.file.path not in listed | dropped.keys())
        now = tuple(RetiredFile(file=dropped[path], retired_at=at) for path in sorted(dropped))
        return replace(changed, retired=(*before, *now))


def _unaliased(product: Product, words: Collection[str]) -> Product:
    """Return ``product`` without the aliases that are among ``words``."""
    aliases = tuple(alias for alias in product.aliases if alias not in words)
    return product if aliases == product.aliases else replace(product, aliases=aliases)


EMPTY_CONFIG: Mapping[str, Json] = MappingProxyType({})


def next_serial(product: Product | None, at: datetime) -> str:
    """Return the serial for a version published at ``at``, greater than all of ``product``'s.

    When the clock stands still or goes back, a second is added to the greatest one.
    """
    serial = at.astimezone(UTC).strftime(SERIAL_FORMAT)
    last = max((version.serial for version in product.versions), default="") if product else ""
    if serial > last:
        return serial
    return (
        datetime.strptime(last, SERIAL_FORMAT).replace(tzinfo=UTC) + timedelta(seconds=1)
    ).strftime(SERIAL_FORMAT)


def _retained(versions: tuple[Version, ...], *, keep: int, at: datetime) -> tuple[Version, ...]:
    """Return the newest ``keep`` versions and those superseded within GRACE of ``at``."""
    newest = versions[-max(keep, 1) :]
    recent = tuple(
        version
        for version in versions[: -max(keep, 1)]
        if version.superseded_at is None or at - version.superseded_at < GRACE
    )
    return (*recent, *newest)
