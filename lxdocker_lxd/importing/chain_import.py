"""The use case ``import --from https+registry://…``: a signed image of a server for plain LXC, into LXD.

Order: follow the chain to the image's line in the server's index; look whether the aliases are free and
whether LXD has this build; bring both files here and check their signatures; make of them what LXD
takes; send it and name it. Before the last step nothing reaches LXD, and nothing stays here.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from lxdocker_lxd import atomic
from lxdocker_lxd.clients.chain import LxcPair, LxcServer, Trust, image_server
from lxdocker_lxd.clients.lxc_images import LxcImage, LxcImageName
from lxdocker_lxd.clients.remote_address import RemoteAddress
from lxdocker_lxd.convert.run import ConvertOptions
from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.importing.conversion import converted
from lxdocker_lxd.importing.image_import import (
    Destination,
    ImportOutcome,
    Wishes,
    architecture_of,
    word_for,
)
from lxdocker_lxd.importing.import_directory import spec_text
from lxdocker_lxd.importing.lxc_layout import TAG, write_layout
from lxdocker_lxd.importing.lxc_metadata import is_converted, lxd_metadata, read_config
from lxdocker_lxd.importing.placing import Placed, Shelf
from lxdocker_lxd.importing.scratch import scratch_directory
from lxdocker_lxd.importing.sending import STAGE, steps
from lxdocker_lxd.lxd.calls import ImageUpload
from lxdocker_lxd.lxd.records import Image
from lxdocker_lxd.platform import Platform
from lxdocker_lxd.progress import BytesDone, ImageFinished, Progress, StageStarted
from lxdocker_lxd.spec_values import image_name

ORIGIN = "lxdocker.lxc-image"
"""The image property that tells server and name an image came from."""

_PIECE_BYTES = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainSource:
    """What was asked for: an image's name at the first server, and whom to believe there."""

    address: RemoteAddress
    trust: Trust
    name: str


