"""What simplestreams documents promise, and what their readers lose of them without a word. Pure.

Any JSON value goes in; the rules are those of LXD's and Incus' client library (docs/streams.md). Trees
of other projects hold much that is for neither; that is no finding.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from lxdocker_lxd.clients.tree import is_inside
from lxdocker_lxd.serve.finding import Finding, remark, wrong

INDEX_PATH = "streams/v1/index.json"

_DATATYPE = "image-downloads"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DATE = re.compile(r"\d{8}", re.ASCII)
_METADATA = ("lxd.tar.xz", "incus.tar.xz")
_UNIFIED = ("lxd_combined.tar.gz", "incus_combined.tar.gz")
_DELTAS = ("squashfs.vcdiff", "disk-kvm.img.vcdiff")
# The root filesystem's kind, and the metadata's keys with the sum over both files.
_COMBINED = {
    "squashfs": ("combined_squashfs_sha256",),
    "root.tar.xz": ("combined_rootxz_sha256", "combined_sha256"),
    "disk-kvm.img": ("combined_disk-kvm-img_sha256",),
    "disk1.img": ("combined_disk1-img_sha256",),
    "uefi1.img": ("combined_uefi1-img_sha256",),
}
Shape = Mapping[str, "Shape | None"]
"""What a reader expects in an object: None stands for a text. Keys that it doesn't know are its own."""

_EACH = "*"
_ITEM: Shape = dict.fromkeys(
    ("ftype", "path", "sha256", "delta_base", *(key for keys in _COMBINED.values() for key in keys))
)
_PRODUCT: Shape = {
    **dict.fromkeys(("aliases", "arch", "os", "release", "release_title", "support_eol")),
    **dict.fromkeys(("variant", "version")),
    "lxd_requirements": {_EACH: None},
    "requirements": {_EACH: None},
    "versions": {_EACH: {"label": None, "items": {_EACH: _ITEM}}},
}
# LXD's architectures, and other names for them that it knows.
_ARCHITECTURES = {
    "i686": ("i386", "i586", "386", "x86", "generic_32"),
    "x86_64": ("amd64", "generic_64"),
    "armv6l": ("armel", "arm"),
    "armv7l": ("armhf", "armhfp", "armv7a_hardfp", "armv7", "armv7a_vfpv3_hardfp"),
    "aarch64": ("arm64", "arm64_generic"),
    "ppc64le": ("ppc64el",),
    "ppc": ("powerpc",),
    "ppc64": ("powerpc64",),
    **dict.fromkeys(("armv8l", "mips", "mips64", "riscv32", "riscv64", "s390x"), ()),
    "loongarch64": ("loong64",),
}
_KERNEL_NAMES = {
    name: kernel for kernel, names in _ARCHITECTURES.items() for name in (kernel, *names)
}

Object = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexEntry:
    """A products document that readers of images take, and the products it is said to have."""

    path: str
    products: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedFile:
    """A file that a document lists: what it promises of it, None where it says nothing."""

    path: str
    sha256: str | None
    size_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """Metadata and root filesystem, whose sum over both is an image's fingerprint."""

    metadata: str
    rootfs: str
    sha256: str


@dataclass(slots=True, kw_only=True)
class StreamListing:
    """All that the documents of one tree list, collected document by document."""

    files: list[ListedFile] = field(default_factory=list)
    combinations: list[Combination] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    fingerprints: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    aliases: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))

    def conflicts(self, path: str) -> Iterator[Finding]:
        """Yield what only all documents together show; ``path`` is the index."""
        for fingerprint, places in sorted(self.fingerprints.items()):
            if len(places) > 1:
                where = ", ".join(sorted(places))
                yield wrong(
                    path, f"{where}: one fingerprint, {fingerprint[:12]}; LXD finds neither"
                )
        for (alias, architecture), products in sorted(self.aliases.items()):
            if len(products) > 1:
                where = ", ".join(sorted(products))
                yield wrong(path, f"the alias {alias} ({architecture}) is that of {where}")


def _object(value: object) -> Object:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def read_index(
    document: object, *, path: str
) -> tuple[tuple[IndexEntry, ...], tuple[Finding, ...]]:
    """Return the products documents an index leads to, and what is wrong with it."""
    entries: list[IndexEntry] = []
    findings: list[Finding] = []
    index = _object(document).get("index")
    if not isinstance(index, dict):
        return (), (wrong(path, "no simplestreams index: it has no object index"),)
    names = {path.rpartition("/")[2]: "the index"}
    for key, value in index.items():
        entry = _object(value)
        if entry.get("datatype") != _DATATYPE:
            findings.append(remark(path, f"{key}: no client of images reads it"))
            continue
        target, products = _text(entry.get("path")), entry.get("products")
        if not is_inside(target):
            findings.append(wrong(path, f"{key}: the path {target[:200]!r} leads out of the tree"))
            continue
        if not isinstance(products, list):
            findings.append(wrong(path, f"{key}: no list of products, so LXD skips {target}"))
            continue
        if not all(isinstance(one, str) for one in products):
            findings.append(wrong(path, f"{key}: a product that is no text: LXD gives it all up"))
        name = target.rpartition("/")[2]
        if name in names:
            findings.append(
                wrong(path, f"{key}: LXD's cache takes {target} and that of {names[name]} for one")
            )
        names[name] = key
        entries.append(IndexEntry(path=target, products=frozenset(map(str, products))))
    return tuple(entries), tuple(findings)


