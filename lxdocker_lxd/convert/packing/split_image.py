"""A split image's files: the metadata tarball and the packed root filesystem, with their sums.

Everything is written under temporary names in the catalogue's own file system and synced; whoever
publishes gives the names. What wasn't published is removed when the block ends.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from lxdocker_lxd.atomic import storage_error, temporary_file
from lxdocker_lxd.catalogue import FileRole, PublishedFile
from lxdocker_lxd.convert.delivery import OpenCarrier
from lxdocker_lxd.convert.packing.fingerprint import RootfsSums
from lxdocker_lxd.convert.packing.settings import PackSettings
from lxdocker_lxd.convert.packing.squashfs import Feed, Mksquashfs
from lxdocker_lxd.convert.packing.squashfs_root import RootAttributes
from lxdocker_lxd.convert.packing.tarball import open_sink
from lxdocker_lxd.ownership import directory_descriptor

_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Temporary:
    """An open file; it is written to by its descriptor alone, for its name may come to mean another."""

    path: Path
    file: BinaryIO


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedFile:
    """A finished file under its temporary name, and how it will be published."""

    temporary: Path
    file: PublishedFile


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedImage:
    """All files of one image; ``fingerprint`` is sha256 of metadata followed by rootfs.

    ``carried`` is the root filesystem that went elsewhere, and is not on this disk.
    """

    fingerprint: str
    files: tuple[PackedFile, ...]
    carried: PublishedFile | None = None

    @property
    def listed(self) -> tuple[PublishedFile, ...]:
        """What the catalogue says of the image."""
        here = tuple(file.file for file in self.files)
        return here if self.carried is None else (*here, self.carried)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackJob:
    """What is packed, and how.

    ``feed`` writes the root filesystem as a tar file. ``created_seconds`` is the image's own time,
    since 1970. ``lxc_feed`` adds the root filesystem as ``.tar.xz``, the one form lxc-create's
    download template reads. ``packer`` is None unless squashfs is wanted. ``carrier`` takes a tar file
    away while it is made; without one it becomes a file too.
    """

    feed: Feed
    metadata: bytes
    metadata_suffix: str
    root: RootAttributes
    created_seconds: int
    settings: PackSettings
    lxc_feed: Feed | None
    packer: Mksquashfs | None
    memory_bytes: int
    carrier: OpenCarrier | None = None


@contextlib.contextmanager
def packed(job: PackJob, directory: Path) -> Iterator[PackedImage]:
    """Pack into ``directory`` and yield the finished image.

    Raises ToolError, StorageError, and whatever the feed raises.
    """
    with contextlib.ExitStack() as stack:
        metadata = stack.enter_context(_temporary(directory))
        digest = _written(metadata, job.metadata)
        carrier = job.carrier if job.packer is None else None
        with RootfsSums(job.metadata) as sums:
            if carrier is not None:
                own, fingerprint = _carried(job, carrier, sums)
            else:
                rootfs = stack.enter_context(_temporary(directory))
                if job.packer is None:
                    _tarball(job.feed, rootfs, job.settings, sums.update)
                else:
                    _squashfs(job, job.packer, rootfs, sums)
                own, fingerprint = sums.finish()
        files = [_packed_file("metadata", metadata, digest, len(job.metadata), job.metadata_suffix)]
        listed = _listed("rootfs", own, sums.size_bytes, job.settings.suffix)
        if carrier is None:
            files.append(PackedFile(temporary=rootfs.path, file=listed))
        if job.lxc_feed is not None:
            files.append(_lxc_rootfs(job.lxc_feed, stack.enter_context(_temporary(directory))))
        carried = None if carrier is None else listed
        yield PackedImage(fingerprint=fingerprint, files=tuple(files), carried=carried)


def _squashfs(job: PackJob, packer: Mksquashfs, target: _Temporary, sums: RootfsSums) -> None:
    packer.pack(
        job.feed,
        target.path,
        target.file,
        job.settings,
        root=job.root,
        created_seconds=job.created_seconds,
        memory_bytes=job.memory_bytes,
    )
    try:
        target.file.seek(0)
        while block := target.file.read(_READ_BYTES):
            sums.update(block)
        os.fsync(target.file.fileno())
    except OSError as error:
        raise storage_error("read back", target.path, error) from error


def _carried(job: PackJob, open_carrier: OpenCarrier, sums: RootfsSums) -> tuple[str, str]:
    """Send the tar file away while it is made; return its sum and the image's fingerprint."""
    with open_carrier(job.metadata) as carrier:

        def take(block: bytes) -> None:
            sums.update(block)
            carrier.write(block)

        with contextlib.ExitStack() as stack:
            sink = open_sink(job.settings.algorithm, job.settings.level, take, stack)
            job.feed(sink)
            sink.close()
        own, fingerprint = sums.finish()
        carrier.finish(fingerprint)
    return own, fingerprint


def _tarball(
    feed: Feed, target: _Temporary, settings: PackSettings, update: Callable[[bytes], None]
) -> None:
    """Write the tar file through its compressor, summing what reaches the disk."""
    with _Output(target) as output, contextlib.ExitStack() as stack:

        def take(block: bytes) -> None:
            update(block)
            output.write(block)

        sink = open_sink(settings.algorithm, settings.level, take, stack)
        feed(sink)
        sink.close()


class _Output:
    """A file being written whose errors are ours, told apart from the feed's."""

    def __init__(self, target: _Temporary) -> None:
        self._path = target.path
        self._descriptor = target.file.fileno()

    def __enter__(self) -> Self:
        return self

    def write(self, block: bytes) -> None:
        view = memoryview(block)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except OSError as error:
                raise storage_error("write", self._path, error) from error

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None:
                os.fsync(self._descriptor)
        except OSError as failure:
            raise storage_error("write", self._path, failure) from failure


def _lxc_rootfs(feed: Feed, target: _Temporary) -> PackedFile:
    digest = hashlib.sha256()
    settings = PackSettings(image_format="tar", algorithm="xz", level=1)
    _tarball(feed, target, settings, digest.update)
    size_bytes = os.fstat(target.file.fileno()).st_size
    return _packed_file("lxc-rootfs", target, digest.hexdigest(), size_bytes, settings.suffix)


def _written(target: _Temporary, content: bytes) -> str:
    with _Output(target) as output:
        output.write(content)
    return hashlib.sha256(content).hexdigest()


def _packed_file(
    role: FileRole, target: _Temporary, digest: str, size_bytes: int, suffix: str
) -> PackedFile:
    return PackedFile(temporary=target.path, file=_listed(role, digest, size_bytes, suffix))


def _listed(role: FileRole, digest: str, size_bytes: int, suffix: str) -> PublishedFile:
    return PublishedFile(
        role=role, path=f"images/{digest}{suffix}", sha256=digest, size_bytes=size_bytes
    )


@contextlib.contextmanager
def _temporary(directory: Path) -> Iterator[_Temporary]:
    """Yield a new empty file, whose name is removed unless it was given away meanwhile."""
    with contextlib.ExitStack() as opened:
        try:
            descriptor = opened.enter_context(directory_descriptor(directory))
            name, file = opened.enter_context(temporary_file(descriptor))
            os.fchmod(file.fileno(), 0o644)
        except OSError as error:
            raise storage_error("write", directory, error) from error
        yield _Temporary(path=directory / name, file=file)
