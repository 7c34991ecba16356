"""The directory of an export: its own files known by a record, everything else foreign.

Guarantees. A file appears whole, on disk, by rename. Only files of the record are replaced or removed.
Nothing is written through a symbolic link. What a killed run left is either a whole file, or in
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
from lxdocker_lxd.errors import UsageError, VerificationError
from lxdocker_lxd.serve import export_record
from lxdocker_lxd.serve.export_plan import RECORD_PATH, STATE_DIRECTORY
from lxdocker_lxd.serve.export_record import INTENDED, ExportedFile

_BLOCK_BYTES = 1 << 20
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
    """One export. ``files`` is its record; :meth:`save` makes it durable."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._own = directory / STATE_DIRECTORY
        self._record = directory / RECORD_PATH
        self._new = self._own / "new"
        self._numbers = itertools.count()
        self._touched: set[Path] = set()
        self._checked: set[Path] = set()
        self.files: dict[str, ExportedFile] = {}

    @property
    def signatures(self) -> Path:
        """Where signatures are kept, so that unchanged content isn't signed anew."""
        return self._own / "signatures"

    def open(self) -> None:
        """Read the record; raise ForeignFileError for a directory that isn't an export."""
        try:
            content = self._record.read_bytes()
        except FileNotFoundError:
            self._expect_empty()
            return
        except OSError as error:
            raise atomic.storage_error("read", self._record, error) from error
        self.files = export_record.parse(content, name=str(self._record))

    def _expect_empty(self) -> None:
        try:
            found = [one for one in self.directory.iterdir() if one.name != STATE_DIRECTORY]
        except FileNotFoundError:
            return
        except OSError as error:
            raise atomic.storage_error("read", self.directory, error) from error
        if found:
            raise ForeignFileError(
                f"export to {self.directory}: it is neither empty nor an export"
                f" (there is {found[0].name})",
                hint="name another directory, for instance a new one inside it",
            )

    @contextlib.contextmanager
    def writing(self, on_wait: Callable[[], None]) -> Iterator[None]:
        """Be the one writer for the block, with the record read under the lock."""
        self._expect_export_or_empty()
        atomic.make_directory(self._own)
        with atomic.locked(self._own / "lock", on_wait=on_wait):
            self.open()
            with self._translated("write", self._new):
                shutil.rmtree(self._new, ignore_errors=True)
                self._new.mkdir()
            yield
            with self._translated("write", self._new):
                shutil.rmtree(self._new, ignore_errors=True)

    def _expect_export_or_empty(self) -> None:
        if not self._record.exists():
            self._expect_empty()

    def save(self) -> None:
        """Make the record durable."""
        atomic.write(self._record, export_record.render(self.files))

    def path(self, name: str) -> Path:
        """Return where the file ``name`` of the export is."""
        return self.directory / name

    def expect_ours(self, name: str) -> None:
        """Raise ForeignFileError if something at ``name``, or above it, isn't the export's."""
        path = self.path(name)
        for parent in reversed(path.relative_to(self.directory).parents):
            above = self.directory / parent
            if above not in self._checked and above != self.directory:
                self._expect_directory(above)
            self._checked.add(above)
        status = _status(path)
        if status is not None and (name not in self.files or not stat.S_ISREG(status.st_mode)):
            raise _foreign(path)

    def _expect_directory(self, path: Path) -> None:
        status = _status(path)
        if status is not None and not stat.S_ISDIR(status.st_mode):
            raise _foreign(path)

    def intend(self, names: Iterator[str]) -> None:
        """Record that these files will be made, before they are."""
        for name in names:
            self.files.setdefault(name, INTENDED)
        self.save()

    def holds(self, name: str, sha256: str, size_bytes: int) -> bool:
        """Whether the file is there with this content, so far as that must be looked at.

        A file that looks as it did when it was made is believed; others are read.
        """
        status = _status(self.path(name))
        known = self.files.get(name)
        if status is None or known is None or status.st_size != size_bytes:
            return False
        seen = (known.sha256, known.size_bytes, known.mtime_ns)
        if seen == (sha256, status.st_size, status.st_mtime_ns):
            return True
        with self._translated("read", self.path(name)), self.path(name).open("rb") as file:
            if _copied(file, None) != (sha256, size_bytes):
                return False
        self._remember(name, sha256)
        return True

    def is_unchanged(self, name: str) -> bool:
        """Whether the file looks as it did when the export made it."""
        status = _status(self.path(name))
        known = self.files.get(name)
        return (
            status is not None
            and known is not None
            and (status.st_size, status.st_mtime_ns) == (known.size_bytes, known.mtime_ns)
        )

    def staged(self, content: bytes) -> Path:
        """Return a durable temporary file with ``content``."""
        return self._staged(lambda file: file.write(content))

    def copied(self, source: Path, sha256: str, size_bytes: int) -> Path:
        """Return a durable temporary copy of a published file; raise SourceDamagedError.

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

    def _staged(self, fill: Callable[[BinaryIO], object]) -> Path:
        path = self._new / str(next(self._numbers))
        with self._translated("write", path), path.open("xb") as file:
            os.fchmod(file.fileno(), _MODE)
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        return path

    def linked(self, name: str) -> Path | None:
        """Return a temporary second name of an exported file; None where that can't be."""
        path = self._new / str(next(self._numbers))
        try:
            path.hardlink_to(self.path(name))
        except OSError as error:
            if error.errno in _NO_LINKS:
                return None
            raise atomic.storage_error("write", path, error) from error
        return path

    def place(self, temporary: Path, name: str, sha256: str) -> None:
        """Give a temporary file its name; :meth:`settle` makes the name durable."""
        target = self.path(name)
        with self._translated("write", target):
            self._make_parents(target.parent)
            temporary.replace(target)
            # Where both are names of one file already, rename leaves both.
            temporary.unlink(missing_ok=True)
            self._touched.add(target.parent)
        self._remember(name, sha256)

    def _make_parents(self, directory: Path) -> None:
        missing = list(
            itertools.takewhile(lambda one: not one.is_dir(), (directory, *directory.parents))
        )
        for one in reversed(missing):
            one.mkdir(mode=0o755)
            self._touched.add(one.parent)

    def remove(self, name: str) -> bool:
        """Remove a file of the export and directories that are empty then; return if it was there."""
        path = self.path(name)
        with self._translated("remove", path):
            was_there = _status(path) is not None
            path.unlink(missing_ok=True)
        del self.files[name]
        for parent in path.relative_to(self.directory).parents[:-1]:
            try:
                (self.directory / parent).rmdir()
            except OSError:
                break
        return was_there

    def settle(self) -> None:
        """Make every name given since the last call durable."""
        for directory in self._touched:
            if directory.is_dir():
                with self._translated("write", directory):
                    atomic.sync_directory(directory)
        self._touched.clear()

    def _remember(self, name: str, sha256: str) -> None:
        status = self.path(name).lstat()
        self.files[name] = ExportedFile(
            sha256=sha256, size_bytes=status.st_size, mtime_ns=status.st_mtime_ns
        )

    @contextlib.contextmanager
    def _translated(self, action: str, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise atomic.storage_error(action, path, error) from error


def _opened(source: Path) -> BinaryIO:
    try:
        return source.open("rb")
    except FileNotFoundError as error:
        raise SourceDamagedError(f"export {source}: it is missing", hint=_DAMAGED_HINT) from error
    except OSError as error:
        raise atomic.storage_error("read", source, error) from error


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise atomic.storage_error("read", path, error) from error


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