def read_products(document: object, entry: IndexEntry, listing: StreamListing) -> None:
    """Add what a products document lists to ``listing``."""
    path = entry.path
    products = _object(document).get("products")
    if not isinstance(products, dict):
        listing.findings.append(wrong(path, "no products document: it has no object products"))
        return
    if products and not entry.products:
        listing.findings.append(
            wrong(path, "LXD never reads it: the index lists no products for it")
        )
    for only, where in (
        (entry.products - products.keys(), "in the index only"),
        (products.keys() - entry.products, "not in the index"),
    ):
        if only and entry.products:
            few = ", ".join(sorted(only)[:3])
            listing.findings.append(remark(path, f"{len(only)} products are {where}: {few}"))
    for key, value in products.items():
        _Product(path, key, value, listing).read()


class _Product:
    """One product, read into a listing."""

    def __init__(self, path: str, key: str, product: object, listing: StreamListing) -> None:
        self._path = path
        self._key = key
        self._value = product
        self._product = _object(product)
        self._versions = _object(self._product.get("versions"))
        self._listing = listing

    def _wrong(self, problem: str, version: str = "") -> None:
        where = " ".join(filter(None, (self._key, version)))
        self._listing.findings.append(wrong(self._path, f"{where}: {problem}"))

    def read(self) -> None:
        for misfit in _misfits(self._value, _PRODUCT):
            self._wrong(f"{misfit}: LXD gives the whole document up")
        usable = [name for name in self._versions if self._version(name)]
        if usable:
            self._names(max(usable))

    def _names(self, newest: str) -> None:
        """Check what only matters where there is an image: architecture and aliases."""
        architecture = _text(self._product.get("arch"))
        kernel = _KERNEL_NAMES.get(architecture)
        if kernel is None:
            self._wrong(f"LXD skips it: the architecture {architecture!r} is unknown")
            return
        aliases = _text(self._product.get("aliases"))
        for alias in aliases.split(",") if aliases else ():
            if alias != alias.strip() or not alias:
                self._wrong(f"the alias {alias!r} is empty or not trimmed", newest)
            # LXD makes two words of an alias.
            for word in (alias, f"{alias}/{architecture}"):
                self._listing.aliases[word, kernel].add(self._key)

    def _version(self, name: str) -> bool:
        """Read one version; return whether it has an image for LXD or Incus."""
        items: dict[str, list[Object]] = defaultdict(list)
        for value in _object(_object(self._versions[name]).get("items")).values():
            item = _object(value)
            items[_text(item.get("ftype"))].append(item)
            self._file(item, name)
        unified = [item for kind in _UNIFIED for item in items[kind]]
        metadata = [item for kind in _METADATA for item in items[kind]]
        if not unified and not metadata:
            return False
        if not _is_dated(name):
            self._wrong("LXD skips it: its name doesn't begin with a date, YYYYMMDD", name)
        for item in unified:
            self._listing.fingerprints[_text(item.get("sha256"))].add(f"{self._key} {name}")
        if metadata:
            self._split(metadata, items, name)
        if unified and metadata:
            self._listing.findings.append(
                remark(
                    self._path,
                    f"{self._key} {name}: a unified and a split image; LXD takes one by chance",
                )
            )
        self._deltas(items, name)
        return True

    def _split(self, metadata: list[Object], items: Mapping[str, list[Object]], name: str) -> None:
        roots = [(kind, item) for kind in _COMBINED for item in items.get(kind, ())]
        if not roots:
            self._wrong("LXD skips it: metadata without a root filesystem", name)
        for kind, root in roots:
            for item in metadata:
                keys = _COMBINED[kind]
                combined = next((_text(item[key]) for key in keys if item.get(key)), "")
                if not combined:
                    self._wrong(f"LXD skips its {kind}: the metadata has no {keys[0]}", name)
                    continue
                self._listing.fingerprints[combined].add(f"{self._key} {name}")
                paths = _text(item.get("path")), _text(root.get("path"))
                if all(map(is_inside, paths)):
                    self._listing.combinations.append(
                        Combination(metadata=paths[0], rootfs=paths[1], sha256=combined)
                    )

    def _deltas(self, items: Mapping[str, list[Object]], name: str) -> None:
        deltas = [item for kind in _DELTAS for item in items.get(kind, ())]
        for item in deltas:
            base = _text(item.get("delta_base"))
            if base not in self._versions:
                self._listing.findings.append(
                    remark(self._path, f"{self._key} {name}: a delta from {base!r}, not listed")
                )

    def _file(self, item: Object, name: str) -> None:
        path = item.get("path")
        if path is None:
            return
        if not isinstance(path, str) or not is_inside(path):
            self._wrong(f"the path {str(path)[:200]!r} leads out of the tree", name)
            return
        sha256, size = item.get("sha256"), item.get("size")
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            self._wrong(f"{path}: no sha256 to check it with", name)
            sha256 = None
        if type(size) is not int or size < 0:
            self._wrong(f"{path}: no size in bytes", name)
            size = None
        self._listing.files.append(ListedFile(path=path, sha256=sha256, size_bytes=size))


def _misfits(value: object, shape: Shape | None, place: str = "") -> Iterator[str]:
    """Yield each value of another type than the decoders of LXD and Incus expect."""
    if value is None:
        return
    if shape is None:
        if not isinstance(value, str):
            yield f"{place} is no text"
    elif not isinstance(value, dict):
        yield f"{place or 'it'} is no object"
    else:
        for key, inner in value.items():
            if key in shape or _EACH in shape:
                known = shape[key] if key in shape else shape[_EACH]
                yield from _misfits(inner, known, f"{place} {key}".strip())


def _is_dated(name: str) -> bool:
    if not _DATE.match(name):
        return False
    try:
        datetime.strptime(name[:8], "%Y%m%d")  # noqa: DTZ007 - only whether there is such a day
    except ValueError:
        return False
    return True
