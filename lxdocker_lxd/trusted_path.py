"""Whether a program may be run with root's rights: nobody else could have put it there."""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.ownership import ROOT, foreign_hand, way_to

_HINT = "it and its directory must belong to root and not be writable by others"


class UntrustedFileError(UsageError):
    """A file that somebody besides root could have written, or one that isn't there."""


def check_trusted(path: Path, *, owner: int = ROOT, executable: bool = False) -> None:
    """Raise UntrustedFileError unless only root, or the user ``owner``, can change the file.

    The file and its directory must be owned by them and not writable by group or others; so must
    everything above and each symbolic link on the way, except that directories above may be
    sticky, like ``/tmp``.
    """
    if not path.is_absolute() or ".." in path.parts:
        raise _untrusted(path, "an absolute path without .. is expected")
    try:
        real = path.resolve(strict=True)
        _check_way(path, real, owner)
        mode = real.stat().st_mode
    except (OSError, RuntimeError) as error:
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(mode):
        raise _untrusted(path, "it is no file")
    if executable and not mode & stat.S_IXUSR:
        raise _untrusted(path, "it isn't executable")


def check_trusted_trees(directories: Iterable[Path], *, owner: int = ROOT) -> None:
    """Raise UntrustedFileError unless only root, or ``owner``, can change anything below.

    What links lead to counts as well. For what doesn't exist, it is who could make it that counts.
    """
    waiting = list(directories)
    seen: set[str] = set()
    while waiting:
        path = waiting.pop()
        try:
            real = os.path.realpath(path)
            _check_way(path, Path(real), owner)
            waiting += _links_below(real, seen, owner)
        except OSError as error:
            raise _unreadable(path, error) from error


def _links_below(top: str, seen: set[str], owner: int) -> Iterator[Path]:
    """Check what is below a directory that is checked itself; yield the links found there."""
    waiting = [top] if Path(top).is_dir() else []
    while waiting:
        directory = waiting.pop()
        if directory in seen:
            continue
        seen.add(directory)
        with os.scandir(directory) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                _check(entry.path, status, owner, near=True, of=entry.path)
                if stat.S_ISLNK(status.st_mode):
                    yield Path(entry.path)
                elif stat.S_ISDIR(status.st_mode):
                    waiting.append(entry.path)


def _check_way(path: Path, real: Path, owner: int) -> None:
    near = {path, path.parent, real, real.parent}
    for place in way_to(path):
        try:
            status = place.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        _check(place, status, owner, near=place in near, of=path)


def _check(
    place: str | Path, status: os.stat_result, owner: int, *, near: bool, of: str | Path
) -> None:
    open_bits = stat.S_IWGRP | stat.S_IWOTH
    if fault := foreign_hand(place, status, owner, open_bits=open_bits, near=near):
        raise _untrusted(of, fault)


def _unreadable(path: Path, error: Exception) -> UntrustedFileError:
    known = isinstance(error, OSError) and error.errno
    return _untrusted(path, os.strerror(known) if known else str(error))


def _untrusted(path: str | Path, reason: str) -> UntrustedFileError:
    return UntrustedFileError(f"use {path}: {reason}", hint=_HINT)
