"""The text of simplestreams documents: ``index.json`` and ``images.json`` of one tree.

Pure: listings in, bytes out; equal listings give equal bytes. What LXD's and Incus' readers take,
and what they drop without a word, is in docs/streams.md. Both names of the metadata file are
listed with the same content: LXD knows only ``lxd.tar.xz``, Incus only ``incus.tar.xz``. The
unified form is never listed beside the split one: readers would choose between them by chance.
"""

import email.utils
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from lxdocker_lxd.catalogue import Product, PublishedFile, Version

INDEX_PATH = "streams/v1/index"
IMAGES_PATH = "streams/v1/images"
RELEASE = "current"
VARIANT = "default"
LABEL = "release"

_METADATA_TYPES = ("lxd.tar.xz", "incus.tar.xz")
# The names under which readers know the two kinds of root filesystem, and the key that holds the
# fingerprint of each. They look at the content of a tar: its compression needs no name.
_SQUASHFS = ("squashfs", "combined_squashfs_sha256")
_TARBALL = ("root.tar.xz", "combined_rootxz_sha256")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One version in one tree: ``key`` is its product's name in the stream.

    ``files`` are its metadata and its root filesystem.
    """

    key: str
    product: Product
    version: Version
    files: tuple[PublishedFile, PublishedFile]
    aliases: tuple[str, ...] = ()


def product_key(product: Product, version: Version, *, standing: bool) -> str:
    """Return the name of ``version``'s product in a stream.

    The version that ``product``'s name stands for has the plain key; every other has its own, since
    ``requirements`` (which say what the image was made from) belong to a product there.
    """
    key = f"lxdocker:{product.name}:{product.architecture}"
    return key if standing else f"{key}:{version.serial}"


def stream_files(version: Version) -> tuple[PublishedFile, PublishedFile] | None:
    """Return the metadata and the root filesystem, or None when one is missing."""
    metadata, rootfs = version.file("metadata"), version.file("rootfs")
    return None if metadata is None or rootfs is None else (metadata, rootfs)


def index_document(listings: Iterable[Listing], *, updated_at: datetime, suffix: str) -> bytes:
    """Return the index that leads to the images document with the same ``suffix``."""
    updated = email.utils.format_datetime(updated_at)
    images = {
        "datatype": "image-downloads",
        "format": "products:1.0",
        "path": IMAGES_PATH + suffix,
        "products": sorted(listing.key for listing in listings),
        "updated": updated,
    }
    return _text({"format": "index:1.0", "index": {"images": images}, "updated": updated})


def images_document(listings: Iterable[Listing], *, updated_at: datetime) -> bytes:
    """Return the products document of ``listings``."""
    return _text(
        {
            "content_id": "images",
            "datatype": "image-downloads",
            "format": "products:1.0",
            "products": {listing.key: _product(listing) for listing in listings},
            "updated": email.utils.format_datetime(updated_at),
        }
    )


def _product(listing: Listing) -> dict[str, object]:
    product, version = listing.product, listing.version
    requirements = _requirements(version)
    return {
        "aliases": ",".join(listing.aliases),
        "arch": product.architecture,
        # LXD before 5.0.3 reads only the first of these, Incus only the second.
        "lxd_requirements": requirements,
        "requirements": requirements,
        "os": product.name,
        "release": RELEASE,
        "release_title": RELEASE,
        "variant": VARIANT,
        "versions": {version.serial: {"items": _items(listing), "label": LABEL}},
    }


def _requirements(version: Version) -> Mapping[str, str]:
    """Return what the image was made from: the one free text that LXD keeps with an image.

    The words are our own; those LXD acts on (``cgroup``, ``secureboot``, …) never appear.
    """
    source = version.source
    return {
        "lxdocker.digest": source.top_digest,
        "lxdocker.image": source.reference,
        "lxdocker.manifest": source.manifest_digest,
        "lxdocker.platform": source.platform,
    }


def _items(listing: Listing) -> dict[str, object]:
    metadata, rootfs = listing.files
    squashfs = listing.version.image_format == "squashfs"
    root_type, combined = _SQUASHFS if squashfs else _TARBALL
    first = _file(metadata) | {combined: listing.version.fingerprint}
    items: dict[str, object] = {name: first | {"ftype": name} for name in _METADATA_TYPES}
    return items | {root_type: _file(rootfs) | {"ftype": root_type}}


def _file(file: PublishedFile) -> dict[str, object]:
    return {"path": file.path, "sha256": file.sha256, "size": file.size_bytes}


def _text(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"
