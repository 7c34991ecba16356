"""The directory of an export: its own files known by a record, everything else foreign.

Guarantees. A file appears whole, on disk, by rename. Only files of the record are replaced or removed, and
the record is believed only in a directory that this user (or root) owns and nobody else can change.
Nothing is read, written or removed through a symbolic link. What a killed run left is either a whole file, or in
``.lxdocker-export/new``, which the next run empties.
"""

import contextlib
import errno
import fcntl
import hashlib
import itertools
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from lxdocker_lxd import atomic
from lxdocker_lxd.errors import StorageError, UsageError, VerificationError
from lxdocker_lxd.ownership import (
    below,
    directory_descriptor,
    expect_closed_for_root,
    open_plain,
    own_directory,
)
from lxdocker_lxd.serve import export_record
from lxdocker_lxd.serve.export_plan import RECORD_PATH, STATE_DIRECTORY
from lxdocker_lxd.serve.export_record import INTENDED, ExportedFile

_BLOCK_BYTES = 1 << 20
_MOST_RECORD_BYTES = 1 << 28
_NEW = "new"
# A link in the place of a directory counts as what isn't there: nothing behind it is the export's.
_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_MODE = 0o644
# linux/fs.h: share the blocks of another file (btrfs, XFS) until one of both is changed.
_FICLONE = 0x40049409
_DAMAGED_HINT = "lxdocker-lxd images --verify shows what is damaged; convert it again"
_NO_LINKS = frozenset({errno.EPERM, errno.EMLINK, errno.EXDEV, errno.ENOTSUP, errno.EOPNOTSUPP})


class ForeignFileError(UsageError):
    """Where the export shall write there is something it didn't make."""


class SourceDamagedError(VerificationError):
    """A file of the catalogue isn't there, or isn't what its digest says."""


