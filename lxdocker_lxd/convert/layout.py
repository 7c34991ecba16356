"""Images in an OCI image layout: a directory, or a tar file of one.

Source: image-spec image-layout.md. ``index.json`` may name one image several times (once per
platform), hold images without a name, and miss blobs; all are legal. A tag picks the entries with
that ``org.opencontainers.image.ref.name`` or ``io.containerd.image.name``. Several different
entries under one name are offered as an index, made the same way every time.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from lxdocker_lxd.convert import oci
from lxdocker_lxd.convert.json_document import InvalidDocumentError, JsonObject
from lxdocker_lxd.convert.local_file import LocalStream, is_regular, open_regular
from lxdocker_lxd.convert.oci import Descriptor
from lxdocker_lxd.convert.source import ManifestBytes, Source
from lxdocker_lxd.digest import ByteStream, Digest, DigestMismatchError
from lxdocker_lxd.errors import NotFoundError, UsageError
from lxdocker_lxd.reference import LayoutSource, Reference

REF_NAME = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"
_LAYOUT_FILE = "oci-layout"
_LAYOUT_FILE_LIMIT_BYTES = 4096


class Files(Protocol):
    """Files by name: those of a directory, or the members of an archive."""

    @property
    def where(self) -> str:
        """What to call this place in messages."""
        ...

    def size_bytes(self, name: str) -> int | None:
        """Return a file's size, None when it isn't there."""
        ...

    def stream(self, name: str, offset_bytes: int = 0) -> AbstractContextManager[ByteStream]:
        """Yield a file's bytes from an offset on; raise NotFoundError."""
        ...


class DirectoryFiles:
    """The files below one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def where(self) -> str:
        """What to call this place in messages."""
        return str(self._directory)

    def size_bytes(self, name: str) -> int | None:
        """Return a file's size, None when it isn't there."""
        try:
            return (self._directory / name).stat().st_size
        except OSError:
            return None

    @contextlib.contextmanager
    def stream(self, name: str, offset_bytes: int = 0) -> Iterator[ByteStream]:
        """Yield a file's bytes from an offset on; raise NotFoundError, StorageError."""
        path = self._directory / name
        with open_regular(path, what=self.where) as file:
            size_bytes = file.seek(0, 2)
            file.seek(offset_bytes)
            yield LocalStream(file, path, max(0, size_bytes - offset_bytes))


def open_layout(source: LayoutSource) -> Source:
    """Return the image in a layout directory; raise NotFoundError or VerificationError.

    The tag follows the first colon after which the directory exists, so a directory's name may
    hold colons.
    """
    for directory, tag in splits(source.directory, source.tag):
        if is_regular(Path(directory) / _LAYOUT_FILE):
            return LayoutImage(DirectoryFiles(Path(directory)), tag)
    raise NotFoundError(
        f"{source}: {source.directory} is not an OCI image layout (it has no {_LAYOUT_FILE} file)",
        hint="make one with: skopeo copy docker://IMAGE oci:DIR:TAG",
    )


def splits(path: str, tag: str | None) -> Iterator[tuple[str, str | None]]:
    """Yield the ways to read ``path:tag``, the shortest path first."""
    yield path, tag
    while tag is not None:
        more, colon, rest = tag.partition(":")
        path, tag = f"{path}:{more}", rest if colon else None
        yield path, tag


def read_whole(files: Files, name: str, limit_bytes: int) -> bytes:
    """Return a small file; raise NotFoundError or InvalidDocumentError when it is too large."""
    parts = []
    left_bytes = limit_bytes + 1
    with files.stream(name) as stream:
        while left_bytes and (data := stream.read(left_bytes)):
            parts.append(data)
            left_bytes -= len(data)
    if not left_bytes:
        raise InvalidDocumentError(f"{files.where}: {name}", f"larger than {limit_bytes} bytes")
    return b"".join(parts)


