"""The cache of downloaded content: an OCI image layout that concurrent runs share.

Beside ``oci-layout``, ``index.json`` and ``blobs`` the directory holds ``partial`` (downloads that
broke off, resumed by the next one), ``headers`` (what other modules derive from a blob, removed
with it) and two lock files. A run holds ``lock`` shared; removal needs it exclusively.
``index.lock`` guards the short updates of ``index.json``.

A blob appears at its digest's name only after digest and size were verified and the bytes are on
disk, so a name is a promise. A disk may break it: a blob of an earlier run is hashed again before
the first use in this one and fetched anew when it is damaged.
"""

import contextlib
import hashlib
import logging
import os
import re
import stat
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path, PurePath

from lxdocker_lxd import atomic
from lxdocker_lxd.convert import oci
from lxdocker_lxd.convert.oci import Descriptor
from lxdocker_lxd.convert.partial_download import (
    STALLED_SECONDS,
    OpenAt,
    complete,
    locked_partial,
)
from lxdocker_lxd.convert.reachability import reachable
from lxdocker_lxd.digest import Digest, DigestMismatchError
from lxdocker_lxd.errors import LxdockerError, NotFoundError, UsageError, VerificationError
from lxdocker_lxd.ownership import expect_own, open_plain

REF_NAME = "org.opencontainers.image.ref.name"
LAYOUT_VERSION = b'{"imageLayoutVersion": "1.0.0"}\n'

_ALGORITHMS = ("sha256", "sha512")
_DIRECTORIES = (
    *((kind, *below) for kind in ("blobs", "headers") for below in ((), *zip(_ALGORITHMS))),
    ("partial",),
)
_PARTIAL_KEPT_SECONDS = 7 * 24 * 3600
_SUFFIX = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+)*")
_log = logging.getLogger(__name__)


class DamagedCacheError(VerificationError):
    """The cache's own bookkeeping can't be read."""