class ExportDirectory:
    """One export. ``files`` is its record; :meth:`save` makes it durable.

    Everything is done relative to a descriptor of the directory, which :meth:`open` and :meth:`writing`
    take: what becomes of the path meanwhile leads nowhere else.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._record = directory / RECORD_PATH
        self._top: int | None = None
        self._own = -1
        self._new = -1
        self._numbers = itertools.count()
        self._touched: set[tuple[str, ...]] = set()
        self.files: dict[str, ExportedFile] = {}

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Read the record and keep the directory open for the block, without a lock.

        Raises ForeignFileError for a directory that isn't an export, UnsafeDirectoryError for one that
        others can lead astray.
        """
        if not self.directory.exists():
            yield
            return
        with self._opened(), contextlib.ExitStack() as opened:
            try:
                own = own_directory(self._descriptor, STATE_DIRECTORY, path=self._record.parent)
                self._own = opened.enter_context(own)
            except FileNotFoundError:
                self._expect_empty()
            except OSError as error:
                raise atomic.storage_error("read", self._record.parent, error) from error
            else:
                self._read()
            yield

    @contextlib.contextmanager
    def writing(self, on_wait: atomic.OnWait) -> Iterator[None]:
        """Be the one writer for the block, with the record read under the lock.

        Raises what :meth:`reading` does.
        """
        with self.reading():
            # Nothing is made in a directory of others.
            pass
        atomic.make_directory(self.directory)
        with self._opened(), contextlib.ExitStack() as opened:
            with self._translated("write", self._record.parent):
                own = own_directory(
                    self._descriptor, STATE_DIRECTORY, path=self._record.parent, make=True
                )
                self._own = opened.enter_context(own)
            lock = self._record.parent / "lock"
            with atomic.locked(
                lock, on_wait=on_wait, directory=self._own, wait_seconds=atomic.RUN_SECONDS
            ):
                self._read()
                with self._translated("write", self._new_path), contextlib.ExitStack() as made:
                    shutil.rmtree(_NEW, ignore_errors=True, dir_fd=self._own)
                    os.mkdir(_NEW, 0o755, dir_fd=self._own)
                    self._new = made.enter_context(
                        own_directory(self._own, _NEW, path=self._new_path)
                    )
                    opened.push(made.pop_all())
                yield
                with self._translated("write", self._new_path):
                    shutil.rmtree(_NEW, ignore_errors=True, dir_fd=self._own)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[None]:
        expect_closed_for_root(self.directory)
        with contextlib.ExitStack() as opened:
            with self._translated("read", self.directory):
                self._top = opened.enter_context(directory_descriptor(self.directory))
            try:
                yield
            finally:
                self._top = None

    @property
    def _descriptor(self) -> int:
        assert self._top is not None  # noqa: S101 - within reading or writing
        return self._top

    @property
    def _new_path(self) -> Path:
        return self._record.parent / _NEW

    def _read(self) -> None:
        try:
            with open_plain(self._record.name, directory=self._own) as file:
                content = file.read(_MOST_RECORD_BYTES + 1)
        except FileNotFoundError:
            self._expect_empty()
            return
        except OSError as error:
            raise atomic.storage_error("read", self._record, error) from error
        if len(content) > _MOST_RECORD_BYTES:
            raise VerificationError(f"{self._record}: it is larger than any record of an export")
        self.files = export_record.parse(content, name=str(self._record))

    def _expect_empty(self) -> None:
        with self._translated("read", self.directory):
            names = os.listdir(self._descriptor)  # noqa: PTH208 - of a descriptor
        found = sorted(set(names) - {STATE_DIRECTORY})
        if found:
            raise ForeignFileError(
                f"export to {self.directory}: it is neither empty nor an export"
                f" (there is {found[0]})",
                hint="name another directory, for instance a new one inside it",
            )

    def save(self) -> None:
        """Make the record durable."""
        atomic.write(self._record, export_record.render(self.files), directory=self._own)

    def path(self, name: str) -> Path:
        """Return what the file ``name`` of the export is called, for messages."""
        return self.directory / name

    @contextlib.contextmanager
    def _at(self, name: str) -> Iterator[tuple[int, str]]:
        """Yield the descriptor of the directory that ``name`` is in, and its last part."""
        *above, last = name.split("/")
        with below(self._descriptor, *above) as directory:
            yield directory, last

    def _status(self, name: str) -> os.stat_result | None:
        if self._top is None:
            return None
        try:
            with self._at(name) as (directory, last):
                return os.stat(last, dir_fd=directory, follow_symlinks=False)
        except OSError as error:
            if error.errno in _NOT_THERE:
                return None
            raise atomic.storage_error("read", self.path(name), error) from error

    def is_there(self, name: str) -> bool:
        """Whether there is anything at ``name``."""
        return self._status(name) is not None

    def expect_ours(self, name: str) -> None:
        """Raise ForeignFileError if something at ``name``, or above it, isn't the export's."""
        parts = name.split("/")
        for count in range(1, len(parts)):
            above = "/".join(parts[:count])
            status = self._status(above)
            if status is None:
                return
            if not stat.S_ISDIR(status.st_mode):
                raise _foreign(self.path(above))
        status = self._status(name)
        if status is not None and (name not in self.files or not stat.S_ISREG(status.st_mode)):
            raise _foreign(self.path(name))

    def intend(self, names: Iterator[str]) -> None:
        """Record that these files will be made, before they are."""
        for name in names:
            self.files.setdefault(name, INTENDED)
        self.save()

    def holds(self, name: str, sha256: str, size_bytes: int) -> bool:
        """Whether the file is there with this content, so far as that must be looked at.

        A file that looks as it did when it was made is believed; others are read.
        """
        status = self._status(name)
        known = self.files.get(name)
        if status is None or known is None or status.st_size != size_bytes:
            return False
        seen = (known.sha256, known.size_bytes, known.mtime_ns)
        if seen == (sha256, status.st_size, status.st_mtime_ns):
            return True
        with (
            self._translated("read", self.path(name)),
            self._at(name) as (directory, last),
            open_plain(last, directory=directory) as file,
        ):
            if _copied(file, None) != (sha256, size_bytes):
                return False
        self._remember(name, sha256)
        return True

    def is_unchanged(self, name: str) -> bool:
        """Whether the file looks as it did when the export made it."""
        status = self._status(name)
        known = self.files.get(name)
        return (
            status is not None
            and known is not None
            and (status.st_size, status.st_mtime_ns) == (known.size_bytes, known.mtime_ns)
        )

    def staged(self, content: bytes) -> str:
        """Return the name of a durable temporary file with ``content``."""
        return self._staged(lambda file: file.write(content))

    def copied(self, source: Path, sha256: str, size_bytes: int) -> str:
        """Return the name of a durable temporary copy of a published file; raise SourceDamagedError.

        A copy, not a hard link: whoever changes mode, owner or content of an export must not
        change the catalogue. Where the file system can, both share their blocks.
        """

        def copy(target: BinaryIO) -> None:
            with _opened(source) as file:
                found = _copied(file, None if _cloned(file, target) else target)
            if found != (sha256, size_bytes):
                raise SourceDamagedError(
                    f"export {source}: expected {size_bytes} bytes with sha256 {sha256}, got"
                    f" {found[1]} bytes with sha256 {found[0]}",
                    hint=_DAMAGED_HINT,
                )

        return self._staged(copy)

    def _staged(self, fill: Callable[[BinaryIO], object]) -> str:
        name = str(next(self._numbers))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with self._translated("write", self._new_path / name):
            descriptor = os.open(name, flags, 0o600, dir_fd=self._new)
            with open(descriptor, "wb") as file:  # noqa: PTH123 - wraps a descriptor
                os.fchmod(file.fileno(), _MODE)
                fill(file)
                file.flush()
                os.fsync(file.fileno())
        return name

    def linked(self, name: str) -> str | None:
        """Return a temporary second name of an exported file; None where that can't be."""
        second = str(next(self._numbers))
        try:
            with self._at(name) as (directory, last):
                os.link(
                    last,
                    second,
                    src_dir_fd=directory,
                    dst_dir_fd=self._new,
                    follow_symlinks=False,
                )
        except OSError as error:
            if error.errno in _NO_LINKS:
                return None
            raise atomic.storage_error("write", self._new_path / second, error) from error
        return second

    def place(self, temporary: str, name: str, sha256: str) -> None:
        """Give a temporary file its name; :meth:`settle` makes the name durable."""
        with self._translated("write", self.path(name)):
            self._make_parents(name)
            with self._at(name) as (directory, last):
                os.replace(temporary, last, src_dir_fd=self._new, dst_dir_fd=directory)
            # Where both are names of one file already, rename leaves both.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=self._new)
            self._touched.add(_above(name))
        self._remember(name, sha256)

    def _make_parents(self, name: str) -> None:
        above = _above(name)
        for count in range(len(above)):
            with below(self._descriptor, *above[:count]) as directory:
                try:
                    os.mkdir(above[count], 0o755, dir_fd=directory)
                except FileExistsError:
                    continue
                self._touched.add(above[:count])

    def remove(self, name: str) -> bool:
        """Remove a file of the export and directories that are empty then; return if it was there."""
        was_there = True
        try:
            with self._at(name) as (directory, last):
                os.unlink(last, dir_fd=directory)
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise atomic.storage_error("remove", self.path(name), error) from error
            was_there = False
        del self.files[name]
        above = _above(name)
        for count in range(len(above), 0, -1):
            try:
                with below(self._descriptor, *above[: count - 1]) as directory:
                    os.rmdir(above[count - 1], dir_fd=directory)
            except OSError:
                break
        return was_there

    def settle(self) -> None:
        """Make every name given since the last call durable."""
        for names in self._touched:
            with self._translated("write", self.directory.joinpath(*names)):
                try:
                    with below(self._descriptor, *names) as directory:
                        os.fsync(directory)
                except FileNotFoundError:
                    # It was empty, and was removed.
                    continue
        self._touched.clear()

    def _remember(self, name: str, sha256: str) -> None:
        status = self._status(name)
        if status is None:
            raise StorageError(f"export: {self.path(name)} was taken away while it was written")
        self.files[name] = ExportedFile(
            sha256=sha256, size_bytes=status.st_size, mtime_ns=status.st_mtime_ns
        )

    @contextlib.contextmanager
    def _translated(self, action: str, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise atomic.storage_error(action, path, error) from error


def _above(name: str) -> tuple[str, ...]:
    return tuple(name.split("/")[:-1])


def _opened(source: Path) -> BinaryIO:
    try:
        return open_plain(source)
    except FileNotFoundError as error:
        raise SourceDamagedError(f"export {source}: it is missing", hint=_DAMAGED_HINT) from error
    except OSError as error:
        raise atomic.storage_error("read", source, error) from error


def _foreign(path: Path) -> ForeignFileError:
    return ForeignFileError(
        f"export: {path} is in the way and wasn't made by an export",
        hint="move it away, or export to another directory",
    )


def _cloned(source: BinaryIO, target: BinaryIO) -> bool:
    try:
        fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
    except OSError:
        return False
    return True


def _copied(source: BinaryIO, target: BinaryIO | None) -> tuple[str, int]:
    """Copy a file to ``target``, if given, and return its sha256 and size."""
    digest = hashlib.sha256()
    size_bytes = 0
    while block := source.read(_BLOCK_BYTES):
        digest.update(block)
        size_bytes += len(block)
        if target is not None:
            target.write(block)
    return digest.hexdigest(), size_bytes