class LayoutImage:
    """One image of a layout, as a source."""

    def __init__(self, files: Files, tag: str | None) -> None:
        self._files = files
        self._tag = tag
        raw = read_whole(files, _LAYOUT_FILE, _LAYOUT_FILE_LIMIT_BYTES)
        layout = JsonObject.parse(raw, what=f"{files.where}: {_LAYOUT_FILE}")
        version = layout.required_text("imageLayoutVersion")
        if not version.startswith("1."):
            raise layout.fail(f"imageLayoutVersion {version!r} is not supported, 1.0.0 is")

    def head(self) -> Digest:
        """Return the digest of what the tag names now."""
        named = self._named()
        return named.digest

    def manifest(self, digest: Digest | None) -> ManifestBytes:
        """Return the manifest or index, verified; None for what the tag names."""
        named = self._named()
        if digest is None or digest == named.digest:
            return self._document(named)
        return ManifestBytes(raw=self._verified(digest), media_type="", digest=digest)

    @contextlib.contextmanager
    def blob(self, descriptor: Descriptor, offset_bytes: int) -> Iterator[ByteStream]:
        """Yield the blob's bytes from an offset on."""
        with self._files.stream(_blob(descriptor.digest), offset_bytes) as stream:
            yield stream

    def _document(self, named: Descriptor) -> ManifestBytes:
        raw = named.data if named.data is not None else self._verified(named.digest)
        if len(raw) != named.size_bytes:
            raise DigestMismatchError(
                f"{self._files.where}: manifest {named.digest}: expected {named.size_bytes} bytes,"
                f" got {len(raw)}"
            )
        return ManifestBytes(raw=raw, media_type=named.media_type, digest=named.digest)

    def _verified(self, digest: Digest) -> bytes:
        raw = read_whole(self._files, _blob(digest), oci.MANIFEST_LIMIT_BYTES)
        got = hashlib.new(digest.algorithm, raw).hexdigest()
        if got != digest.encoded:
            raise DigestMismatchError(
                f"{self._files.where}: {_blob(digest)} has digest {digest.algorithm}:{got}"
            )
        return raw

    def _named(self) -> Descriptor:
        """Return the one entry the tag means, or an index made of several."""
        entries = self._matching()
        first = entries[0]
        if all(entry.digest == first.digest for entry in entries):
            return first
        raw = oci.render_index(entries)
        return Descriptor(
            media_type=oci.OCI_INDEX,
            digest=Digest.of(raw),
            size_bytes=len(raw),
            platform=None,
            annotations={},
            urls=(),
            data=raw,
        )

    def _matching(self) -> tuple[Descriptor, ...]:
        where = f"{self._files.where}: index.json"
        raw = read_whole(self._files, "index.json", oci.MANIFEST_LIMIT_BYTES)
        index = oci.parse_manifest(raw, media_type=oci.OCI_INDEX, what=where)
        entries = index.images if isinstance(index, oci.Index) else ()
        if not entries:
            raise NotFoundError(f"{where} names no image")
        names = sorted({name for entry in entries for name in _names(entry)[:1]})
        if self._tag is not None:
            found = tuple(e for e in entries if any(same_name(self._tag, n) for n in _names(e)))
            if not found:
                offered = ", ".join(names) or "only images without a name: leave the tag away"
                raise NotFoundError(
                    f"{where}: there is no image {self._tag!r}", hint=f"it holds {offered}"
                )
            return found
        if len(names) > 1:
            raise UsageError(
                f"{where} names several images", hint=f"add one of these tags: {', '.join(names)}"
            )
        return entries


def same_name(wanted: str, name: str) -> bool:
    """Tell whether two tags or image references name the same image."""
    if wanted == name:
        return True
    try:
        return Reference.parse(wanted) == Reference.parse(name)
    except UsageError:
        return False


def _names(entry: Descriptor) -> list[str]:
    keys = (REF_NAME, _CONTAINERD_NAME)
    return [entry.annotations[key] for key in keys if key in entry.annotations]


def _blob(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.encoded}"
