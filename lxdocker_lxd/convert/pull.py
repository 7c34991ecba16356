"""Bring one image for one platform into the store, everything verified.

From the name to a manifest: an index is searched for the platform, nested ones too (at most four
deep, each once); a single manifest is taken when its configuration fits. What the store holds is
not fetched again. Layers are fetched side by side; the first failure stops the others, whose bytes
stay for the next run.
"""

import functools
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from lxdocker_lxd.convert import oci
from lxdocker_lxd.convert.oci import Descriptor, ImageConfig, Index, Manifest
from lxdocker_lxd.convert.source import ManifestBytes, Source
from lxdocker_lxd.convert.store import Store
from lxdocker_lxd.digest import ByteStream, Digest, DigestMismatchError
from lxdocker_lxd.errors import NetworkError, NotFoundError, VerificationError
from lxdocker_lxd.platform import Platform, choose
from lxdocker_lxd.progress import BytesDone, Event, Notice, Progress, StageStarted

INDEX_DEPTH_LIMIT = 4
INDEX_COUNT_LIMIT = 32
INDEX_ENTRY_LIMIT = 30_000
_SHOWN_CHARACTERS = 40


class PlatformNotFoundError(NotFoundError):
    """The image exists, but not for the wanted platform."""

    def __init__(self, image: str, wanted: Platform, offered: tuple[Platform, ...]) -> None:
        names = ", ".join(sorted({str(platform) for platform in offered})) or "no platform at all"
        super().__init__(
            f"{image}: there is no image for {wanted}; it is offered for {names}",
            hint="list the architectures you want in the specification",
        )


def check_platform(
    config: ImageConfig, wanted: Platform, *, described: Platform | None, image: str
) -> None:
    """Refuse an image whose ``config`` is for another machine than ``wanted``.

    ``described`` is what an index says of the image: its word on the variant stands, for many
    configurations don't tell theirs. Raises PlatformNotFoundError.
    """
    own = config.platform
    if own is None:
        return
    exact = described is None and bool(config.variant)
    for fitting in wanted.substitutes():
        same = (own.os, own.architecture) == (fitting.os, fitting.architecture)
        if same and (not exact or own == fitting):
            return
    raise PlatformNotFoundError(image, wanted, (own,))


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerBlob:
    """One stored layer; ``diff_id`` is the digest it has uncompressed, not checked yet."""

    descriptor: Descriptor
    diff_id: Digest
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class PulledImage:
    """An image wholly in the store. ``top_digest`` is that of the name: an index or the manifest.

    ``layers`` go from the lowest up; one blob may occur twice.
    """

    top_digest: Digest
    manifest_digest: Digest
    manifest: Manifest
    manifest_descriptor: Descriptor
    config: ImageConfig
    config_raw: bytes
    layers: tuple[LayerBlob, ...]


def pull(
    source: Source,
    wanted: Platform,
    store: Store,
    *,
    image: str,
    jobs: int,
    progress: Progress,
    known: Digest | None = None,
    seconds: float = math.inf,
) -> PulledImage:
    """Store the image ``source`` names for ``wanted`` and return it; call it within ``store.using``.

    ``known`` is what ``source.head()`` said a moment ago: then exactly that is pulled, without
    asking again when the store holds it. ``image`` names it in events and errors; ``jobs`` layers
    are fetched at once; all of it may take about ``seconds``. Raises NotFoundError,
    VerificationError, NetworkError (PullTooLongError), AuthenticationError, StorageError.
    """
    bounded = _Bounded(progress, image, seconds)
    return _Pull(source, wanted, store, image, bounded).run(known, jobs)


class PullTooLongError(NetworkError):
    """An image whose downloads take longer than one image may."""


class _Bounded:
    """Passes events on until the time is over; then whoever reports next is ended."""

    def __init__(self, progress: Progress, image: str, seconds: float) -> None:
        self._progress = progress
        self._image = image
        self._seconds = seconds
        self._ends_at = time.monotonic() + seconds

    def emit(self, event: Event, /) -> None:
        if time.monotonic() > self._ends_at:
            raise PullTooLongError(
                f"{self._image}: its downloads took longer than {self._seconds / 60:.0f} minutes",
                hint="run it again: what came so far is kept and the rest is fetched",
            )
        self._progress.emit(event)


class _Abandoned(Exception):  # noqa: N818 - not an error: another layer's failure ends this one
    """Raised in a download's thread to end it."""


def check_count(images: int, *, image: str) -> None:
    """Raise VerificationError if the indexes under a name list more than INDEX_ENTRY_LIMIT images."""
    if images > INDEX_ENTRY_LIMIT:
        raise VerificationError(
            f"{image}: its indexes list more than {INDEX_ENTRY_LIMIT} images",
            hint="name the one that you want by its digest",
        )


