"""Images in tar files: an OCI image layout, or what ``docker save`` writes.

Since Docker 25 ``docker save`` writes both forms in one file; the layout is taken then, for it has
the image's true digests. For the older form a manifest is made from ``manifest.json``, the same one
every time: its layers are uncompressed tar archives, so their digests are the configuration's
diff_ids (which the download into the store checks); a compressed layer, as some tools write them,
is hashed here.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lxdocker_lxd.convert import oci
from lxdocker_lxd.convert.archive_members import ArchiveFiles, InvalidArchiveError
from lxdocker_lxd.convert.json_document import JsonObject
from lxdocker_lxd.convert.layout import LayoutImage, read_whole, same_name, splits
from lxdocker_lxd.convert.local_file import is_regular
from lxdocker_lxd.convert.oci import Descriptor
from lxdocker_lxd.convert.source import ManifestBytes, Source
from lxdocker_lxd.digest import ByteStream, Digest
from lxdocker_lxd.errors import NotFoundError, UsageError
from lxdocker_lxd.reference import ArchiveSource

_DOCKER_MANIFEST = "manifest.json"
_DOCKER_MANIFEST_LIMIT_BYTES = 1 << 20
_COMPRESSIONS = {b"\x1f\x8b": "+gzip", b"\x28\xb5\x2f\xfd": "+zstd"}
_MAGIC_BYTES = 4
_CHUNK_BYTES = 1 << 20


def open_archive(source: ArchiveSource) -> Source:
    """Return the image in an archive; raise NotFoundError, VerificationError, UsageError.

    The tag follows the first colon after which the file exists.
    """
    candidates = list(splits(source.file, source.tag))
    path, tag = next((split for split in candidates if is_regular(Path(split[0]))), candidates[0])
    files = ArchiveFiles(Path(path))
    if files.size_bytes("oci-layout") is not None and files.size_bytes("index.json") is not None:
        return LayoutImage(files, tag)
    if files.size_bytes(_DOCKER_MANIFEST) is not None:
        if source.kind == "docker-archive":
            return DockerArchive(files, tag)
        raise InvalidArchiveError(
            f"{path}: not an OCI archive but one of docker save",
            hint=f"write docker-archive:{path}",
        )
    raise InvalidArchiveError(
        f"{path}: neither an OCI image layout nor the output of docker save",
        hint="make one with: skopeo copy docker://IMAGE oci-archive:FILE",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Saved:
    """One entry of manifest.json."""

    config: str
    layers: tuple[str, ...]
    names: tuple[str, ...]


class DockerArchive:
    """One image of an older ``docker save``, as a source with a manifest made for it."""

    def __init__(self, files: ArchiveFiles, tag: str | None) -> None:
        self._files = files
        saved = self._saved(tag)
        self._members: dict[Digest, str] = {}
        config_raw = read_whole(files, saved.config, oci.CONFIG_LIMIT_BYTES)
        config = _descriptor(oci.OCI_CONFIG, Digest.of(config_raw), len(config_raw))
        self._members[config.digest] = saved.config
        diff_ids = oci.parse_image_config(
            config_raw, what=f"{files.where}: {saved.config}"
        ).diff_ids
        if len(diff_ids) != len(saved.layers):
            raise InvalidArchiveError(
                f"{files.where}: {_DOCKER_MANIFEST} lists {len(saved.layers)} layers,"
                f" the configuration {len(diff_ids)} diff_ids"
            )
        layers = tuple(map(self._layer, saved.layers, diff_ids))
        raw = oci.render_manifest(config, layers)
        self._manifest = ManifestBytes(raw=raw, media_type=oci.OCI_MANIFEST, digest=Digest.of(raw))

    def head(self) -> Digest:
        """Return the digest of the manifest made for this image."""
        return self._manifest.digest

    def manifest(self, digest: Digest | None) -> ManifestBytes:
        """Return the manifest made for this image; there is no other."""
        if digest not in {None, self._manifest.digest}:
            raise NotFoundError(f"{self._files.where}: there is no manifest {digest}")
        return self._manifest

    @contextlib.contextmanager
    def blob(self, descriptor: Descriptor, offset_bytes: int) -> Iterator[ByteStream]:
        """Yield a layer's or the configuration's bytes from an offset on."""
        name = self._members.get(descriptor.digest)
        if name is None:
            raise NotFoundError(f"{self._files.where}: there is no blob {descriptor.digest}")
        with self._files.stream(name, offset_bytes) as stream:
            yield stream

    def _layer(self, name: str, diff_id: Digest) -> Descriptor:
        size_bytes = self._files.size_bytes(name)
        if size_bytes is None:
            raise InvalidArchiveError(f"{self._files.where}: the layer {name} is missing")
        with self._files.stream(name) as stream:
            start = stream.read(_MAGIC_BYTES)
            suffix = next((s for magic, s in _COMPRESSIONS.items() if start.startswith(magic)), "")
            digest = _hash(start, stream) if suffix else diff_id
        self._members[digest] = name
        return _descriptor(oci.OCI_LAYER + suffix, digest, size_bytes)

    def _saved(self, tag: str | None) -> _Saved:
        what = f"{self._files.where}: {_DOCKER_MANIFEST}"
        raw = read_whole(self._files, _DOCKER_MANIFEST, _DOCKER_MANIFEST_LIMIT_BYTES)
        images = [_entry(entry) for entry in JsonObject.parse_list(raw, what=what)]
        names = sorted(name for image in images for name in image.names)
        if tag is not None:
            images = [image for image in images if any(same_name(tag, n) for n in image.names)]
            if not images:
                offered = ", ".join(names) or "only images without a name: leave the tag away"
                raise NotFoundError(
                    f"{what}: there is no image {tag!r}", hint=f"it holds {offered}"
                )
        if not images:
            raise NotFoundError(f"{what} names no image")
        if len(images) > 1:
            raise UsageError(
                f"{what} names several images", hint=f"add one of these: {', '.join(names)}"
            )
        return images[0]


def _entry(entry: JsonObject) -> _Saved:
    return _Saved(
        config=entry.required_text("Config"),
        layers=entry.texts("Layers"),
        names=entry.texts("RepoTags"),
    )


def _descriptor(media_type: str, digest: Digest, size_bytes: int) -> Descriptor:
    return Descriptor(
        media_type=media_type,
        digest=digest,
        size_bytes=size_bytes,
        platform=None,
        annotations={},
        urls=(),
        data=None,
    )


def _hash(start: bytes, stream: ByteStream) -> Digest:
    digest = hashlib.sha256(start)
    while data := stream.read(_CHUNK_BYTES):
        digest.update(data)
    return Digest("sha256", digest.hexdigest())
