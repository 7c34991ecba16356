"""One product's image from a pulled image: merge, change, add the guest, pack.

Nothing is unpacked on this machine. Every layer is read twice: once for its headers and its digest
(not at all when its header index is in the cache), once for the data that survived the merge.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lxdocker_lxd.catalogue import Json, LxcSettings
from lxdocker_lxd.convert.account import Account
from lxdocker_lxd.convert.delivery import OpenCarrier
from lxdocker_lxd.convert.guest_files import (
    DEFAULT_STOP_TIMEOUT_SECONDS,
    GuestImage,
    GuestReport,
    add_guest,
)
from lxdocker_lxd.convert.guest_scripts import load_guest_scripts
from lxdocker_lxd.convert.image_config import ImageConfig
from lxdocker_lxd.convert.layer.rootfs_stream import ARCHIVE_FORM, SQUASHFS_FORM, TarForm, write_tar
from lxdocker_lxd.convert.layer.tree import Tree
from lxdocker_lxd.convert.layer_stack import merged
from lxdocker_lxd.convert.lxc_files import LxcImage
from lxdocker_lxd.convert.lxc_rootfs import LxcRootfs, image_account
from lxdocker_lxd.convert.metadata import ImageMetadata, metadata_tarball
from lxdocker_lxd.convert.overrides import change_files, config_fields, overridden
from lxdocker_lxd.convert.packing.split_image import PackedImage, PackJob, packed
from lxdocker_lxd.convert.packing.squashfs_root import RootAttributes
from lxdocker_lxd.convert.packing.tarball import TarSink
from lxdocker_lxd.convert.pull import PulledImage
from lxdocker_lxd.convert.store import Store
from lxdocker_lxd.convert.target import Target
from lxdocker_lxd.progress import BytesDone, Progress, StageStarted
from lxdocker_lxd.secret_value import told
from lxdocker_lxd.spec import ImageSpec

_FALLBACK_CREATED_SECONDS = 315_532_800
"""1980: for images that don't say when they were made; LXD refuses a creation date of 0."""

_LATEST_SECONDS = (1 << 32) - 1
_NANOSECONDS = 1_000_000_000
# What a tar stream holds beside the data: a header, and half a block of padding on average.
_ENTRY_BYTES = 768


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltImage:
    """A packed image and what the catalogue says about it."""

    packed: PackedImage
    config: dict[str, Json]
    rootfs_bytes: int
    rootfs_entries: int
    supervisor: bool
    lxc: LxcSettings | None = None


@contextlib.contextmanager
def built(
    target: Target,
    pulled: PulledImage,
    store: Store,
    directory: Path,
    *,
    progress: Progress,
    memory_bytes: int,
    carrier: OpenCarrier | None = None,
) -> Iterator[BuiltImage]:
    """Build one product into temporary files in ``directory``; they go with the block.

    With a ``carrier`` a tar file goes there instead of into the directory.

    Raises VerificationError for unsafe or broken images, UsageError for a specification that
    doesn't fit the image, StorageError, ToolError.
    """
    progress.emit(StageStarted(image=target.label, stage="merge"))
    spec = target.loaded.spec
    created = created_seconds(pulled.config.created)
    config = overridden(pulled.config, spec)

    def compose() -> Tree:
        tree = merged(pulled.layers, store, target.limits, image=target.label)
        change_files(tree, spec.files, target.loaded.files, mtime_ns=created * _NANOSECONDS)
        return tree

    tree = compose()
    account = image_account(tree, pulled, config.user) if target.lxc else None
    report = add_guest(tree, _guest_image(target, pulled, config, created))
    stage = _packing_stage(target, carrier)
    feed = _Feed(tree, pulled, target, progress, stage)
    lxc = None
    if account is not None:
        image = _lxc_image(target, pulled, config, created, account)
        lxc = LxcRootfs(image, compose=compose, write=feed.archive)
    job = PackJob(
        feed=feed.rootfs,
        metadata=metadata_tarball(_metadata(target, report, created)),
        metadata_suffix=".meta.tar",
        root=_root_attributes(tree),
        created_seconds=created,
        settings=target.settings,
        lxc_feed=None if lxc is None else lxc.feed,
        packer=target.packer,
        memory_bytes=memory_bytes,
        carrier=carrier,
    )
    # From here on the feed alone holds the tree, and lets go of it when it is written.
    del tree
    progress.emit(StageStarted(image=target.label, stage=stage))
    with packed(job, directory) as packed_image:
        yield BuiltImage(
            packed=packed_image,
            config=config_fields(config),
            rootfs_bytes=feed.total_bytes,
            rootfs_entries=feed.entries,
            supervisor=report.supervisor.mode == "supervise",
            lxc=None if lxc is None else lxc.settings,
        )


def _packing_stage(target: Target, carrier: OpenCarrier | None) -> str:
    """Return what packing is called: what leaves while it is packed has one stage for both."""
    return "pack" if carrier is None or target.packer is not None else "send"