class Store:
    """Blobs by digest in one directory. Safe for several threads and several processes."""

    def __init__(self, directory: Path, *, stalled_seconds: float = STALLED_SECONDS) -> None:
        """``stalled_seconds``: how long one download may keep another of the same blob waiting."""
        self._directory = directory
        self._stalled_seconds = stalled_seconds
        self._held: int | None = None
        self._lock = directory / "lock"
        # Digests this object has seen to be right; a run uses one object.
        self._proved: set[Digest] = set()

    @contextlib.contextmanager
    def using(self) -> Iterator[None]:
        """Hold the store for a run: nothing another run does removes content meanwhile.

        Makes the directory if needed. Waits while another run prunes. Not to be nested. Raises
        StorageError.
        """
        self._prepare()
        self._held = atomic.open_lock(self._lock)
        try:
            atomic.take(self._held, self._lock, shared=True)
            yield
        finally:
            os.close(self._held)
            self._held = None

    def path(self, digest: Digest) -> Path:
        """Return where the blob is, or would be."""
        return self._directory / "blobs" / digest.algorithm / digest.encoded

    def derived(self, digest: Digest, suffix: str) -> Path:
        """Return where something computed from the blob may be kept; it is pruned with the blob."""
        if not _SUFFIX.fullmatch(suffix):
            raise ValueError(f"not a suffix of a derived file: {suffix!r}")
        return self._directory / "headers" / digest.algorithm / f"{digest.encoded}.{suffix}"

    def has(self, descriptor: Descriptor) -> bool:
        """Tell whether the blob is here, whole."""
        try:
            status = self.path(descriptor.digest).lstat()
        except OSError:
            return False
        return stat.S_ISREG(status.st_mode) and status.st_size == descriptor.size_bytes

    def read(self, digest: Digest, *, limit_bytes: int, what: str) -> bytes:
        """Return a small blob, verified; raise NotFoundError or VerificationError."""
        path = self.path(digest)
        try:
            with open_plain(path) as file:
                raw = file.read(limit_bytes + 1)
        except FileNotFoundError as error:
            raise NotFoundError(f"{what}: {digest} is not in the cache") from error
        except OSError as error:
            raise atomic.storage_error("read", path, error) from error
        if len(raw) > limit_bytes:
            raise VerificationError(f"{what}: larger than {limit_bytes} bytes")
        _check(raw, digest, what)
        return raw

    def put(
        self,
        descriptor: Descriptor,
        open_at: OpenAt,
        *,
        on_bytes: Callable[[int], None],
    ) -> Path:
        """Guarantee that the blob is stored and right, perhaps by someone else; return where.

        ``open_at`` gives the bytes from an offset on; it isn't called when all is here. ``on_bytes``
        gets the count so far. When the stream breaks, what came is kept and the next ``put``
        continues there, after hashing it again. A second ``put`` of the same digest waits while the
        first gets on. Raises DigestMismatchError, StorageError, and whatever the stream raises.
        """
        digest, path = descriptor.digest, self.path(descriptor.digest)
        if descriptor.data is not None and not self._is_right(descriptor):
            atomic.write(path, descriptor.data)
        if not self._is_right(descriptor):
            name = f"{digest.algorithm}-{digest.encoded}"
            with locked_partial(
                self._directory / "partial" / name, stalled_seconds=self._stalled_seconds
            ) as (file, partial):
                if not self._is_right(descriptor):
                    complete(file, partial, descriptor, open_at, on_bytes)
                    _publish(partial, path)
                partial.unlink(missing_ok=True)
        self._proved.add(digest)
        on_bytes(descriptor.size_bytes)
        return path

    def put_bytes(self, media_type: str, raw: bytes) -> Descriptor:
        """Store a small document under its sha256 digest and return its descriptor."""
        descriptor = Descriptor(
            media_type=media_type,
            digest=Digest.of(raw),
            size_bytes=len(raw),
            platform=None,
            annotations={},
            urls=(),
            data=None,
        )
        if not self.has(descriptor):
            atomic.write(self.path(descriptor.digest), raw)
        return descriptor

    def discard(self, digest: Digest) -> None:
        """Remove one blob found damaged, so that the next ``put`` fetches it again."""
        path = self.path(digest)
        self._proved.discard(digest)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise atomic.storage_error("remove", path, error) from error

    def _is_right(self, descriptor: Descriptor) -> bool:
        """Tell whether the blob is here with all its bytes as they were; hash it at most once."""
        if not self.has(descriptor):
            return False
        if descriptor.digest not in self._proved:
            path = self.path(descriptor.digest)
            try:
                with open_plain(path) as file:
                    got = hashlib.file_digest(file, descriptor.digest.algorithm).hexdigest()
            except OSError as error:
                raise atomic.storage_error("read", path, error) from error
            if got != descriptor.digest.encoded:
                _log.debug("%s is damaged: fetching it again", path)
                return False
            self._proved.add(descriptor.digest)
        return True

    def tags(self) -> dict[str, Descriptor]:
        """Return what ``index.json`` names."""
        return {
            entry.annotations[REF_NAME]: entry
            for entry in self._index()
            if REF_NAME in entry.annotations
        }

    def tag(self, name: str, descriptor: Descriptor) -> None:
        """Make ``name`` stand for ``descriptor``: it and all below it survive pruning."""
        entry = replace(descriptor, annotations={REF_NAME: name}, data=None)
        with atomic.locked(self._directory / "index.lock"):
            others = [e for e in self._index() if e.annotations.get(REF_NAME) != name]
            self._write_index([*others, entry])

    def untag(self, names: Collection[str]) -> None:
        """Drop these names; their content goes with the next ``prune``."""
        with atomic.locked(self._directory / "index.lock"):
            entries = self._index()
            kept = [e for e in entries if e.annotations.get(REF_NAME) not in set(names)]
            if len(kept) != len(entries):
                self._write_index(kept)

    def prune(self, keep: Collection[Digest]) -> int:
        """Remove blobs that neither ``index.json`` nor ``keep`` reaches; return how many.

        Does nothing while another run uses the store, or when a document that may reach others is
        damaged. Also removes derived files without their blob, broken downloads older than a week,
        and temporary files of crashed runs. Raises StorageError.
        """
        with self._exclusive() as alone:
            if not alone:
                _log.debug("%s is in use by another run: not pruned", self._directory)
                return 0
            try:
                used = reachable(self._index(), keep, self._read_manifest)
            except VerificationError as error:
                # Told, for the disk fills up until it is mended.
                _log.warning("%s: nothing removed from this cache: %s", self._directory, error)
                return 0
            try:
                for directory in self._directories():
                    expect_own(directory)
                return self._remove_unused(used)
            except OSError as error:
                raise atomic.storage_error("prune", self._directory, error) from error

    def _read_manifest(self, digest: Digest) -> bytes | None:
        """Return what may be a manifest; None for what is missing or too large to be one."""
        try:
            if self.path(digest).lstat().st_size > oci.MANIFEST_LIMIT_BYTES:
                return None
        except OSError:
            return None
        what = f"cached {digest}"
        return self.read(digest, limit_bytes=oci.MANIFEST_LIMIT_BYTES, what=what)

    def _remove_unused(self, used: Collection[Digest]) -> int:
        removed = 0
        for algorithm in _ALGORITHMS:
            blobs = self._directory / "blobs" / algorithm
            headers = self._directory / "headers" / algorithm
            for blob in blobs.iterdir():
                # A name that is no digest isn't ours: leave it.
                if (digest := _digest(algorithm, blob.name)) and digest not in used:
                    blob.unlink()
                    removed += 1
            for derived in headers.iterdir():
                if not (blobs / derived.name.partition(".")[0]).exists():
                    derived.unlink()
            atomic.sweep(blobs)
            atomic.sweep(headers)
        atomic.sweep(self._directory)
        oldest = time.time() - _PARTIAL_KEPT_SECONDS
        for partial in (self._directory / "partial").iterdir():
            if partial.lstat().st_mtime < oldest:
                partial.unlink()
        return removed

    def _directories(self) -> Iterator[Path]:
        """Yield every directory of the cache, the upper ones first."""
        return (self._directory.joinpath(*parts) for parts in _DIRECTORIES)

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[bool]:
        """Yield whether nobody else uses the store; works inside and outside ``using``."""
        if self._held is not None:
            try:
                yield atomic.try_exclusive(self._held)
            finally:
                atomic.take(self._held, self._lock, shared=True)
            return
        self._prepare()
        descriptor = atomic.open_lock(self._lock)
        try:
            yield atomic.try_exclusive(descriptor)
        finally:
            os.close(descriptor)

    def _index(self) -> tuple[Descriptor, ...]:
        path = self._directory / "index.json"
        try:
            raw = path.read_bytes()
            index = oci.parse_manifest(raw, media_type=oci.OCI_INDEX, what=str(path))
        except OSError as error:
            raise atomic.storage_error("read", path, error) from error
        except LxdockerError as error:
            raise DamagedCacheError(
                error.message, hint=f"remove {self._directory}: it is a cache and comes back"
            ) from error
        return index.manifests if isinstance(index, oci.Index) else ()

    def _write_index(self, entries: list[Descriptor]) -> None:
        ordered = sorted(entries, key=lambda e: (e.annotations.get(REF_NAME, ""), str(e.digest)))
        atomic.write(self._directory / "index.json", oci.render_index(ordered))

    def _prepare(self) -> None:
        atomic.make_directory(self._directory)
        expect_own(Path(os.path.realpath(self._directory)))
        for directory in self._directories():
            atomic.make_directory(directory)
            # What a link leads to isn't the cache's, and is neither written to nor pruned.
            expect_own(directory)
        with atomic.locked(self._directory / "index.lock"):
            for name, content in (
                ("oci-layout", LAYOUT_VERSION),
                ("index.json", oci.render_index(())),
            ):
                if not (self._directory / name).exists():
                    atomic.write(self._directory / name, content)