class ChainImporter:
    """Imports into one destination. ``options`` are those of ``convert``; nothing of its directories
    is used. ``scratch`` is where large temporary files may lie.
    """

    def __init__(
        self,
        options: ConvertOptions,
        destination: Destination,
        progress: Progress,
        *,
        now: Callable[[], datetime],
        scratch: Path,
    ) -> None:
        self._options = options
        self._destination = destination
        self._lxd = destination.lxd
        self._progress = progress
        self._now = now
        self._scratch = scratch
        self._shelf = Shelf(destination.lxd, destination.project)

    def run(self, source: ChainSource, wishes: Wishes, *, dry_run: bool = False) -> ImportOutcome:
        """Import the image; raises LxdockerError, and then LXD is as it was."""
        if wishes.lxe:
            raise UsageError(
                f"--lxe is for images that are converted here, and {source.name} comes from a server",
                hint="name the aliases you want with --alias",
            )
        started = time.monotonic()
        architecture = architecture_of(self._lxd)
        self._progress.emit(StageStarted(image=source.name, stage="resolve"))
        with scratch_directory(self._scratch) as directory:
            where = (source.address, source.trust, source.name, architecture, directory)
            with image_server(*where) as (server, wanted):
                self._expect_runnable(wanted, architecture)
                found = _Found(server, server.find(wanted), directory)
                outcome = self._found(source, found, wishes, dry_run=dry_run)
        self._progress.emit(ImageFinished(image=outcome.name, outcome=outcome.outcome, detail=""))
        return replace(outcome, seconds=time.monotonic() - started)

    def _expect_runnable(self, wanted: LxcImageName, own: str) -> None:
        listed = self._lxd.server.info().architectures
        known = [Platform.parse(one).lxd_architecture for one in listed]
        if wanted.architecture not in known:
            raise UsageError(
                f"{wanted} is for {wanted.architecture}, and this LXD runs {', '.join(known)}",
                hint=f"leave the architecture out to get {own}",
            )

    def _found(
        self, source: ChainSource, found: "_Found", wishes: Wishes, *, dry_run: bool
    ) -> ImportOutcome:
        image = found.image
        label = image.name.short
        images = self._lxd.images.list(project=self._destination.project)
        ours = [one for one in images if one.properties.get(ORIGIN) == found.origin]
        naming = wishes.naming(
            wishes.aliases or (label,), frozenset(one.fingerprint for one in ours)
        )
        self._shelf.check(naming)
        here = next((one for one in ours if one.properties.get("serial") == image.build), None)
        outcome = ImportOutcome(
            source=source.name,
            name=label,
            outcome="would-keep" if here else "would-import",
            project=self._destination.project,
            remote=self._destination.remote,
            fingerprint=here.fingerprint if here else "",
            serial=image.build,
            size_bytes=here.size_bytes if here else None,
            aliases=naming.aliases,
        )
        if dry_run:
            return outcome
        upload = None if here else self._upload(found, public=wishes.public)
        placed = self._shelf.place(
            lambda: self._send(upload, label),
            naming,
            fingerprint=_fingerprint(here, upload),
            public=wishes.public,
        )
        return self._outcome(outcome, placed)

    def _outcome(self, outcome: ImportOutcome, placed: Placed) -> ImportOutcome:
        image = self._lxd.images.get(placed.fingerprint, project=self._destination.project)
        return replace(
            outcome,
            outcome=word_for(placed),
            fingerprint=placed.fingerprint,
            size_bytes=image.size_bytes,
            moved=placed.moved,
            deleted=placed.deleted,
        )

    def _send(self, upload: "ImageUpload | None", label: str) -> str:
        assert upload is not None  # noqa: S101 - else LXD has the image, and nobody asks
        self._progress.emit(StageStarted(image=label, stage=STAGE))
        return self._lxd.images.upload(
            upload, project=self._destination.project, on_transfer=steps(self._progress, label)
        )

    # ---- files

    def _upload(self, found: "_Found", *, public: bool) -> ImageUpload:
        label = found.image.name.short
        self._progress.emit(StageStarted(image=label, stage="download"))

        def step(done_bytes: int) -> None:
            event = BytesDone(
                image=label, stage="download", digest=None, done_bytes=done_bytes, total_bytes=0
            )
            self._progress.emit(event)

        pair = found.server.fetch(found.image, found.directory, step)
        config = read_config(pair.metadata.path)
        if is_converted(config):
            return self._converted(found, pair, public=public)
        return _as_it_is(found, pair, public=public)

    def _converted(self, found: "_Found", pair: LxcPair, *, public: bool) -> ImageUpload:
        """Return the image converted for LXD anew: LXC's form of it has no init that LXD could start."""
        name = _spec_name(found.image.name)
        specs = found.directory / "specs"
        layout = specs / f"{name}.layout"
        origin = write_layout(pair.rootfs.path, layout)
        pair.rootfs.path.unlink()
        architecture = found.image.name.architecture
        text = spec_text(f"oci:{layout.name}:{TAG}", architecture)
        text += f"description: {json.dumps(f'{found.image.name.short} ({origin.reference})')}\n"
        atomic.write(specs / f"{name}.yaml", text.encode())
        options = replace(
            self._options,
            specs=specs,
            cache=found.directory / "cache",
            lxdimages=found.directory / "images",
            names=(name,),
            lxc=False,
        )
        made = converted(options, architecture, self._progress, now=self._now)
        files = {file.role: made.directory.path(file) for file in made.version.files}
        return ImageUpload(
            metadata=_content(files["metadata"]),
            rootfs=_pieces(files["rootfs"]),
            rootfs_size_bytes=files["rootfs"].stat().st_size,
            fingerprint=made.version.fingerprint,
            filename=f"{name}.{files['rootfs'].name.partition('.')[2]}",
            properties={
                "requirements.lxdocker.image": origin.reference,
                "requirements.lxdocker.manifest": origin.manifest_digest,
                "requirements.lxdocker.platform": made.version.source.platform,
                "serial": found.image.build,
                ORIGIN: found.origin,
            },
            public=public,
        )


class _Found:
    """An image at its server, and the directory for its files."""

    def __init__(self, server: LxcServer, image: LxcImage, directory: Path) -> None:
        self.server = server
        self.image = image
        self.directory = directory

    @property
    def origin(self) -> str:
        """Where the image is from, whatever its build."""
        name = self.image.name
        fields = (name.distribution, name.release, name.architecture, name.variant)
        return f"{self.server.tree.name} {';'.join(fields)}"


def _as_it_is(found: _Found, pair: LxcPair, *, public: bool) -> ImageUpload:
    """Return a stranger's image, unchanged but for its metadata."""
    metadata = lxd_metadata(found.image)
    digest = hashlib.sha256(metadata)
    for piece in _pieces(pair.rootfs.path):
        digest.update(piece)
    return ImageUpload(
        metadata=metadata,
        rootfs=_pieces(pair.rootfs.path),
        rootfs_size_bytes=pair.rootfs.size_bytes,
        fingerprint=digest.hexdigest(),
        filename=pair.rootfs.path.name,
        properties={"serial": found.image.build, ORIGIN: found.origin},
        public=public,
    )


def _fingerprint(here: Image | None, upload: ImageUpload | None) -> str:
    if here is not None:
        return here.fingerprint
    return upload.fingerprint if upload is not None else ""


def _spec_name(name: LxcImageName) -> str:
    try:
        return image_name(name.distribution)
    except ValueError:
        return "image"


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise atomic.storage_error("read", path, error) from error


def _pieces(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                yield piece
    except OSError as error:
        raise atomic.storage_error("read", path, error) from error
