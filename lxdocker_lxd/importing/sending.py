"""A published version on its way into LXD: its files in pieces, never whole in memory."""

from collections.abc import Iterator, Mapping

from lxdocker_lxd.annotations import kept_annotations
from lxdocker_lxd.atomic import storage_error
from lxdocker_lxd.catalogue import Product, PublishedFile, SourceImage, Version
from lxdocker_lxd.catalogue_directory import CatalogueDirectory
from lxdocker_lxd.errors import NotFoundError, VerificationError
from lxdocker_lxd.lxd.calls import ImageUpload, TransferStep
from lxdocker_lxd.lxd.ports import Lxd, OnTransfer
from lxdocker_lxd.progress import BytesDone, Progress, StageStarted

STAGE = "send"
_PIECE_BYTES = 1 << 18
_MOST_METADATA_BYTES = 16 << 20


def send(
    lxd: Lxd,
    directory: CatalogueDirectory,
    product: Product,
    version: Version,
    *,
    project: str,
    public: bool,
    progress: Progress,
) -> str:
    """Upload a version without aliases and return its fingerprint; what ``Images.upload`` says."""
    metadata, rootfs = _file(directory, version, "metadata"), _file(directory, version, "rootfs")
    try:
        with directory.opened(metadata) as file:
            head = file.read(_MOST_METADATA_BYTES + 1)
    except OSError as error:
        raise storage_error("read", directory.path(metadata), error) from error
    if len(head) > _MOST_METADATA_BYTES:
        raise VerificationError(f"{directory.path(metadata)}: it is larger than any metadata")
    progress.emit(StageStarted(image=product.name, stage=STAGE))
    upload = ImageUpload(
        metadata=head,
        rootfs=_pieces(directory, rootfs),
        rootfs_size_bytes=rootfs.size_bytes,
        fingerprint=version.fingerprint,
        filename=f"{product.name}.{rootfs.path.partition('.')[2]}",
        properties=properties(product, version),
        public=public,
    )
    return lxd.images.upload(upload, project=project, on_transfer=steps(progress, product.name))


def properties(product: Product, version: Version) -> Mapping[str, str]:
    """Return what an image says of its origin, in the words the image server uses too.

    What its publisher says of the version stands beside it, unless the specification says otherwise.
    """
    labels = version.config.get("Labels")
    told = kept_annotations(labels if isinstance(labels, dict) else {})
    own = {key: value for key, value in told.items() if key not in product.properties}
    return {**own, **source_properties(version.serial, version.source)}


def source_properties(serial: str, source: SourceImage) -> Mapping[str, str]:
    """Return the same of a version that isn't published yet."""
    return {
        "serial": serial,
        "requirements.lxdocker.digest": source.top_digest,
        "requirements.lxdocker.image": source.reference,
        "requirements.lxdocker.manifest": source.manifest_digest,
        "requirements.lxdocker.platform": source.platform,
    }


def steps(progress: Progress, image: str) -> OnTransfer:
    """Return a listener of LXD's transfers that reports them as progress.

    A daemon that downloads tells percents only: they are shown as bytes of a hundred.
    """

    def step(done: TransferStep) -> None:
        known = done.done_bytes is not None
        progress.emit(
            BytesDone(
                image=image,
                stage=STAGE if known else done.stage,
                digest=None,
                done_bytes=(done.done_bytes if known else done.percent) or 0,
                total_bytes=(done.total_bytes or 0) if known else 100,
            )
        )

    return step


def _file(directory: CatalogueDirectory, version: Version, role: str) -> PublishedFile:
    file = version.file("metadata" if role == "metadata" else "rootfs")
    if file is None or not directory.holds(file):
        raise NotFoundError(
            f"the {role} of version {version.serial} is not in {directory.images}",
            hint="import or convert it again, which makes what is missing",
        )
    return file


def _pieces(directory: CatalogueDirectory, rootfs: PublishedFile) -> Iterator[bytes]:
    try:
        with directory.opened(rootfs) as file:
            while piece := file.read(_PIECE_BYTES):
                yield piece
    except OSError as error:
        raise storage_error("read", directory.path(rootfs), error) from error
