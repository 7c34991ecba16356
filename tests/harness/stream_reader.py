"""Reads a simplestreams tree as LXD and Incus do, and complains where they keep quiet.

What LXD's client library does with a tree (its Go code of 5.0.2, of today, and Incus') was written
down as rules; docs/streams.md lists them. The real readers drop a product, a version or an
item they can't use without a word, and let aliases fall to whoever sorts first. ``read`` gives
the same images and aliases, and raises StreamError naming every such loss.
"""

import enum
import functools
import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

Fetch = Callable[[str], bytes]
"""Returns what a path below the tree's root leads to."""


class Reader(enum.Enum):
    """Whose rules. LXD_5_0_2 doesn't know ``requirements``; Incus has its own file names."""

    LXD_5_0_2 = "LXD 5.0.2"
    LXD = "LXD since 5.0.3"
    INCUS = "Incus"


# Names in documents, and the kernel's names LXD makes of them.
ARCHITECTURES = {
    "i686": ("i386", "i586", "386", "x86", "generic_32"),
    "x86_64": ("amd64", "generic_64"),
    "armv6l": ("armel", "arm"),
    "armv7l": ("armhf", "armhfp", "armv7a_hardfp", "armv7", "armv7a_vfpv3_hardfp"),
    "aarch64": ("arm64", "arm64_generic"),
    "ppc64le": ("ppc64el",),
    "s390x": (),
    "riscv64": (),
}
KERNEL_NAMES = {
    name: kernel for kernel, names in ARCHITECTURES.items() for name in (kernel, *names)
}
# What else a machine runs, for an alias that its own architecture doesn't have.
PERSONALITIES = {"x86_64": ("i686",), "aarch64": ("armv7l", "armv6l")}

COMBINED = {
    "squashfs": ("combined_squashfs_sha256",),
    "root.tar.xz": ("combined_rootxz_sha256", "combined_sha256"),
    "disk-kvm.img": ("combined_disk-kvm-img_sha256",),
    "disk1.img": ("combined_disk1-img_sha256",),
    "uefi1.img": ("combined_uefi1-img_sha256",),
}
TYPE_ORDER = ("squashfs", "root.tar.xz", "disk-kvm.img", "uefi1.img", "disk1.img")
METADATA = {
    Reader.LXD_5_0_2: "lxd.tar.xz",
    Reader.LXD: "lxd.tar.xz",
    Reader.INCUS: "incus.tar.xz",
}
UNIFIED = ("lxd_combined.tar.gz", "incus_combined.tar.gz")
DELTAS = ("squashfs.vcdiff", "disk-kvm.img.vcdiff")
KNOWN_TYPES = {*METADATA.values(), *UNIFIED, *COMBINED, *DELTAS}
# A host acts on these requirements when it starts an instance of the image.
ACTED_ON = {"cgroup", "secureboot", "nesting", "privileged", "cdrom_agent", "cdrom_cloud_init"}

