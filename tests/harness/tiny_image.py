"""Small OCI images as Python objects: bytes by digest, and a layout on disk to push from."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"


def digest_of(content: bytes) -> str:
    """Return ``sha256:…`` of ``content``."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def layer_tar(files: Mapping[str, bytes]) -> bytes:
    """Return a tar with these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@dataclass
class TinyImage:
    """``blobs`` by digest; ``manifest`` and ``media_type`` are what a tag would name."""

    manifest: bytes
    media_type: str
    config: bytes
    layers: tuple[bytes, ...]
    blobs: dict[str, bytes] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The manifest's digest."""
        return digest_of(self.manifest)

    @property
    def layer_digests(self) -> tuple[str, ...]:
        """The digests of the layers as stored."""
        return tuple(digest_of(layer) for layer in self.layers)

    def write_layout(self, directory: Path, tag: str = "latest") -> Path:
        """Make ``directory`` an OCI layout in which ``tag`` names this image."""
        for digest, content in {**self.blobs, self.digest: self.manifest}.items():
            algorithm, _, encoded = digest.partition(":")
            path = directory / "blobs" / algorithm / encoded
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        (directory / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        entry = _descriptor(self.media_type, self.manifest) | {
            "annotations": {"org.opencontainers.image.ref.name": tag}
        }
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
        (directory / "index.json").write_text(json.dumps(index))
        return directory


def _descriptor(media_type: str, content: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


def tiny_image(
    *layers: Mapping[str, bytes],
    architecture: str = "amd64",
    config: Mapping[str, object] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> TinyImage:
    """Return a single-manifest image whose layers are gzip tars of ``layers``' files."""
    tars = [layer_tar(files) for files in layers]
    packed = tuple(gzip.compress(tar, 1, mtime=0) for tar in tars)
    config_bytes = json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "created": "2024-05-06T07:08:09Z",
            "config": dict(config or {}),
            "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]},
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": _descriptor(OCI_CONFIG, config_bytes),
            "layers": [_descriptor(OCI_LAYER_GZIP, layer) for layer in packed],
            **({"annotations": dict(annotations)} if annotations else {}),
        }
    ).encode()
    blobs = {digest_of(content): content for content in (config_bytes, *packed)}
    return TinyImage(manifest, OCI_MANIFEST, config_bytes, packed, blobs)


def tiny_index(images: Mapping[str, TinyImage] | Sequence[tuple[str, TinyImage]]) -> TinyImage:
    """Return an index over ``images``, each under its platform ``os/architecture[/variant]``."""
    pairs = list(images.items()) if isinstance(images, Mapping) else list(images)
    entries = []
    blobs: dict[str, bytes] = {}
    for text, image in pairs:
        system, architecture, *variant = text.split("/")
        platform = {"os": system, "architecture": architecture}
        platform |= {"variant": variant[0]} if variant else {}
        entries.append(_descriptor(image.media_type, image.manifest) | {"platform": platform})
        blobs |= image.blobs | {image.digest: image.manifest}
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    first = pairs[0][1]
    return TinyImage(json.dumps(document).encode(), OCI_INDEX, first.config, first.layers, blobs)
