"""Files that appear whole or not at all, and locks between runs.

``replacing`` writes to a temporary file in the target's own directory, syncs it and renames it, so
a reader sees the old or the new content and a crash leaves at most a file named ``.tmp-*``,
which ``sweep`` removes. ``append_line`` adds to a file of lines.
"""

import contextlib
import errno
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from lxdocker_lxd.errors import StorageError
from lxdocker_lxd.ownership import directory_descriptor

TEMPORARY_PREFIX = ".tmp-"

_HINTS = {
    errno.ENOSPC: "free some space there, or choose another directory",
    errno.EDQUOT: "the quota is used up: free some space, or choose another directory",
    errno.EACCES: "run as a user who may write there, or choose another directory",
    errno.EPERM: "run as a user who may write there, or choose another directory",
    errno.EROFS: "the file system is read-only: choose another directory",
}
# Errors of a write that can't come from whatever else the writer reads.
_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO})


def storage_error(action: str, path: Path, error: OSError) -> StorageError:
    """Return the error to raise for ``error``, met while doing ``action`` to ``path``."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    hint = _HINTS.get(error.errno or 0, "")
    if action.startswith("read") and error.errno in (errno.EACCES, errno.EPERM):
        hint = "run as a user who may read it"
    return StorageError(f"{action} {path}: {reason}", hint=hint)


def make_directory(path: Path, *, mode: int = 0o755) -> None:
    """Guarantee that the directory ``path`` exists; raise StorageError."""
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error("create directory", path, error) from error


@contextlib.contextmanager
def replacing(path: Path, *, mode: int = 0o644, directory: int | None = None) -> Iterator[BinaryIO]:
    """Yield a file whose content replaces ``path`` when the block ends without an error.

    ``directory`` is a descriptor of the directory it is in, for callers that have one.
    The file has ``mode`` before its first byte. After return, content and name are on disk. On an
    error nothing at ``path`` has changed. Raises StorageError; of the block's own errors only those
    a full or failing disk causes are translated, so that a broken connection stays one.
    """
    block_ended = False
    with contextlib.ExitStack() as opened:
        try:
            # The name stays in the directory that was opened, whatever becomes of the path to it.
            if directory is None:
                directory = opened.enter_context(directory_descriptor(path.parent))
            name, file = opened.enter_context(temporary_file(directory))
        except OSError as error:
            raise storage_error("write", path, error) from error
        try:
            os.fchmod(file.fileno(), mode)
            yield file
            block_ended = True
            file.flush()
            os.fsync(file.fileno())
            file.close()
            os.replace(name, path.name, src_dir_fd=directory, dst_dir_fd=directory)
            os.fsync(directory)
        except OSError as error:
            # The block may read a network stream, whose errors are OSErrors too and not ours.
            if block_ended or error.errno in _DISK_ERRORS:
                raise storage_error("write", path, error) from error
            raise


@contextlib.contextmanager
def temporary_file(directory: int) -> Iterator[tuple[str, BinaryIO]]:
    """Yield name and content of a new file in the directory of this descriptor.

    The name is removed with the block unless it was given away. Raises OSError.
    """
    name = TEMPORARY_PREFIX + secrets.token_hex(8)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=directory)
    file = open(descriptor, "w+b")  # noqa: PTH123, SIM115 - wraps a descriptor; closed below
    try:
        yield name, file
        file.close()
    except BaseException:
        # What is still buffered has no room either; the block's own error is the one to tell.
        with contextlib.suppress(OSError):
            file.close()
        raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory)


def write(path: Path, content: bytes, *, mode: int = 0o644, directory: int | None = None) -> None:
    """Make ``path`` hold ``content``, atomically and durably; raise StorageError."""
    with replacing(path, mode=mode, directory=directory) as file:
        file.write(content)


def append_line(path: Path, line: bytes, *, mode: int = 0o600) -> int:
    """Write a line with its end behind the others, durably; return the file's size in bytes.

    A line that a crash has torn is ended first. What was written before an error is taken back.
    Raises StorageError.
    """
    try:
        new = not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
        try:
            end = _append(descriptor, line)
        finally:
            os.close(descriptor)
        if new:
            sync_directory(path.parent)
    except OSError as error:
        raise storage_error("write", path, error) from error
    return end


def _append(descriptor: int, line: bytes) -> int:
    end = os.lseek(descriptor, 0, os.SEEK_END)
    torn = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"
    whole = b"\n" + line if torn else line
    try:
        _write_all(descriptor, whole)
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, end)
        raise
    return end + len(whole)


def _write_all(descriptor: int, content: bytes) -> None:
    if os.write(descriptor, content) != len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(descriptor)


def sync_directory(path: Path) -> None:
    """Make renames and removals inside ``path`` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(
    path: Path,
    *,
    shared: bool = False,
    on_wait: Callable[[], None] | None = None,
    directory: int | None = None,
) -> Iterator[None]:
    """Hold the lock file ``path`` for the block; wait for other holders. Raises StorageError.

    ``directory`` is a descriptor of the directory it is in, for callers that have one.
    ``on_wait`` is called once before waiting, so that a user learns why nothing happens.
    """
    descriptor = open_lock(path, directory=directory)
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        try:
            _wait_for(descriptor, kind, on_wait)
        except OSError as error:
            raise storage_error("lock", path, error) from error
        yield
    finally:
        os.close(descriptor)


def _wait_for(descriptor: int, kind: int, on_wait: Callable[[], None] | None) -> None:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        if on_wait:
            on_wait()
        fcntl.flock(descriptor, kind)


def open_lock(path: Path, *, directory: int | None = None) -> int:
    """Return a descriptor of the lock file ``path``, made if missing; raise StorageError.

    The lock belongs to the descriptor: closing it, or the end of the process, gives it back.
    """
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(path if directory is None else path.name, flags, 0o644, dir_fd=directory)
    except OSError as error:
        raise storage_error("lock", path, error) from error


def try_exclusive(descriptor: int) -> bool:
    """Make an ``open_lock`` descriptor's lock exclusive unless others hold it; never wait.

    On False the descriptor holds no lock at all, not even the shared one it may have had.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        return False
    return True


def sweep(directory: Path) -> None:
    """Remove what crashed writers left in ``directory``; call it under the exclusive lock."""
    for path in directory.glob(TEMPORARY_PREFIX + "*"):
        if path.is_file() or path.is_symlink():
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise storage_error("remove", path, error) from error
