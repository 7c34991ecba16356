"""Whose a directory is, who could change what is in it, and opening nothing through links.

Privilege follows ownership: whoever works in a directory is its owner. Root, in a directory of another
user's, would do what links and names tell that the other one plants there.
"""

import contextlib
import errno
import os
import pwd
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from lxdocker_lxd.errors import StorageError, UsageError

ROOT = 0
_NO_FILE = errno.ELOOP
# As many as the kernel follows (path_resolution(7)).
_MOST_LINKS = 40
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class UnsafeDirectoryError(StorageError):
    """A directory that is a link, somebody else's, or open to others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A user of this machine: ids, all its groups, and where it lives."""

    name: str
    user_id: int
    group_id: int
    groups: tuple[int, ...]
    home: str

    @classmethod
    def of(cls, status: os.stat_result) -> "Owner":
        """Return the owner of a file; a number without an account has the file's group."""
        user_id = status.st_uid
        try:
            entry = pwd.getpwuid(user_id)
        except KeyError:
            # Never root's group, whatever the file says.
            group_id = status.st_gid or user_id
            return cls(
                name=str(user_id), user_id=user_id, group_id=group_id, groups=(group_id,), home="/"
            )
        return cls(
            name=entry.pw_name,
            user_id=user_id,
            group_id=entry.pw_gid,
            groups=tuple(os.getgrouplist(entry.pw_name, entry.pw_gid)),
            home=entry.pw_dir or "/",
        )


def other_owner(directories: Sequence[Path]) -> Owner | None:
    """Return the user that root has to be to work in all of these directories.

    None where this process may work itself: it isn't root's, or all is root's and nobody else could put
    anything there. A directory that doesn't exist has the owner of the first one above that does.
    Raises UsageError when they belong to several users, UnsafeDirectoryError.
    """
    if os.geteuid() != ROOT:
        return None
    found = [(path, _nearest(path)) for path in directories]
    owners = {status.st_uid: (path, status) for path, status in reversed(found)}
    if len(owners) > 1:
        whose = " and ".join(
            f"{path} to {Owner.of(status).name}" for path, status in owners.values()
        )
        raise UsageError(
            f"work in several users' directories at once: {whose}",
            hint="give all of them to the user who converts: chown -R USER: DIRECTORY",
        )
    ((user_id, (_, status)),) = owners.items()
    for path in directories:
        # Nor may a third user lead root, or the owner, elsewhere by what is above.
        expect_closed(path, user=user_id)
    return None if user_id == ROOT else Owner.of(status)


def _nearest(path: Path) -> os.stat_result:
    """Return the status of ``path``, or of the first directory above it that exists."""
    real = Path(os.path.realpath(path))
    for place in (real, *real.parents):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return place.stat()
    raise UnsafeDirectoryError(f"look at {path}: nothing above it exists")


def expect_closed(path: Path, *, user: int | None = None) -> None:
    """Raise UnsafeDirectoryError unless only ``user`` and root can change what is at ``path``.

    The user is this process's where none is given.
    Everything above counts, links on the way too; directories above may be sticky, like ``/tmp``. What
    doesn't exist yet is judged by what is above it.
    """
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - links are judged, not resolved
    near = (absolute, Path(os.path.realpath(path)))
    try:
        for place in way_to(absolute):
            _expect_closed(
                place, os.geteuid() if user is None else user, near=place in near, of=path
            )
    except OSError as error:
        raise UnsafeDirectoryError(f"look at {path}: {error.strerror}") from error


def way_to(path: Path) -> Iterator[Path]:
    """Yield all that leads to what is at an absolute path: directories, and links in links' targets too.

    The path itself comes along, and what its links lead to. Raises OSError for links without an end.
    """
    current, links = Path("/"), 0
    waiting = list(reversed(path.parts[1:]))
    yield current
    while waiting:
        name = waiting.pop()
        if name == "..":
            current = current.parent
            continue
        place = current / name
        yield place
        try:
            target = place.readlink()
        except OSError:
            # No link, or nothing there.
            current = place
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        waiting += reversed(target.parts[target.is_absolute() :])
        current = Path("/") if target.is_absolute() else current


def expect_closed_for_root(path: Path) -> None:
    """Do that for root, whom such a place could make do anything; other users have their own rights.

    Raises UnsafeDirectoryError.
    """
    if os.geteuid() == ROOT:
        expect_closed(path)


def _expect_closed(place: Path, user: int, *, near: bool, of: Path) -> None:
    try:
        status = place.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise UnsafeDirectoryError(f"look at {place}: {error.strerror}") from error
    if fault := foreign_hand(place, status, user, open_bits=_open_bits(user), near=near):
        raise _unsafe(of, user, fault)


