"""Whether a program may be run with the updater's rights: nobody else could have put it there."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from lxdocker_lxd.errors import UsageError

ROOT = 0
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


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
        for place in {*_chain(path), *_chain(real)}:
            _check(
                place, near=place in (path, path.parent, real, real.parent), owner=owner, path=path
            )
        mode = real.stat().st_mode
    except (OSError, RuntimeError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        raise _untrusted(path, str(reason)) from error
    if not stat.S_ISREG(mode):
        raise _untrusted(path, "it is no file")
    if executable and not mode & stat.S_IXUSR:
        raise _untrusted(path, "it isn't executable")


def _chain(path: Path) -> Iterator[Path]:
    yield path
    yield from path.parents


def _check(place: Path, *, near: bool, owner: int, path: Path) -> None:
    status = place.lstat()
    if status.st_uid not in {ROOT, owner}:
        raise _untrusted(path, f"{place} is owned by the user {status.st_uid}")
    if stat.S_ISLNK(status.st_mode):
        return
    sticky = bool(status.st_mode & stat.S_ISVTX) and not near
    if status.st_mode & _WRITABLE_BY_OTHERS and not sticky:
        raise _untrusted(path, f"{place} is writable by others")


def _untrusted(path: Path, reason: str) -> UntrustedFileError:
    return UntrustedFileError(
        f"use {path}: {reason}",
        hint="it and its directory must belong to root and not be writable by others",
    )
