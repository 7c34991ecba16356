"""The catalogue's directory: ``catalogue.json``, ``images/`` and the writers' lock.

Guarantees. Readers need no lock: ``catalogue.json`` is replaced whole, after every file it names is
durably in place, and files leave no earlier than GRACE after the last listing that named them. One
writer at a time holds the lock; a killed one leaves the last catalogue, unlisted files and
``.tmp-*`` files, which the next writer removes.
"""

import contextlib
import hashlib
import os
import re
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from lxdocker_lxd import atomic
from lxdocker_lxd.catalogue import GRACE, Catalogue, FileRole, PublishedFile, Version
from lxdocker_lxd.catalogue_document import parse, render
from lxdocker_lxd.errors import StorageError
from lxdocker_lxd.ownership import directory_descriptor, expect_own, open_plain

CATALOGUE_NAME = "catalogue.json"
IMAGES_NAME = "images"
_LOCK_NAME = ".lock"
_READ_BYTES = 1 << 20
_MOST_DOCUMENT_BYTES = 1 << 28
# The names that packing gives: the digest of the file and what kind it is.
_OWN_NAME = re.compile(r"[0-9a-f]{64}\.(meta\.tar|squashfs|tar(\.[a-z0-9]{1,4})?)")
_ROLES: tuple[FileRole, ...] = ("metadata", "rootfs", "lxc-rootfs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something wrong with a published file: what, and in which version."""

    name: str
    architecture: str
    serial: str
    problem: str


class CatalogueDirectory:
    """One directory of published images; safe for several threads of one writer."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._changes = threading.Lock()
        self._known: tuple[bytes, Catalogue] | None = None

    @property
    def images(self) -> Path:
        """Where image files are; new ones are written here before they get their name."""
        return self.directory / IMAGES_NAME

    @property
    def document(self) -> Path:
        """The catalogue file."""
        return self.directory / CATALOGUE_NAME

    def read(self) -> Catalogue:
        """Return what is published now; an empty catalogue where there is none yet.

        The text is parsed once for each catalogue published, however often this is called. Raises CatalogueError for a broken file and StorageError.
        """
        try:
            with open_plain(self.document) as file:
                content = file.read(_MOST_DOCUMENT_BYTES + 1)
        except FileNotFoundError:
            return Catalogue()
        except OSError as error:
            raise atomic.storage_error("read", self.document, error) from error
        if len(content) > _MOST_DOCUMENT_BYTES:
            raise StorageError(f"read {self.document}: it is larger than any catalogue")
        known = self._known
        # The bytes decide: a file's number and time may be those of an earlier one.
        if known is not None and known[0] == content:
            return known[1]
        catalogue = parse(content, file=str(self.document))
        self._known = (content, catalogue)
        return catalogue

    @contextlib.contextmanager
    def writing(self, on_wait: atomic.OnWait | None = None) -> Iterator[None]:
        """Be the one writer for the block, and start it from a swept directory.

        Waits for another writer, an hour at most, after calling ``on_wait`` once with who that is.
        Raises StorageError.
        """
        for directory in (self.directory, self.images):
            _make_published(directory)
        expect_own(Path(os.path.realpath(self.directory)))
        expect_own(self.images)
        lock = self.directory / _LOCK_NAME
        with atomic.locked(lock, on_wait=on_wait, wait_seconds=atomic.RUN_SECONDS):
            atomic.sweep(self.directory)
            atomic.sweep(self.images)
            yield

    def change(self, change: Callable[[Catalogue], Catalogue]) -> Catalogue:
        """Replace the catalogue by ``change`` of it and return the new one.

        The files that the new one names must be durable already. Only for the holder of
        :meth:`writing`; an unchanged catalogue isn't written. Raises StorageError.
        """
        with self._changes:
            before = self.read()
            after = change(before)
            if after is not before:
                atomic.write(self.document, render(after))
            return after

    def place(self, temporary: Path, file: PublishedFile) -> None:
        """Give a complete and synced temporary file its published name; raises StorageError."""
        target = self.path(file)
        try:
            with directory_descriptor(self.directory, IMAGES_NAME) as images:
                os.replace(temporary.name, target.name, src_dir_fd=images, dst_dir_fd=images)
                os.fsync(images)
        except OSError as error:
            raise atomic.storage_error("publish", target, error) from error

    def path(self, file: PublishedFile) -> Path:
        """Return where ``file`` is."""
        return self.directory / file.path

    def holds(self, file: PublishedFile) -> bool:
        """Whether ``file`` is there with its size; :meth:`verify` looks at the content too."""
        try:
            status = self.path(file).lstat()
        except OSError:
            return False
        return stat.S_ISREG(status.st_mode) and status.st_size == file.size_bytes

    @contextlib.contextmanager
    def opened(self, file: PublishedFile) -> Iterator[BinaryIO]:
        """Open a published file for reading; what a link leads to isn't one. Raises OSError."""
        folder, name = file.path.split("/")
        with (
            directory_descriptor(self.directory, folder) as descriptor,
            open_plain(name, directory=descriptor) as opened,
        ):
            yield opened

    def collect(self, at: datetime) -> int:
        """Remove files that are certainly unused and return how many bytes that freed.

        Long retired files go, and old files that carry a name of ours and are listed nowhere (a
        build that was killed before it was published, or the files of a lost catalogue). Whatever
        else is in the directory isn't ours and stays. Only for the holder of :meth:`writing`.
        """
        forgotten = {file.path for file in self.read().forgotten(at=at)[1]}
        known = {
            file.path
            for file in self.change(lambda catalogue: catalogue.forgotten(at=at)[0])
            .servable()
            .values()
        }
        freed_bytes = 0
        for path in sorted(self.images.iterdir()):
            name = f"{IMAGES_NAME}/{path.name}"
            if name in forgotten or (name not in known and _is_abandoned(path, at)):
                freed_bytes += _removed(path)
        return freed_bytes

    def verify(self) -> tuple[Finding, ...]:
        """Read every published file again; return what differs from the catalogue, if anything.

        Checks size and sha256 of each file and the fingerprint of each version.
        """
        return tuple(
            Finding(
                name=product.name,
                architecture=product.architecture,
                serial=version.serial,
                problem=problem,
            )
            for product in self.read().products
            for version in product.versions
            for problem in self._problems(version)
        )

    def _problems(self, version: Version) -> Iterator[str]:
        """Yield what is wrong with a version's files; each is read once."""
        combined = hashlib.sha256()
        for role in _ROLES:
            file = version.file(role)
            if file is None:
                if role != "lxc-rootfs":
                    yield f"no {role} file is listed"
                continue
            digest = hashlib.sha256()
            size_bytes = 0
            try:
                for block in _blocks(self.path(file)):
                    size_bytes += len(block)
                    digest.update(block)
                    if role != "lxc-rootfs":
                        combined.update(block)
            except OSError as error:
                yield atomic.storage_error("read", self.path(file), error).message
                continue
            if (size_bytes, digest.hexdigest()) != (file.size_bytes, file.sha256):
                yield (
                    f"{file.path}: expected {file.size_bytes} bytes with sha256 {file.sha256},"
                    f" got {size_bytes} bytes with sha256 {digest.hexdigest()}"
                )
        if combined.hexdigest() != version.fingerprint:
            yield (
                f"expected fingerprint {version.fingerprint},"
                f" metadata and rootfs give {combined.hexdigest()}"
            )


def _make_published(directory: Path) -> None:
    """Make a directory that the image server's user can read, whatever the umask; raise StorageError."""
    if directory.exists():
        return
    atomic.make_directory(directory)
    try:
        directory.chmod(0o755)
    except OSError as error:
        raise atomic.storage_error("open to readers", directory, error) from error


def _is_abandoned(path: Path, at: datetime) -> bool:
    """Whether ``path`` has a name of ours and was written long ago; the catalogue lacks it."""
    if not _OWN_NAME.fullmatch(path.name):
        return False
    try:
        status = path.lstat()
    except OSError:
        return False
    written_at = datetime.fromtimestamp(status.st_mtime, UTC)
    return stat.S_ISREG(status.st_mode) and at - written_at >= GRACE


def _removed(path: Path) -> int:
    """Remove a file and return its size; raise StorageError."""
    try:
        size_bytes = path.lstat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise atomic.storage_error("remove", path, error) from error
    return size_bytes


def _blocks(path: Path) -> Iterator[bytes]:
    with open_plain(path) as file:
        while block := file.read(_READ_BYTES):
            yield block