def foreign_hand(
    place: str | Path, status: os.stat_result, user: int, *, open_bits: int, near: bool
) -> str:
    """Return who besides ``user`` and root could change what is at ``place``; empty for nobody.

    ``status`` is the place's own, of a link too. ``open_bits`` of its mode let others write. A place that
    isn't ``near`` to what is asked about only holds the way there: it may be sticky.
    """
    if status.st_uid not in {ROOT, user}:
        return f"{place} belongs to {Owner.of(status).name}"
    if stat.S_ISLNK(status.st_mode):
        return ""
    sticky = bool(status.st_mode & stat.S_ISVTX) and not near
    return f"others can write to {place}" if status.st_mode & open_bits and not sticky else ""


def _open_bits(user: int) -> int:
    # A user's own group is theirs on most systems; root's must not be able to lead root anywhere.
    return stat.S_IWOTH | (stat.S_IWGRP if user == ROOT else 0)


def expect_own(path: Path) -> None:
    """Raise UnsafeDirectoryError unless ``path`` is a real directory of this user's own.

    It is no link, and others can't write to it.
    """
    try:
        status = path.lstat()
    except OSError as error:
        raise UnsafeDirectoryError(f"look at {path}: {error.strerror}") from error
    _expect_own(status, path, also_root=False)


def _expect_own(status: os.stat_result, path: Path, *, also_root: bool) -> None:
    if not stat.S_ISDIR(status.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "no directory"
        raise UnsafeDirectoryError(
            f"use {path}: it is {kind}, and a real directory is expected",
            hint="remove it, and it is made anew; or name another directory",
        )
    mine = os.geteuid()
    if status.st_uid != mine and not (also_root and status.st_uid == ROOT):
        user = Owner.of(status).name
        raise UnsafeDirectoryError(
            f"use {path}: it belongs to {user}, and the user {user_name(mine)} works here",
            hint=f"give it back: chown -R --no-dereference {user_name(mine)}: {path}"
            if status.st_uid == ROOT
            else f"run it as {user}, or name another directory",
        )
    if status.st_mode & _open_bits(mine):
        raise UnsafeDirectoryError(f"use {path}: others can write to it", hint=f"chmod go-w {path}")


def user_name(user_id: int) -> str:
    """Return a user's name, or the number as text."""
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(user_id).pw_name
    return str(user_id)


def _unsafe(path: Path, user: int, reason: str) -> UnsafeDirectoryError:
    name = user_name(user)
    return UnsafeDirectoryError(
        f"work in {path} as {name}: {reason}",
        hint=f"give it and all above it to {name}, writable by nobody else; or run this as its owner",
    )


@contextlib.contextmanager
def directory_descriptor(path: Path, *names: str) -> Iterator[int]:
    """Yield a descriptor of the directory ``path``, or of one below it that no link leads to.

    Raises OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with below(descriptor, *names) as inner:
            yield inner
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def below(directory: int, *names: str) -> Iterator[int]:
    """Yield a descriptor of a directory below that of ``directory``; no link leads there.

    Raises OSError.
    """
    descriptor = os.dup(directory)
    try:
        for name in names:
            inner = os.open(name, _OPEN_DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def own_directory(directory: int, name: str, *, path: Path, make: bool = False) -> Iterator[int]:
    """Yield a descriptor of a directory that must be this user's own, or root's.

    It is no link, and others can't write to it. ``path`` is what messages call it. With ``make`` it is
    made where it is missing. Raises UnsafeDirectoryError, FileNotFoundError and other OSErrors.
    """
    if make:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=directory)
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    _expect_own(status, path, also_root=True)
    descriptor = os.open(name, _OPEN_DIRECTORY, dir_fd=directory)
    try:
        # What was just looked at may have been exchanged.
        _expect_own(os.fstat(descriptor), path, also_root=True)
        yield descriptor
    finally:
        os.close(descriptor)


def open_plain(
    path: str | Path, *, directory: int | None = None, follow: bool = False
) -> BufferedReader:
    """Open a file for reading that is a file: no pipe, device or directory. Raises OSError.

    ``path`` may be relative to the descriptor ``directory``. With ``follow`` it may be a link to a file;
    without, it may not. Never waits for another process.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    descriptor = os.open(path, flags | (0 if follow else os.O_NOFOLLOW), dir_fd=directory)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(_NO_FILE, os.strerror(_NO_FILE))
    return open(descriptor, "rb")  # noqa: PTH123 - wraps a descriptor
