"""Which image an alias stands for in a simplestreams tree, as LXD would choose. Pure.

``streams/v1/index.json`` names documents of products; a product has aliases, one architecture and
versions; a version has items, which are files. The newest version is the one whose name sorts last. Of
two products with one alias, the first in the order of os, release and variant counts (docs/streams.md).
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from lxdocker_lxd.clients.document import DocumentError, mapping, parse_object, text, texts
from lxdocker_lxd.clients.tree import Tree, is_inside
from lxdocker_lxd.clients.whole_document import read_whole
from lxdocker_lxd.errors import NotFoundError

INDEX = "streams/v1/index.json"
MOST_DOCUMENT_BYTES = 16 << 20
_MOST_DOCUMENTS = 16
_DATATYPE = "image-downloads"
_METADATA = ("lxd.tar.xz", "incus.tar.xz")
_UNIFIED = ("lxd_combined.tar.gz", "incus_combined.tar.gz")
# Root filesystems, and where the metadata says the sum over both files; the first that is there counts.
_SUMS = {
    "squashfs": ("combined_squashfs_sha256",),
    "root.tar.xz": ("combined_rootxz_sha256", "combined_sha256"),
}
_DATE = re.compile(r"\d{8}", re.ASCII)
_MOST_SHOWN = 8


class UnknownAliasError(NotFoundError):
    """A tree lists no image under an alias for an architecture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamItem:
    """One file; ``kind`` is its ftype."""

    kind: str
    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamVersion:
    """One version of a product. ``fingerprint`` is how LXD calls the image."""

    product: str
    serial: str
    architecture: str
    aliases: tuple[str, ...]
    fingerprint: str
    files: tuple[StreamItem, ...]

    @property
    def names(self) -> frozenset[str]:
        """All aliases: each means the same with the architecture behind it."""
        long = (f"{alias}/{self.architecture}" for alias in self.aliases)
        return frozenset((*self.aliases, *long))

    @property
    def size_bytes(self) -> int:
        """Of metadata and root filesystem together."""
        return sum(file.size_bytes for file in self.files)


def find_image(tree: Tree, alias: str, architectures: Collection[str]) -> StreamVersion:
    """Return what ``alias`` stands for on one of the architectures, by any of their names.

    Raises UnknownAliasError, DocumentError for documents that aren't what they should be, and what
    reading the tree raises.
    """
    where = f"{tree.name}/{INDEX}"
    known: set[str] = set()
    found: list[StreamVersion] = []
    for path in parse_index(_read(tree, INDEX), what=where):
        for version in parse_products(_read(tree, path), what=f"{tree.name}/{path}"):
            if version.architecture in architectures:
                known.update(version.aliases)
                found += [version] if alias in version.names else []
        known = set(sorted(known)[: _MOST_SHOWN + 1])
    if found:
        return found[0]
    shown = ", ".join(sorted(known)[:_MOST_SHOWN]) + (", …" if len(known) > _MOST_SHOWN else "")
    raise UnknownAliasError(
        f"{tree.name} has no image {alias!r} for {'/'.join(sorted(architectures))}",
        hint=f"it has {shown}" if known else "it has no images for that architecture",
    )


def _read(tree: Tree, path: str) -> bytes:
    return read_whole(tree, path, most_bytes=MOST_DOCUMENT_BYTES)


def parse_index(content: bytes, *, what: str) -> tuple[str, ...]:
    """Return the paths of the documents that list images; raise DocumentError."""
    index = mapping(parse_object(content, what=what).get("index"), what=f"{what}: index")
    paths = []
    for name, value in index.items():
        entry = mapping(value, what=f"{what}: {name}")
        if entry.get("datatype") != _DATATYPE or not texts(entry.get("products"), what=what):
            continue
        path = text(entry.get("path"), what=f"{what}: {name}: path")
        if not is_inside(path):
            raise DocumentError(f"{what}: {path[:200]!r} leads out of the tree")
        paths.append(path)
        if len(paths) > _MOST_DOCUMENTS:
            raise DocumentError(f"{what}: it names more than {_MOST_DOCUMENTS} lists of images")
    return tuple(paths)


def parse_products(content: bytes, *, what: str) -> tuple[StreamVersion, ...]:
    """Return the newest version of each product that LXD could use, as LXD orders them."""
    products = mapping(parse_object(content, what=what).get("products"), what=f"{what}: products")
    found = []
    for name, value in products.items():
        fields = mapping(value, what=f"{what}: {name}")
        order = tuple(text(fields.get(key), what=what) for key in ("os", "release", "variant"))
        newest = next(_versions(name, fields, what), None)
        found += [(order, newest)] if newest is not None else []
    # Sorting is stable, and goes by the words alone.
    return tuple(version for _, version in sorted(found, key=lambda pair: pair[0]))


def _versions(name: str, fields: Mapping[str, object], what: str) -> Iterator[StreamVersion]:
    """Yield the versions that have all they need, the newest first."""
    where = f"{what}: {name}"
    aliases = text(fields.get("aliases"), what=f"{where}: aliases")
    versions = mapping(fields.get("versions"), what=f"{where}: versions")
    for serial in sorted(versions, reverse=True):
        version = mapping(versions[serial], what=f"{where}: {serial}")
        items = mapping(version.get("items"), what=f"{where}: {serial}: items")
        pair = _pair([mapping(item, what=f"{where}: {serial}") for item in items.values()])
        if pair is None or not _DATE.match(serial):
            continue
        fingerprint, files = pair
        yield StreamVersion(
            product=name,
            serial=serial,
            architecture=text(fields.get("arch"), what=f"{where}: arch"),
            aliases=tuple(one.strip() for one in aliases.split(",") if one.strip()),
            fingerprint=fingerprint,
            files=tuple(_item(file, f"{where}: {serial}") for file in files),
        )


Item = Mapping[str, object]


def _pair(items: list[Item]) -> tuple[str, tuple[Item, ...]] | None:
    """Return the fingerprint of a container's image and its files."""
    by_kind = {str(item.get("ftype")): item for item in items}
    metadata = next((by_kind[kind] for kind in _METADATA if kind in by_kind), None)
    for kind, sums in _SUMS.items():
        sum_key = next((key for key in sums if metadata and metadata.get(key)), None)
        if metadata is not None and kind in by_kind and sum_key is not None:
            return str(metadata[sum_key]), (metadata, by_kind[kind])
    for kind in _UNIFIED:
        if kind in by_kind:
            return str(by_kind[kind].get("sha256")), (by_kind[kind],)
    return None


def _item(fields: Item, what: str) -> StreamItem:
    path = text(fields.get("path"), what=f"{what}: path")
    size = fields.get("size")
    if not is_inside(path) or not isinstance(size, int):
        raise DocumentError(f"{what}: {path[:200]!r}: no path in the tree, or no size")
    return StreamItem(
        kind=text(fields.get("ftype"), what=what),
        path=path,
        sha256=text(fields.get("sha256"), what=f"{what}: sha256"),
        size_bytes=size,
    )
