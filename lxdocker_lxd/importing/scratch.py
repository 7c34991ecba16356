"""A directory for large temporary files, which goes with its block; a killed process's goes with the next.

Each is locked while it is used, and nobody else can look or write there.
"""

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lxdocker_lxd import atomic

_PREFIX = "lxdocker-chain-"
_LOCK = ".lock"


@contextlib.contextmanager
def scratch_directory(parent: Path) -> Iterator[Path]:
    """Yield a new directory in ``parent``, after removing forgotten ones; raise StorageError."""
    try:
        _sweep(parent)
        made = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    except OSError as error:
        raise atomic.storage_error("write into", parent, error) from error
    try:
        lock = atomic.open_lock(made / _LOCK)
        try:
            atomic.try_exclusive(lock)
            yield made
        finally:
            os.close(lock)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _sweep(parent: Path) -> None:
    for path in parent.glob(f"{_PREFIX}*"):
        # Anybody may write into the parent: only what is our own, and no link, is opened.
        found = path.lstat()
        if found.st_uid != os.geteuid() or not stat.S_ISDIR(found.st_mode):
            continue
        # Without a lock file somebody else is just making it.
        if not (path / _LOCK).exists():
            continue
        lock = atomic.open_lock(path / _LOCK)
        try:
            if atomic.try_exclusive(lock):
                shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(lock)