def _guest_image(
    target: Target, pulled: PulledImage, config: ImageConfig, created: int
) -> GuestImage:
    spec = target.loaded.spec
    return GuestImage(
        config=config,
        disable_supervisor=spec.disable_supervisor,
        restart=spec.restart or "no",
        stop_timeout_seconds=DEFAULT_STOP_TIMEOUT_SECONDS
        if config.stop_timeout_seconds is None
        else config.stop_timeout_seconds,
        tmpfs=spec.tmpfs,
        busybox=target.busybox.file,
        scripts=load_guest_scripts(),
        image_json=image_json(target, pulled, config),
        mtime_ns=created * _NANOSECONDS,
    )


def _lxc_image(
    target: Target, pulled: PulledImage, config: ImageConfig, created: int, account: Account
) -> LxcImage:
    return LxcImage(
        config=config,
        account=account,
        scripts=load_guest_scripts(),
        busybox=target.busybox.file,
        image_json=image_json(target, pulled, config),
        mtime_ns=created * _NANOSECONDS,
        tmpfs=target.loaded.spec.tmpfs,
    )


def description(spec: ImageSpec) -> str:
    """Return what listings say about an image."""
    return spec.description or f"{spec.name} ({spec.image_text})"


def _metadata(target: Target, report: GuestReport, created: int) -> ImageMetadata:
    spec = target.loaded.spec
    return ImageMetadata(
        product=spec.name,
        architecture=target.architecture,
        created_seconds=created,
        description=description(spec),
        properties=dict(spec.properties),
        etc_templates=report.etc_templates,
    )


class _Feed:
    """Writes the tree into a packer, and tells how far it is."""

    def __init__(
        self, tree: Tree, pulled: PulledImage, target: Target, progress: Progress, stage: str
    ) -> None:
        self._tree: Tree | None = tree
        self._layers = [layer.path for layer in pulled.layers]
        self._form = SQUASHFS_FORM if target.packer is not None else ARCHIVE_FORM
        self._label = target.label
        self._progress = progress
        self._stage = stage
        self._done_bytes = 0
        self.total_bytes = tree.total_bytes
        self.entries = tree.inode_count
        self._expected_bytes = self.total_bytes + self.entries * _ENTRY_BYTES

    def rootfs(self, sink: TarSink) -> None:
        """Write the tree in the form its packer takes, once."""
        assert self._tree is not None  # noqa: S101 - a packer asks once
        self._write(self._tree, sink, self._form)
        self._tree = None

    def archive(self, tree: Tree, sink: TarSink) -> None:
        """Write another tree of the same layers as a tar file."""
        self._write(tree, sink, ARCHIVE_FORM)

    def _write(self, tree: Tree, sink: TarSink, form: TarForm) -> None:
        self._done_bytes = 0
        write_tar(tree, self._layers, sink.write, on_bytes=self._advance, form=form)
        self._report(self._expected_bytes)

    def _advance(self, count_bytes: int) -> None:
        self._done_bytes += count_bytes
        self._report(min(self._done_bytes, self._expected_bytes - 1))

    def _report(self, done_bytes: int) -> None:
        self._progress.emit(
            BytesDone(
                image=self._label,
                stage=self._stage,
                digest=None,
                done_bytes=done_bytes,
                total_bytes=self._expected_bytes,
            )
        )


def _root_attributes(tree: Tree) -> RootAttributes:
    root = tree.root_metadata
    return RootAttributes(
        mode=root.mode, uid=root.uid, gid=root.gid, mtime_seconds=root.mtime_seconds
    )


def created_seconds(created: str | None) -> int:
    """Return the image's own time as LXD's creation date; a fixed one where there is none.

    Today's date must not get into an image: the same image has the same bytes tomorrow. Nor must
    this machine's time zone: a time without one is UTC.
    """
    try:
        time = datetime.fromisoformat(created or "")
        seconds = int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        return _FALLBACK_CREATED_SECONDS
    return seconds if 0 < seconds <= _LATEST_SECONDS else _FALLBACK_CREATED_SECONDS


def image_json(target: Target, pulled: PulledImage, config: ImageConfig) -> bytes:
    """Return ``/lxd-image.json``: where the image came from and what it runs.

    ``config`` is what holds after the specification; ``oci`` is the image's own configuration. Of
    variables that look like secrets there is the name alone, in both.
    """
    spec = target.loaded.spec
    document = {
        "format": 1,
        "name": spec.name,
        "architecture": target.architecture,
        "image": spec.image_text,
        "manifest_digest": str(pulled.manifest_digest),
        "config": config_fields(config),
        "healthcheck": config_fields(config).get("Healthcheck"),
        "volumes": list(config.volumes),
        "ports": list(config.exposed_ports),
        "oci": _told(json.loads(pulled.config_raw)),
    }
    return rendered(document)


def rendered(document: Mapping[str, object]) -> bytes:
    """Return a JSON object with a line for each field; equal documents give equal bytes.

    No further indent: what is nested deeply would become many times as large.
    """
    lines = (
        f"{json.dumps(key)}: {json.dumps(document[key], sort_keys=True, allow_nan=False)}"
        for key in sorted(document)
    )
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _told(oci: dict[str, Json]) -> dict[str, Json]:
    """Return an image's own configuration as all may read it; Docker's old ones say it twice."""
    runs = {key: oci.get(key) for key in ("config", "container_config")}
    return {**oci, **{key: told(run) for key, run in runs.items() if isinstance(run, dict)}}
