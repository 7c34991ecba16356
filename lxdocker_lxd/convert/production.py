"""One product of a run: looked at, pulled, built and published, each only if it has to be."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime

from lxdocker_lxd.annotations import kept_annotations
from lxdocker_lxd.catalogue import (
    Catalogue,
    Product,
    PublishedLayer,
    RebuildInputs,
    SourceImage,
    Version,
    next_serial,
)
from lxdocker_lxd.catalogue_directory import CatalogueDirectory
from lxdocker_lxd.convert.build import BuiltImage, built, description
from lxdocker_lxd.convert.delivery import Carrier, Delivery, OpenCarrier, Parcel
from lxdocker_lxd.convert.pull import PulledImage, pull
from lxdocker_lxd.convert.rebuild import reason, rebuild_key
from lxdocker_lxd.convert.run import ConvertOptions, ImageOutcome, Outcome
from lxdocker_lxd.convert.source import Source
from lxdocker_lxd.convert.store import Store
from lxdocker_lxd.convert.target import Target
from lxdocker_lxd.digest import Digest
from lxdocker_lxd.progress import Notice, Progress, StageStarted
from lxdocker_lxd.secret_value import looks_secret

_MOST_MEMORY_BYTES = 512 << 20
_MEMORY_SHARE = 8
_SLOT_PROCESSORS = 4


class Interrupted(Exception):  # noqa: N818 - no error of its own: the run was told to stop
    """Raised in the threads of a run that is ending."""


class Production:
    """Brings products up to date; safe for several threads. The caller holds both locks."""

    def __init__(
        self,
        options: ConvertOptions,
        directory: CatalogueDirectory,
        store: Store,
        progress: Progress,
        now: Callable[[], datetime],
        delivery: Delivery | None = None,
    ) -> None:
        self._options = options
        self._directory = directory
        self._store = store
        self._progress = progress
        self._now = now
        self._delivery = delivery
        # One packer keeps several processors busy; more would only need more memory.
        self._slots = max(1, (os.cpu_count() or 1) // _SLOT_PROCESSORS)
        self._packing = threading.BoundedSemaphore(self._slots)

    def produce(self, target: Target, source: Source, head: Digest) -> ImageOutcome:
        """Bring one product up to date with what ``source`` named a moment ago.

        Raises LxdockerError; what was published before then stays.
        """
        started = time.monotonic()
        version = current_version(self._directory, self._product(target), self._delivery)
        if version is not None and version.source.top_digest == str(head):
            same = target.inputs(version.source.manifest_digest)
            if not reason(version, same):
                return self._unchanged(target, version)
        pulled = self._pull(target, source, head)
        inputs = target.inputs(str(pulled.manifest_digest))
        why = reason(version, inputs)
        if version is not None and not why:
            moved = replace(version.source, top_digest=str(pulled.top_digest))
            return self._unchanged(target, replace(version, source=moved))
        if self._product(target) is not None and version is None:
            why = "its files are missing"
        if not self._republished(target, inputs):
            self._build(target, pulled, inputs)
        return self._outcome(target, "built", why, time.monotonic() - started)

    def _product(self, target: Target) -> Product | None:
        return self._directory.read().product(*target.key)

    def _pull(self, target: Target, source: Source, head: Digest) -> PulledImage:
        return pull(
            source,
            target.platform,
            self._store,
            image=target.label,
            jobs=self._options.jobs,
            progress=self._progress,
            known=head,
            seconds=self._options.registries.limits.image_seconds,
        )

    def _unchanged(self, target: Target, version: Version) -> ImageOutcome:
        """Keep the version; its product still takes what the specification says beside it."""

        def update(before: Catalogue) -> Catalogue:
            product = before.product(*target.key)
            assert product is not None  # noqa: S101 - this run alone writes, and removes later
            versions = (*product.versions[:-1], version)
            at = self._now()
            return before.described(replace(_listed(target), versions=versions), at=at)

        self._directory.change(update)
        return self._outcome(target, "unchanged", "", 0.0)

    def _republished(self, target: Target, inputs: RebuildInputs) -> bool:
        """Publish an older version again when the source went back to it; say whether it did."""
        product = self._product(target)
        key = rebuild_key(inputs)
        for old in product.versions if product else ():
            if old.rebuild_key == key and _is_held(
                self._directory, target.key, old, self._delivery
            ):
                self._publish(target, _listed(target), old)
                return True
        return False

    def _build(self, target: Target, pulled: PulledImage, inputs: RebuildInputs) -> None:
        _tell_of_secrets(target, self._progress)
        serial = next_serial(self._product(target), self._now())
        memory_bytes = self._options.packer_memory_bytes or _packer_memory_bytes() // self._slots
        with (
            self._packing,
            built(
                target,
                pulled,
                self._store,
                self._directory.images,
                progress=self._progress,
                memory_bytes=memory_bytes,
                carrier=self._carrier(target, pulled, serial),
            ) as image,
        ):
            self._progress.emit(StageStarted(image=target.label, stage="publish"))
            for file in image.packed.files:
                self._directory.place(file.temporary, file.file)
            version = _version(target, pulled, image, inputs)
            self._publish(target, _listed(target), version, serial=serial)

    def _carrier(self, target: Target, pulled: PulledImage, serial: str) -> OpenCarrier | None:
        """Return what takes this product's tar file away, if anything does."""
        delivery = self._delivery
        if delivery is None or target.packer is not None or not delivery.wants(*target.key):
            return None
        name, architecture = target.key

        def opened(metadata: bytes) -> AbstractContextManager[Carrier]:
            return delivery.open(
                Parcel(
                    name=name,
                    architecture=architecture,
                    serial=serial,
                    source=_source(target, pulled),
                    metadata=metadata,
                    suffix=target.settings.suffix,
                    annotations=_annotations(target, pulled),
                )
            )

        return opened

    def _publish(
        self, target: Target, product: Product, version: Version, *, serial: str = ""
    ) -> None:
        """Publish under ``serial``, or the next one; this run alone gives this product serials."""
        at = self._now()
        serial = serial or next_serial(self._product(target), at)

        def add(before: Catalogue) -> Catalogue:
            return before.published(
                product,
                replace(version, serial=serial, published_at=at),
                keep=self._options.versions,
                at=at,
            )

        self._directory.change(add)

    def _outcome(self, target: Target, outcome: Outcome, why: str, seconds: float) -> ImageOutcome:
        product = self._product(target)
        assert product is not None  # noqa: S101 - it was just published or found
        name, architecture = target.key
        return ImageOutcome(
            name=name,
            architecture=architecture,
            outcome=outcome,
            reason=why,
            serial=product.newest.serial,
            fingerprint=product.newest.fingerprint,
            size_bytes=product.newest.size_bytes,
            seconds=seconds,
        )