_TEXTS = ("aliases", "arch", "os", "release", "release_title", "support_eol", "variant", "version")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class StreamError(AssertionError):
    """A tree in which a reader would lose something; ``problems`` has a line for each loss."""

    def __init__(self, reader: Reader, problems: list[str]) -> None:
        super().__init__(f"{reader.value}:\n" + "\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFile:
    """A file of an image: ``path`` below the tree's root."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedImage:
    """An image as ``lxc image list`` has it; ``aliases`` are those shown on a ``native`` machine."""

    fingerprint: str
    architecture: str
    type: str
    aliases: tuple[str, ...]
    properties: Mapping[str, str]
    size_bytes: int
    filename: str
    created_at: datetime
    files: Mapping[str, StreamFile]
    product: str
    wanted: tuple[str, ...] = field(repr=False, default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """What a reader finds. ``aliases`` leads from a name and a kernel's architecture to an image."""

    images: tuple[ListedImage, ...]
    aliases: Mapping[tuple[str, str], str]
    native: str

    def resolve(self, alias: str) -> str | None:
        """Return the fingerprint a machine of the ``native`` architecture gets for ``alias``."""
        found = {kernel: target for (name, kernel), target in self.aliases.items() if name == alias}
        for kernel in (self.native, *PERSONALITIES.get(self.native, ())):
            if kernel in found:
                return found[kernel]
        return next(iter(found.values()), None)

    def image(self, fingerprint: str) -> ListedImage:
        """Return the one image whose fingerprint begins so; AssertionError for none or several."""
        (found,) = (image for image in self.images if image.fingerprint.startswith(fingerprint))
        return found


def read(fetch: Fetch, reader: Reader = Reader.LXD_5_0_2, *, native: str = "x86_64") -> Stream:
    """Return what ``reader`` finds in the tree; raise StreamError if it would lose anything."""
    problems: list[str] = []
    images = [
        image
        for path, keys in _documents(fetch, problems)
        for image in _images(fetch, path, keys, reader, problems)
    ]
    counts = Counter(image.fingerprint for image in images)
    problems += [f"{name}: fingerprint listed {n} times" for name, n in counts.items() if n > 1]
    stream = _with_aliases(images, native, problems)
    if problems:
        raise StreamError(reader, problems)
    return stream


def check_files(stream: Stream, fetch: Fetch) -> None:
    """Check each image's files: size, sha256, and both together against the fingerprint."""
    for image in stream.images:
        combined = hashlib.sha256()
        for kind in ("meta", "root"):
            file = image.files[kind]
            content = fetch(file.path)
            assert len(content) == file.size_bytes, file.path
            assert hashlib.sha256(content).hexdigest() == file.sha256, file.path
            combined.update(content)
        assert combined.hexdigest() == image.fingerprint, image.product


# ---- documents


def _object(fetch: Fetch, path: str, problems: list[str]) -> dict[str, Any]:
    try:
        document = json.loads(fetch(path))
    except (ValueError, LookupError) as error:
        problems.append(f"{path}: no JSON document: {error!r}")
        return {}
    if not isinstance(document, dict):
        problems.append(f"{path}: no object")
        return {}
    return document


def _documents(fetch: Fetch, problems: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield path and product names of each products document the index leads to."""
    index = _object(fetch, "streams/v1/index.json", problems).get("index")
    if not isinstance(index, dict):
        problems.append("index.json: no index")
        return
    names: set[str] = set()
    for key, entry in index.items():
        path, keys = entry.get("path"), entry.get("products")
        if entry.get("datatype") != "image-downloads":
            problems.append(f"index {key}: skipped, its datatype isn't image-downloads")
        elif not isinstance(path, str) or not isinstance(keys, list):
            problems.append(f"index {key}: no path, or no list of products")
        elif not all(isinstance(one, str) for one in keys):
            problems.append(f"index {key}: the whole index is lost: a product is no text")
        else:
            name = path.rpartition("/")[2]
            if name in names | {"index.json"}:
                problems.append(f"index {key}: {name}: a second file of this name in LXD's cache")
            names.add(name)
            yield path, keys


def _images(
    fetch: Fetch, path: str, keys: list[str], reader: Reader, problems: list[str]
) -> Iterator[ListedImage]:
    products = _object(fetch, path, problems).get("products")
    if not isinstance(products, dict):
        problems.append(f"{path}: no products")
        return
    if products and not keys:
        problems.append(f"{path}: never read, since the index lists no products for it")
    elif sorted(products) != sorted(keys):
        problems.append(f"{path}: the index lists other products")
    for key, product in products.items():
        wrong = list(_wrong_types(product))
        if wrong:
            # Go's decoder gives the whole document up.
            problems.append(f"{key}: the whole document is lost: {', '.join(wrong)}")
            continue
        problems.extend(f"{key}: {text}" for text in _product_problems(product))
        versions = product.get("versions", {})
        if not versions:
            problems.append(f"{key}: invisible, it has no versions")
        for name in versions:
            try:
                yield _image(key, product, name, reader)
            except ValueError as error:
                problems.append(f"{key} {name}: {error}")


def _wrong_types(product: Mapping[str, Any]) -> Iterator[str]:
    for name in _TEXTS:
        if not isinstance(product.get(name, ""), str):
            yield f"{name} is no text"
    for name in ("lxd_requirements", "requirements"):
        if not all(isinstance(value, str) for value in product.get(name, {}).values()):
            yield f"{name} has a value that is no text"
    for name, version in product.get("versions", {}).items():
        if not isinstance(version.get("label", ""), str):
            yield f"{name}: its label is no text"
        for item in version.get("items", {}).values():
            if type(item.get("size", 0)) is not int:
                yield f"{name}: a size is no whole number"
            if any(not isinstance(item[key], str) for key in item.keys() - {"size"}):
                yield f"{name}: an item has a value that is no text"


def _product_problems(product: Mapping[str, Any]) -> Iterator[str]:
    if product.get("arch") not in KERNEL_NAMES:
        yield f"skipped, the architecture {product.get('arch')!r} is unknown"
    if product.get("aliases"):
        for alias in product["aliases"].split(","):
            if not alias or alias != alias.strip():
                yield f"the alias {alias!r} is empty or not trimmed"
    requirements = product.get("requirements", {})
    # 5.0.2 reads only the one, Incus only the other.
    if product.get("lxd_requirements", {}) != requirements:
        yield "requirements and lxd_requirements differ: one is lost"
    if acted_on := ACTED_ON & requirements.keys():
        yield f"LXD acts on the requirements {acted_on}"


# ---- images


def _image(key: str, product: Mapping[str, Any], name: str, reader: Reader) -> ListedImage:
    """Return the image of a version; ValueError says why a reader would skip or mistake it."""
    created_at = _created_at(name, reader)
    version = product["versions"][name]
    items = version.get("items", {})
    metadata, root = _pair(items, reader)
    fingerprint = _fingerprint(metadata, root)
    label = version.get("label", "")
    properties = {
        "os": product.get("os", ""),
        "release": product.get("release", ""),
        "version": product.get("version", ""),
        "architecture": product["arch"],
        "label": label,
        "serial": name,
        "variant": product.get("variant", ""),
        "type": root["ftype"],
    }
    if reader is not Reader.LXD:
        text = f"{properties['os']} {product.get('release_title', '')} {product['arch']}"
        properties["description"] = f"{text} ({label}) ({name})" if label else f"{text} ({name})"
    which = "requirements" if reader is Reader.INCUS else "lxd_requirements"
    for word, value in product.get(which, {}).items():
        properties[f"requirements.{word}"] = value
    return ListedImage(
        fingerprint=fingerprint,
        architecture=KERNEL_NAMES.get(product["arch"], "unknown"),
        type="virtual-machine" if root["ftype"].endswith(".img") else "container",
        aliases=(),
        properties={word: value for word, value in properties.items() if value},
        size_bytes=metadata["size"] + root["size"],
        filename=metadata["path"].rpartition("/")[2],
        created_at=created_at,
        files={"meta": _file(metadata), "root": _file(root), **_delta(items, product, root)},
        product=key,
        wanted=tuple(product["aliases"].split(",")) if product.get("aliases") else (),
    )


def _created_at(name: str, reader: Reader) -> datetime:
    if not re.fullmatch(r"\d{8}", name[:8], re.ASCII):
        raise ValueError("skipped, its name doesn't begin with YYYYMMDD")
    try:
        day = datetime.strptime(name[:8], "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        raise ValueError("skipped, its name begins with no date") from None
    if reader is Reader.LXD and re.fullmatch(r"\d{8}_\d{4}", name, re.ASCII):
        # It is read with a clock of twelve hours; beyond, the date alone counts.
        hour, minute = int(name[9:11]), int(name[11:])
        return day.replace(hour=hour, minute=minute) if hour <= 12 and minute < 60 else day
    return day


def _pair(
    items: Mapping[str, dict[str, Any]], reader: Reader
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the one metadata and the one root item this reader would take."""
    by_type: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for key, item in items.items():
        if item.get("ftype") not in KNOWN_TYPES:
            raise ValueError(f"item {key}: ignored, its ftype {item.get('ftype')!r} is unknown")
        by_type[item["ftype"]].append(item)
    if any(by_type[kind] for kind in UNIFIED):
        raise ValueError("a unified image beside a split one is chosen by chance; we list none")
    for kind in sorted(set(METADATA.values())):
        if len(by_type[kind]) != 1:
            raise ValueError(f"{len(by_type[kind])} items of ftype {kind}: expected one")
    both = [by_type[kind][0] for kind in sorted(set(METADATA.values()))]
    if len({json.dumps(item | {"ftype": ""}, sort_keys=True) for item in both}) != 1:
        raise ValueError("the metadata for LXD and for Incus differ")
    roots = [item for kind in COMBINED for item in by_type[kind]]
    if len(roots) != 1:
        raise ValueError(f"{len(roots)} root filesystems: expected one")
    for item in (*both, *roots):
        _check_item(item)
    return by_type[METADATA[reader]][0], roots[0]


def _check_item(item: Mapping[str, Any]) -> None:
    path = item.get("path", "")
    if not path or path.startswith("/") or ".." in path.split("/") or "://" in path:
        raise ValueError(f"the path {path!r} doesn't lead below the tree's root")
    if not _SHA256.fullmatch(item.get("sha256", "")):
        raise ValueError(f"{path}: no sha256 of 64 hexadecimal digits")
    if item.get("size", 0) <= 0:
        raise ValueError(f"{path}: no size")


def _fingerprint(metadata: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    keys = COMBINED[root["ftype"]]
    found: str = next((metadata[key] for key in keys if metadata.get(key)), "")
    if not found:
        raise ValueError(f"skipped, the metadata has no {keys[0]}")
    if not _SHA256.fullmatch(found):
        raise ValueError(f"{keys[0]} isn't 64 hexadecimal digits")
    strangers = {key for key in metadata if key.startswith("combined_")} - set(keys)
    if strangers:
        raise ValueError(f"{', '.join(sorted(strangers))} for a root filesystem that isn't there")
    return found


def _delta(
    items: Mapping[str, Mapping[str, Any]], product: Mapping[str, Any], root: Mapping[str, Any]
) -> dict[str, StreamFile]:
    deltas = [item for item in items.values() if item["ftype"] in DELTAS]
    if len(deltas) > 1:
        raise ValueError("several deltas: LXD before 5.0.7 applies them all")
    for delta in deltas:
        if (
            delta["ftype"] != f"{root['ftype']}.vcdiff"
            or delta.get("delta_base") not in (product["versions"])
        ):
            raise ValueError("a delta that no reader can use")
    return {"delta": _file(deltas[0])} if deltas else {}


def _file(item: Mapping[str, Any]) -> StreamFile:
    return StreamFile(path=item["path"], sha256=item["sha256"], size_bytes=item["size"])


# ---- aliases


def _compare(one: ListedImage, other: ListedImage) -> int:
    """Order images as LXD does before it hands out aliases."""
    for name in ("os", "release", "variant", "serial", "architecture"):
        a, b = one.properties.get(name, ""), other.properties.get(name, "")
        if a != b:
            return -1 if (a > b if name == "serial" else a < b) else 1
    return TYPE_ORDER.index(one.properties["type"]) - TYPE_ORDER.index(other.properties["type"])


def _with_aliases(images: list[ListedImage], native: str, problems: list[str]) -> Stream:
    owners: dict[tuple[str, str], ListedImage] = {}
    listed = []
    for image in sorted(images, key=functools.cmp_to_key(_compare)):
        shown: list[str] = []
        for alias in image.wanted:
            for name in (alias, f"{alias}/{image.properties['architecture']}"):
                owner = owners.setdefault((name, image.architecture), image)
                if owner.product != image.product:
                    problems.append(f"{image.product}: its alias {name} goes to {owner.product}")
                elif owner is image and (name != alias or image.architecture == native):
                    shown.append(name)
        listed.append(replace(image, aliases=tuple(dict.fromkeys(shown))))
    aliases = {key: owner.fingerprint for key, owner in owners.items()}
    return Stream(images=tuple(listed), aliases=aliases, native=native)
