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
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from lxdocker_lxd.control_characters import spelled_out
from lxdocker_lxd.errors import StorageError
from lxdocker_lxd.ownership import directory_descriptor, user_name

TEMPORARY_PREFIX = ".tmp-"
WAIT_SECONDS = 60.0
"""How long a lock is waited for whose holders are quick."""
RUN_SECONDS = 3600.0
"""How long another run is waited for: a conversion, a setup."""

OnWait = Callable[[str], None]

_LOCK_MODE = 0o600
_FIRST_PAUSE_SECONDS = 0.01
_LAST_PAUSE_SECONDS = 0.25
_PROC = Path("/proc")
# NUMBER: FLOCK ADVISORY WRITE PROCESS MAJOR:MINOR:INODE FIRST LAST
_PLACE_FIELD = 5

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
    on_wait: OnWait | None = None,
    directory: int | None = None,
    wait_seconds: float = WAIT_SECONDS,
) -> Iterator[None]:
    """Hold the lock file ``path`` for the block; wait for other holders. Raises StorageError.

    ``directory`` is a descriptor of the directory it is in, for callers that have one. See
    :func:`take` for the rest.
    """
    descriptor = open_lock(path, directory=directory)
    try:
        take(descriptor, path, shared=shared, on_wait=on_wait, wait_seconds=wait_seconds)
        yield
    finally:
        os.close(descriptor)


def take(
    descriptor: int,
    path: Path,
    *,
    shared: bool = False,
    on_wait: OnWait | None = None,
    wait_seconds: float = WAIT_SECONDS,
) -> None:
    """Take the lock of an open file that is called ``path``; wait for other holders.

    ``on_wait`` is called once before waiting, with who holds it, so that a user learns why nothing
    happens. Raises StorageError, also when ``wait_seconds`` are over.
    """
    kind = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
    deadline = time.monotonic() + wait_seconds
    pause_seconds = _FIRST_PAUSE_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, kind)
        except BlockingIOError:
            if on_wait:
                on_wait(holder(descriptor) or "somebody")
                on_wait = None
            if time.monotonic() >= deadline:
                raise _held_too_long(descriptor, path, wait_seconds) from None
            time.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, _LAST_PAUSE_SECONDS)
        except OSError as error:
            raise storage_error("lock", path, error) from error
        else:
            return


def _held_too_long(descriptor: int, path: Path, wait_seconds: float) -> StorageError:
    found = _holders(descriptor)
    who = holder(descriptor) or "somebody who can't be seen from here"
    return StorageError(
        f"lock {path}: held by {who}; waited {wait_seconds:.0f} s",
        hint=f"wait for its end, or end it if it shouldn't be there: kill {found[0]}"
        if found
        else "wait for its end; root sees in /proc/locks who it is",
    )


def open_lock(path: Path, *, directory: int | None = None) -> int:
    """Return a descriptor of the lock file ``path``, made if missing; raise StorageError.

    The lock belongs to the descriptor: closing it, or the end of the process, gives it back. Others
    can't open the file: whoever can read it can hold the lock.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    try:
        name = path if directory is None else path.name
        descriptor = os.open(name, flags, _LOCK_MODE, dir_fd=directory)
    except OSError as error:
        raise storage_error("lock", path, error) from error
    try:
        plain = _close_to_others(descriptor)
    except OSError as error:
        os.close(descriptor)
        raise storage_error("lock", path, error) from error
    if not plain:
        os.close(descriptor)
        raise StorageError(f"lock {path}: it is no plain file", hint="move it away")
    return descriptor


def _close_to_others(descriptor: int) -> bool:
    """Take others' rights to a lock of this user's, as earlier versions gave; False for no file."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        return False
    if stat.S_IMODE(status.st_mode) != _LOCK_MODE and status.st_uid == os.geteuid():
        os.fchmod(descriptor, _LOCK_MODE)
    return True


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


def holder(descriptor: int) -> str:
    """Return who holds a lock of an open file: process, program and user, as far as they are seen.

    Empty when nobody is seen: the kernel shows no process of another container.
    """
    found = _holders(descriptor)
    others = f" and {len(found) - 1} others" if len(found) > 1 else ""
    return f"{_process(found[0])}{others}" if found else ""


def _holders(descriptor: int) -> tuple[int, ...]:
    """Return the processes that hold a lock of this file, by the kernel's table (proc_locks(5))."""
    try:
        place = f"{_device(descriptor)}:{os.fstat(descriptor).st_ino}"
        rows = [row.split() for row in _PROC.joinpath("locks").read_text("ascii").splitlines()]
    except (OSError, ValueError):
        return ()
    # Of those who wait, the second field is an arrow.
    held = (row for row in rows if len(row) > _PLACE_FIELD and row[_PLACE_FIELD] == place)
    return tuple(
        sorted({int(row[_PLACE_FIELD - 1]) for row in held if row[1] == "FLOCK"} - {0, -1})
    )


def _device(descriptor: int) -> str:
    """Return the number of the file's file system as the table has it; stat differs on btrfs."""
    facts = _PROC.joinpath("self/fdinfo", str(descriptor)).read_text("ascii")
    mount = next(row.split()[1] for row in facts.splitlines() if row.startswith("mnt_id:"))
    mounts = _PROC.joinpath("self/mountinfo").read_text("utf-8", "surrogateescape").splitlines()
    number = next((row.split()[2] for row in mounts if row.split()[0] == mount), "")
    major, minor = map(int, number.split(":"))
    return f"{major:02x}:{minor:02x}"


def _process(number: int) -> str:
    """Return what a process is called; its number alone when it is gone, or another user's secret."""
    place = _PROC / str(number)
    try:
        name = place.joinpath("comm").read_text("utf-8", "replace")
        user = user_name(place.stat().st_uid)
    except OSError:
        return f"process {number}"
    return process_text(number, name, user)


def process_text(number: int, name: str, user: str) -> str:
    """Return how a process is told of; its ``name`` is whatever it calls itself."""
    return f"process {number} ({spelled_out(name.strip(), kept='')}) of {user}"


def sweep(directory: Path) -> None:
    """Remove what crashed writers left in ``directory``; call it under the exclusive lock."""
    for path in directory.glob(TEMPORARY_PREFIX + "*"):
        if path.is_file() or path.is_symlink():
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise storage_error("remove", path, error) from error