def current_version(
    directory: CatalogueDirectory, product: Product | None, delivery: Delivery | None = None
) -> Version | None:
    """Return a product's newest version if all its files are there with their sizes.

    An image that is where it was delivered needs no files.
    """
    if product is None or not _is_held(directory, product.key, product.newest, delivery):
        return None
    return product.newest


def _is_held(
    directory: CatalogueDirectory,
    key: tuple[str, str],
    version: Version,
    delivery: Delivery | None,
) -> bool:
    if all(map(directory.holds, version.files)):
        return True
    return delivery is not None and delivery.has(*key, version.fingerprint)


def _tell_of_secrets(target: Target, progress: Progress) -> None:
    spec = target.loaded.spec
    for name in (name for name, text in spec.env if text and looks_secret(name, text)):
        text = (
            f"env: {name} looks like a secret: everybody who may download the image can read it there;"
            f" give it to instances, as environment.{name} (lxdocker-lxd launch --env-file FILE) or"
            " in a file of theirs that LXDOCKER_ENVFILE names"
        )
        progress.emit(Notice(image=target.label, text=text))


def _annotations(target: Target, pulled: PulledImage) -> dict[str, str]:
    """Return what the publisher says of the version where the specification doesn't say it."""
    own = dict(target.loaded.spec.properties)
    told = kept_annotations(pulled.config.labels)
    return {key: value for key, value in told.items() if key not in own}


def _listed(target: Target) -> Product:
    """Return the product's own fields, without versions."""
    spec = target.loaded.spec
    return Product(
        name=spec.name,
        architecture=target.architecture,
        aliases=spec.aliases,
        description=description(spec),
        properties=dict(spec.properties),
        versions=(),
    )


def _version(
    target: Target, pulled: PulledImage, image: BuiltImage, inputs: RebuildInputs
) -> Version:
    """Return the version's record; publishing sets its serial and time."""
    return Version(
        serial="",
        fingerprint=image.packed.fingerprint,
        published_at=datetime.min,  # noqa: DTZ901 - a placeholder, replaced when published
        image_format=target.settings.image_format,
        compression=target.settings.compression,
        rebuild_key=rebuild_key(inputs),
        inputs=inputs,
        source=_source(target, pulled),
        layers=tuple(
            PublishedLayer(
                digest=str(layer.descriptor.digest),
                diff_id=str(layer.diff_id),
                media_type=layer.descriptor.media_type,
                size_bytes=layer.descriptor.size_bytes,
            )
            for layer in pulled.layers
        ),
        files=image.packed.listed,
        rootfs_bytes=image.rootfs_bytes,
        rootfs_entries=image.rootfs_entries,
        supervisor=image.supervisor,
        config=image.config,
        lxc=image.lxc,
    )


def _source(target: Target, pulled: PulledImage) -> SourceImage:
    return SourceImage(
        reference=str(target.loaded.spec.image),
        top_digest=str(pulled.top_digest),
        manifest_digest=str(pulled.manifest_digest),
        config_digest=str(pulled.manifest.config.digest),
        platform=str(pulled.config.platform or target.platform),
        created=pulled.config.created,
    )


def _packer_memory_bytes() -> int:
    """Return an eighth of this machine's memory, at most 512 MiB: more makes nothing faster."""
    total_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(total_bytes // _MEMORY_SHARE, _MOST_MEMORY_BYTES)
