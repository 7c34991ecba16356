"""Manifests and indexes, in OCI's and in Docker's words: bytes in, frozen records out.

Sources: image-spec (descriptor.md, manifest.md, image-index.md), Docker's image manifest v2
schema 2. Rules kept here:

1. A document is a manifest or an index, never both (CVE-2021-41190); a ``mediaType`` inside it must
   equal the one it was served or described with.
2. Sizes aren't negative, digests can be verified, ``data`` in a descriptor has its size and digest.
3. Unknown media types inside an index are skipped, never an error; so are attestations and entries
   for ``unknown/unknown``.
4. Schema 1 isn't read, with an error that says so.

Nothing is fetched here; limits are for the readers to keep.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from lxdocker_lxd.convert.image_config import (
    CONFIG_LIMIT_BYTES,
    Healthcheck,
    HistoryEntry,
    ImageConfig,
    parse_image_config,
)
from lxdocker_lxd.convert.json_document import InvalidDocumentError, JsonObject
from lxdocker_lxd.digest import Digest
from lxdocker_lxd.platform import Platform

__all__ = [
    "CONFIG_LIMIT_BYTES",
    "MANIFEST_LIMIT_BYTES",
    "Descriptor",
    "Healthcheck",
    "HistoryEntry",
    "ImageConfig",
    "Index",
    "InvalidDocumentError",
    "Manifest",
    "check_image",
    "check_layers",
    "parse_descriptor",
    "parse_image_config",
    "parse_manifest",
    "render_index",
    "render_manifest",
]

MANIFEST_LIMIT_BYTES = 4 << 20

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_FOREIGN_LAYER = "application/vnd.oci.image.layer.nondistributable.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar"
DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"

MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
SCHEMA1_TYPES = frozenset({DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED})
CONFIG_TYPES = frozenset({OCI_CONFIG, DOCKER_CONFIG})
FOREIGN_LAYER_TYPES = frozenset(
    {
        OCI_FOREIGN_LAYER,
        OCI_FOREIGN_LAYER + "+gzip",
        OCI_FOREIGN_LAYER + "+zstd",
        DOCKER_FOREIGN_LAYER,
        DOCKER_FOREIGN_LAYER + ".gzip",
    }
)
LAYER_TYPES = FOREIGN_LAYER_TYPES | {
    OCI_LAYER,
    OCI_LAYER + "+gzip",
    OCI_LAYER + "+zstd",
    DOCKER_LAYER,
    DOCKER_LAYER + ".gzip",
    DOCKER_LAYER + ".zstd",
}
# What servers say that don't know: the document itself decides then.
_VAGUE_TYPES = frozenset({"", "application/json", "text/plain", "application/octet-stream"})
_ATTESTATION = ("vnd.docker.reference.type", "attestation-manifest")
_UNKNOWN = Platform(os="unknown", architecture="unknown")
_SCHEMA_VERSION = 2


class UnsupportedImageError(InvalidDocumentError):
    """A well-formed document that isn't a container image this program converts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """A reference to content: media type, digest and size; ``data`` is verified content."""

    media_type: str
    digest: Digest
    size_bytes: int
    platform: Platform | None
    annotations: Mapping[str, str]
    urls: tuple[str, ...]
    data: bytes | None

    @property
    def is_index(self) -> bool:
        """Whether it points to an index."""
        return self.media_type in INDEX_TYPES

    @property
    def is_foreign(self) -> bool:
        """Whether it is a layer that registries need not have."""
        return self.media_type in FOREIGN_LAYER_TYPES


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One image for one platform: a configuration and its layers, the lowest first."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """Several images under one name, usually one per platform."""

    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str]

    @property
    def images(self) -> tuple[Descriptor, ...]:
        """The entries that may be images or hold some: rule 3 of this module applied."""
        return tuple(
            _without_empty_platform(entry)
            for entry in self.manifests
            if entry.media_type in MANIFEST_TYPES | INDEX_TYPES
            and entry.platform != _UNKNOWN
            and entry.annotations.get(_ATTESTATION[0]) != _ATTESTATION[1]
        )


def parse_manifest(raw: bytes, *, media_type: str | None, what: str) -> Manifest | Index:
    """Read a manifest or index.

    ``media_type`` is what the server or the descriptor said (parameters are ignored), None when
    nobody said anything. Raises InvalidDocumentError or UnsupportedImageError.
    """
    document = JsonObject.parse(raw, what=what)
    kind = _media_type(document, media_type)
    _check_unambiguous(document, kind)
    if document.number("schemaVersion") != _SCHEMA_VERSION:
        raise document.fail(f"schemaVersion must be {_SCHEMA_VERSION}")
    if kind in INDEX_TYPES:
        return Index(
            media_type=kind,
            manifests=tuple(parse_descriptor(entry) for entry in document.children("manifests")),
            annotations=document.text_map("annotations"),
        )
    config = document.child("config")
    if config is None:
        raise document.fail("config is missing")
    return Manifest(
        media_type=kind,
        config=parse_descriptor(config),
        layers=tuple(parse_descriptor(entry) for entry in document.children("layers")),
        annotations=document.text_map("annotations"),
    )


def check_image(manifest: Manifest, *, what: str) -> None:
    """Raise UnsupportedImageError unless configuration and layers are a container image's."""
    if manifest.config.media_type not in CONFIG_TYPES:
        raise UnsupportedImageError(
            what,
            f"its configuration is {manifest.config.media_type!r}, not that of a container image",
            hint="charts, signatures and other artifacts can't be converted",
        )
    for layer in manifest.layers:
        if layer.media_type not in LAYER_TYPES:
            raise UnsupportedImageError(
                what,
                f"layer {layer.digest} has the media type {layer.media_type!r}, which can't be read",
                hint="layers are tar archives: plain, gzip or zstd (not encrypted)",
            )