def is_of_cache(place: PurePath, *, directory: bool) -> bool:
    """Whether a cache has something by this name, relative to it; all else in there is somebody's."""
    if directory:
        return place.parts in _DIRECTORIES
    *above, name = place.parts
    if name.startswith(atomic.TEMPORARY_PREFIX):
        return tuple(above) in {(), *_DIRECTORIES}
    match above:
        case []:
            return name in {"lock", "index.lock", "index.json", "oci-layout"}
        case ["partial"]:
            algorithm, _, encoded = name.partition("-")
        case ["blobs", algorithm]:
            encoded = name
        case ["headers", algorithm]:
            encoded = name.partition(".")[0]
        case _:
            return False
    return _digest(algorithm, encoded) is not None


def _publish(partial: Path, path: Path) -> None:
    try:
        partial.replace(path)
        atomic.sync_directory(path.parent)
    except OSError as error:
        raise atomic.storage_error("write", path, error) from error


def _check(raw: bytes, digest: Digest, what: str) -> None:
    got = hashlib.new(digest.algorithm, raw).hexdigest()
    if got != digest.encoded:
        raise DigestMismatchError(f"{what}: expected digest {digest}, got {digest.algorithm}:{got}")


def _digest(algorithm: str, encoded: str) -> Digest | None:
    try:
        return Digest.parse(f"{algorithm}:{encoded}")
    except UsageError:
        return None
