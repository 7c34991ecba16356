"""What an image server's simplestreams documents say an alias stands for now. Pure.

LXD's rules, for what they decide here: an index entry that isn't for images or lists no products,
an architecture without a name, a version whose name doesn't begin with a date, and one without a
usable pair of files are passed over; the greatest version name is the newest; an alias goes to the
product that sorts first by os, release and variant.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from lxdocker_lxd.errors import UsageError, VerificationError
from lxdocker_lxd.json_bounds import check_values
from lxdocker_lxd.platform import Platform

INDEX_PATH = "streams/v1/index.json"
_MOST_DOCUMENTS = 16
_MOST_VALUES = 1_000_000
_MOST_PRODUCTS = 100_000
_MOST_ALIASES = 64
_DATE_CHARACTERS = 8
_LONGEST_SERIAL = 80
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PATH = re.compile(r"[A-Za-z0-9._@+~:%-]+(/[A-Za-z0-9._@+~:%-]+)*")
_UNIFIED = "lxd_combined.tar.gz"
_SPLIT = "lxd.tar.xz"
_COMBINED: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "container": {
        "squashfs": ("combined_squashfs_sha256",),
        "root.tar.xz": ("combined_rootxz_sha256", "combined_sha256"),
    },
    "virtual-machine": {
        "disk-kvm.img": ("combined_disk-kvm-img_sha256",),
        "disk1.img": ("combined_disk1-img_sha256",),
        "uefi1.img": ("combined_uefi1-img_sha256",),
    },
}


class ListingError(VerificationError):
    """A document of an image server that isn't what it should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A name as somebody uses it, on a machine of ``architecture`` (LXD's word, as ``x86_64``)."""

    alias: str
    architecture: str
    type: str = "container"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What a name stands for: the version, and the fingerprints LXD may give it.

    There are several where a version has several root file systems to choose from.
    """

    serial: str
    fingerprints: frozenset[str]


def product_documents(content: bytes) -> tuple[str, ...]:
    """Return the paths of the documents an index leads to; raise ListingError."""
    index = _mapping(_document(content).get("index"), "its index")
    paths = [
        str(entry["path"])
        for entry in index.values()
        if isinstance(entry, dict)
        and entry.get("datatype") == "image-downloads"
        and entry.get("products")
        and isinstance(entry.get("path"), str)
    ]
    for path in paths:
        if not _PATH.fullmatch(path) or {".", ".."} & set(path.split("/")):
            raise ListingError(f"the index leads to {path[:80]!r}, which isn't below the server")
    return tuple(dict.fromkeys(paths))[:_MOST_DOCUMENTS]


def standing_for(content: bytes, wanted: frozenset[Wanted]) -> dict[Wanted, Listed]:
    """Return what a products document has for names; those it hasn't are left out.

    Raise ListingError. What can't be understood of single products is passed over.
    """
    products = _mapping(_document(content).get("products"), "its products")
    found: dict[Wanted, tuple[tuple[str, ...], Listed]] = {}
    for product in islice(products.values(), _MOST_PRODUCTS):
        if not isinstance(product, dict):
            continue
        for one in _claims(product, wanted):
            listed = _newest(product, one)
            order = tuple(str(product.get(key, "")) for key in ("os", "release", "variant"))
            if listed is not None and (one not in found or order < found[one][0]):
                found[one] = (order, listed)
    return {one: listed for one, (_, listed) in found.items()}


def _document(content: bytes) -> dict[str, object]:
    try:
        check_values(content, most=_MOST_VALUES)
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ListingError("it sends no JSON document") from error
    return _mapping(document, "the document")


def _mapping(value: object, what: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ListingError(f"{what} is no JSON object")
    return value


def _claims(product: Mapping[str, object], wanted: frozenset[Wanted]) -> Iterator[Wanted]:
    architecture, aliases = product.get("arch"), product.get("aliases")
    if not isinstance(architecture, str) or not isinstance(aliases, str):
        return
    plain = set(aliases.split(",")[:_MOST_ALIASES])
    names = plain | {f"{alias}/{architecture}" for alias in plain}
    machine = _machine(architecture)
    for one in wanted:
        if one.alias in names and machine is not None and machine == _machine(one.architecture):
            yield one


def _machine(architecture: str) -> Platform | None:
    try:
        return Platform.parse(architecture)
    except UsageError:
        return None


def _newest(product: Mapping[str, object], wanted: Wanted) -> Listed | None:
    versions = product.get("versions")
    if not isinstance(versions, dict):
        return None
    for serial in sorted(versions, reverse=True):
        version = versions[serial]
        if not _is_serial(serial) or not isinstance(version, dict):
            continue
        fingerprints = frozenset(_fingerprints(version.get("items"), wanted.type))
        if fingerprints:
            return Listed(serial=serial, fingerprints=fingerprints)
    return None


def _is_serial(serial: str) -> bool:
    try:
        datetime.strptime(serial[:_DATE_CHARACTERS], "%Y%m%d")  # noqa: DTZ007 - only whether it is one
    except ValueError:
        return False
    sized = _DATE_CHARACTERS <= len(serial) <= _LONGEST_SERIAL
    return sized and serial.isascii() and serial.isprintable()


def _fingerprints(items: object, kind: str) -> Iterator[str]:
    if not isinstance(items, dict):
        return
    usable = [item for item in items.values() if isinstance(item, dict)]
    roots = [item.get("ftype") for item in usable]
    for item in usable:
        if item.get("ftype") == _UNIFIED and kind == "container":
            yield from _hash(item.get("sha256"))
        if item.get("ftype") != _SPLIT:
            continue
        for root, keys in _COMBINED.get(kind, {}).items():
            if root in roots:
                yield from next((found for key in keys if (found := _hash(item.get(key)))), ())


def _hash(value: object) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) and _SHA256.fullmatch(value) else ()