def check_layers(manifest: Manifest, config: ImageConfig, *, what: str) -> None:
    """Raise InvalidDocumentError unless every layer has its diff_id."""
    if len(manifest.layers) != len(config.diff_ids):
        raise InvalidDocumentError(
            what,
            f"the manifest has {len(manifest.layers)} layers,"
            f" the configuration {len(config.diff_ids)} diff_ids",
        )


def parse_descriptor(entry: JsonObject) -> Descriptor:
    """Read one descriptor; raise InvalidDocumentError."""
    platform = entry.child("platform")
    descriptor = Descriptor(
        media_type=entry.required_text("mediaType"),
        digest=entry.digest("digest"),
        size_bytes=entry.size_bytes("size"),
        platform=None
        if platform is None
        else Platform.normalised(
            platform.text("os"), platform.text("architecture"), platform.text("variant")
        ),
        annotations=entry.text_map("annotations"),
        urls=entry.texts("urls"),
        data=None,
    )
    if not entry.has("data"):
        return descriptor
    return replace(descriptor, data=_embedded(entry, descriptor))


def render_index(manifests: Iterable[Descriptor]) -> bytes:
    """Return an index document of these entries; equal entries give equal bytes."""
    document = {
        "schemaVersion": _SCHEMA_VERSION,
        "mediaType": OCI_INDEX,
        "manifests": [_fields(entry) for entry in manifests],
    }
    return json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"


def render_manifest(config: Descriptor, layers: Iterable[Descriptor]) -> bytes:
    """Return an OCI manifest of this configuration and these layers; equal input, equal bytes."""
    document = {
        "schemaVersion": _SCHEMA_VERSION,
        "mediaType": OCI_MANIFEST,
        "config": _fields(config),
        "layers": [_fields(layer) for layer in layers],
    }
    return json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"


def _fields(entry: Descriptor) -> dict[str, object]:
    fields: dict[str, object] = {
        "mediaType": entry.media_type,
        "digest": str(entry.digest),
        "size": entry.size_bytes,
    }
    if entry.platform:
        platform = {
            "os": entry.platform.os,
            "architecture": entry.platform.architecture,
            "variant": entry.platform.variant,
        }
        fields["platform"] = {key: value for key, value in platform.items() if value}
    if entry.annotations:
        fields["annotations"] = dict(entry.annotations)
    if entry.urls:
        fields["urls"] = list(entry.urls)
    return fields


def _embedded(entry: JsonObject, descriptor: Descriptor) -> bytes:
    try:
        data = base64.b64decode(entry.text("data"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise entry.fail(f"data is not base64: {error}") from error
    if len(data) != descriptor.size_bytes:
        raise entry.fail(f"data has {len(data)} bytes, size says {descriptor.size_bytes}")
    got = hashlib.new(descriptor.digest.algorithm, data).hexdigest()
    if got != descriptor.digest.encoded:
        raise entry.fail(f"data has digest {descriptor.digest.algorithm}:{got}, digest differs")
    return data


def _media_type(document: JsonObject, outer: str | None) -> str:
    """Return the one media type of the document, or raise."""
    served = (outer or "").partition(";")[0].strip().lower()
    if served in _VAGUE_TYPES:
        served = ""
    own = document.text("mediaType")
    if served in SCHEMA1_TYPES or own in SCHEMA1_TYPES or document.number("schemaVersion") == 1:
        raise UnsupportedImageError(
            document.what,
            "it is in Docker's image format of 2015 (manifest schema 1), which is not supported",
            hint="push the image again with a current docker or skopeo",
        )
    if served and own and served != own:
        raise document.fail(f"mediaType is {own!r}, but it was given as {served!r}")
    kind = own or served
    if not kind:
        kind = OCI_INDEX if document.has("manifests") else OCI_MANIFEST
    if kind not in MANIFEST_TYPES | INDEX_TYPES:
        raise UnsupportedImageError(document.what, f"the media type {kind!r} is not an image")
    return kind


def _check_unambiguous(document: JsonObject, kind: str) -> None:
    # Programs written in Go match keys whatever their case; compare as they do.
    keys = {key.casefold() for key, value in document.fields.items() if value is not None}
    if len({key.casefold() for key in document.fields}) != len(document.fields):
        raise document.fail("two keys differ only in upper and lower case")
    strangers = {"layers", "config", "fslayers"} if kind in INDEX_TYPES else {"manifests"}
    if found := sorted((strangers | {"fslayers"}) & keys):
        raise document.fail(
            f"{found[0]} has no place in {kind}",
            hint="a document that can be read as two kinds of manifest is not trusted",
        )


def _without_empty_platform(entry: Descriptor) -> Descriptor:
    empty = entry.platform is not None and not entry.platform.architecture
    return replace(entry, platform=None) if empty else entry