class _Pull:
    """One pull; holds what all its steps need."""

    def __init__(
        self, source: Source, wanted: Platform, store: Store, image: str, progress: Progress
    ) -> None:
        self._source = source
        self._wanted = wanted
        self._store = store
        self._image = image
        self._progress = progress
        self._fetched: dict[Digest, Manifest | Index] = {}
        self._abandon = threading.Event()

    def run(self, known: Digest | None, jobs: int) -> PulledImage:
        self._progress.emit(StageStarted(image=self._image, stage="resolve"))
        top, top_digest = self._top(known)
        chosen = Descriptor(
            media_type=top.media_type,
            digest=top_digest,
            size_bytes=self._store.path(top_digest).stat().st_size,
            platform=None,
            annotations={},
            urls=(),
            data=None,
        )
        if isinstance(top, Index):
            chosen = self._choose(top)
        manifest = self._document(chosen)
        if not isinstance(manifest, Manifest):
            raise VerificationError(f"{self._image}: {chosen.digest} is not a manifest")
        what = f"{self._image}: manifest {chosen.digest}"
        oci.check_image(manifest, what=what)
        config_raw = self._config(manifest.config)
        config = oci.parse_image_config(
            config_raw, what=f"{self._image}: configuration {manifest.config.digest}"
        )
        self._notice_ignored(config)
        oci.check_layers(manifest, config, what=what)
        check_platform(config, self._wanted, described=chosen.platform, image=self._image)
        paths = self._layers(manifest.layers, jobs)
        return PulledImage(
            top_digest=top_digest,
            manifest_digest=chosen.digest,
            manifest=manifest,
            manifest_descriptor=chosen,
            config=config,
            config_raw=config_raw,
            layers=tuple(
                LayerBlob(descriptor=layer, diff_id=diff_id, path=paths[layer.digest])
                for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True)
            ),
        )

    def _top(self, known: Digest | None) -> tuple[Manifest | Index, Digest]:
        raw = self._stored(known) if known else None
        if known and raw is not None:
            answer = ManifestBytes(raw=raw, media_type="", digest=known)
        else:
            answer = self._source.manifest(known)
        document = oci.parse_manifest(
            answer.raw,
            media_type=answer.media_type or None,
            what=f"{self._image}: manifest {answer.digest}",
        )
        self._keep(answer, document.media_type)
        self._fetched[answer.digest] = document
        return document, answer.digest

    def _document(self, descriptor: Descriptor) -> Manifest | Index:
        """Return the manifest or index a descriptor names, from the store or the source."""
        if descriptor.digest in self._fetched:
            return self._fetched[descriptor.digest]
        what = f"{self._image}: manifest {descriptor.digest}"
        if descriptor.size_bytes > oci.MANIFEST_LIMIT_BYTES:
            raise VerificationError(f"{what}: larger than {oci.MANIFEST_LIMIT_BYTES} bytes")
        raw = descriptor.data or self._stored(descriptor.digest)
        if raw is None:
            raw = self._source.manifest(descriptor.digest).raw
        if len(raw) != descriptor.size_bytes:
            raise DigestMismatchError(
                f"{what}: expected {descriptor.size_bytes} bytes, got {len(raw)}"
            )
        document = oci.parse_manifest(raw, media_type=descriptor.media_type, what=what)
        self._keep(
            ManifestBytes(raw=raw, media_type=descriptor.media_type, digest=descriptor.digest),
            document.media_type,
        )
        self._fetched[descriptor.digest] = document
        return document

    def _stored(self, digest: Digest) -> bytes | None:
        """Return a document the store holds; a damaged one is removed and counts as absent."""
        try:
            return self._store.read(
                digest, limit_bytes=oci.MANIFEST_LIMIT_BYTES, what=f"{self._image}: cached manifest"
            )
        except NotFoundError:
            return None
        except VerificationError:
            self._store.discard(digest)
            return None

    def _keep(self, answer: ManifestBytes, media_type: str) -> None:
        descriptor = Descriptor(
            media_type=media_type,
            digest=answer.digest,
            size_bytes=len(answer.raw),
            platform=None,
            annotations={},
            urls=(),
            data=answer.raw,
        )
        self._store.put(descriptor, _no_stream, on_bytes=_ignore)

    def _choose(self, index: Index) -> Descriptor:
        candidates = self._candidates(index, 1, set())
        chosen = choose(candidates, self._wanted)
        if chosen is None:
            offered = tuple(entry.platform for entry in candidates if entry.platform)
            raise PlatformNotFoundError(self._image, self._wanted, offered)
        platform = chosen.platform
        if platform and platform.architecture != self._wanted.architecture:
            text = f"no image for {self._wanted}: taking the one for {platform}"
            self._progress.emit(Notice(image=self._image, text=text))
        return chosen

    def _candidates(self, index: Index, depth: int, seen: set[Digest]) -> list[Descriptor]:
        """Return the manifests in an index, with those of nested indexes in their place."""
        check_count(len(index.manifests), image=self._image)
        found: list[Descriptor] = []
        for entry in index.images:
            if not entry.is_index:
                found.append(entry)
                continue
            if entry.digest in seen or choose([entry], self._wanted) is None:
                continue
            seen.add(entry.digest)
            if depth >= INDEX_DEPTH_LIMIT or len(seen) > INDEX_COUNT_LIMIT:
                raise VerificationError(
                    f"{self._image}: index {entry.digest} is nested too deeply",
                    hint=f"at most {INDEX_DEPTH_LIMIT} levels and {INDEX_COUNT_LIMIT} nested"
                    " indexes are followed",
                )
            nested = self._document(entry)
            # It is asked for once; kept, all of them together would be large.
            self._fetched.pop(entry.digest, None)
            if isinstance(nested, Index):
                found.extend(
                    replace(inner, platform=inner.platform or entry.platform)
                    for inner in self._candidates(nested, depth + 1, seen)
                )
            check_count(len(found), image=self._image)
        return found

    def _config(self, descriptor: Descriptor) -> bytes:
        what = f"{self._image}: configuration {descriptor.digest}"
        if descriptor.size_bytes > oci.CONFIG_LIMIT_BYTES:
            raise VerificationError(
                f"{what}: {descriptor.size_bytes} bytes, more than {oci.CONFIG_LIMIT_BYTES}"
            )
        self._put(descriptor, _ignore)
        return self._store.read(descriptor.digest, limit_bytes=descriptor.size_bytes, what=what)

    def _notice_ignored(self, config: ImageConfig) -> None:
        if config.ignored_ports:
            shown = ", ".join(ascii(text[:_SHOWN_CHARACTERS]) for text in config.ignored_ports[:3])
            more = ", and more" if len(config.ignored_ports) > 3 else ""  # noqa: PLR2004 - as shown
            text = f"ExposedPorts names what is no port, and it is ignored: {shown}{more}"
            self._progress.emit(Notice(image=self._image, text=text))

    def _layers(self, layers: tuple[Descriptor, ...], jobs: int) -> dict[Digest, Path]:
        """Fetch each distinct layer once, ``jobs`` at a time."""
        distinct = {layer.digest: layer for layer in layers}
        self._progress.emit(StageStarted(image=self._image, stage="download"))
        executor = ThreadPoolExecutor(max_workers=max(1, jobs), thread_name_prefix="layer")
        try:
            downloads = {
                digest: executor.submit(self._layer, layer) for digest, layer in distinct.items()
            }
            done, _ = wait(downloads.values(), return_when=FIRST_EXCEPTION)
            _raise_first(done)
            return {digest: download.result() for digest, download in downloads.items()}
        finally:
            self._abandon.set()
            executor.shutdown(wait=True, cancel_futures=True)

    def _layer(self, layer: Descriptor) -> Path:
        def report(done_bytes: int) -> None:
            if self._abandon.is_set():
                raise _Abandoned
            self._progress.emit(
                BytesDone(
                    image=self._image,
                    stage="download",
                    digest=layer.digest,
                    done_bytes=done_bytes,
                    total_bytes=layer.size_bytes,
                )
            )

        return self._put(layer, report)

    def _put(self, descriptor: Descriptor, report: Callable[[int], None]) -> Path:
        try:
            return self._store.put(
                descriptor, functools.partial(self._source.blob, descriptor), on_bytes=report
            )
        except NotFoundError as error:
            if not descriptor.is_foreign:
                raise
            raise NotFoundError(
                f"{self._image}: {error.message}",
                hint="this layer may not be redistributed and is kept elsewhere;"
                " push the image with --allow-nondistributable-artifacts",
            ) from error


def _raise_first(done: set[Future[Path]]) -> None:
    """Raise what broke first, not what was abandoned because of it."""
    errors = [error for download in done if (error := download.exception())]
    errors.sort(key=lambda error: isinstance(error, _Abandoned))
    if errors:
        raise errors[0]


def _ignore(_done_bytes: int) -> None:
    """Report nothing."""


def _no_stream(_offset_bytes: int) -> AbstractContextManager[ByteStream]:
    raise AssertionError("the content was given with the descriptor")
