"""Hands for directories and files.

Files are replaced whole. In a user's home everything is done with that user's rights.
"""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path, PurePath

from lxdocker_lxd import atomic
from lxdocker_lxd.convert.store import is_of_cache
from lxdocker_lxd.errors import StorageError
from lxdocker_lxd.ownership import below, directory_descriptor, open_plain
from lxdocker_lxd.setup.accounts import Accounts
from lxdocker_lxd.setup.item import Value

CHANGED = "changed by somebody since"
_MOVE = "see what it is, and move it away"
IsOwn = Callable[[PurePath, os.stat_result], bool]
_MOST_LEVELS = 8
MOST_BYTES = 1 << 20
"""More than any certificate, unit, or configuration of a client needs."""


def read_text(path: Path, *, most_bytes: int = MOST_BYTES) -> str | None:
    """Return a file's text, odd bytes included; None when there is none.

    It may be a user's: a link is followed with that user's rights, and what is no plain file, or is
    larger than ``most_bytes``, isn't read. Raises StorageError for those.
    """
    try:
        with open_plain(path, follow=True) as file:
            content = file.read(most_bytes + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise StorageError(f"read {path}: it is no plain file", hint=_MOVE) from error
        raise atomic.storage_error("read", path, error) from error
    if len(content) > most_bytes:
        raise StorageError(f"read {path}: it is larger than {most_bytes >> 20} MiB", hint=_MOVE)
    return content.decode("utf-8", "surrogateescape")


def write_text(path: Path, text: str, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Replace a file; its owner is ``owner`` before its name appears. Raises StorageError."""
    with atomic.replacing(path, mode=mode) as file:
        if owner is not None and os.geteuid() == 0:
            os.fchown(file.fileno(), *owner)
        file.write(text.encode("utf-8", "surrogateescape"))


def sweep(directory: Path) -> None:
    """Remove what killed writers left in a directory; raise StorageError."""
    if directory.is_dir():
        atomic.sweep(directory)


def remove(path: Path) -> None:
    """Remove a file, if it is there; raise StorageError."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise atomic.storage_error("remove", path, error) from error


def mode_of(path: Path) -> str | None:
    """Return the mode as four octal digits; None when there is nothing."""
    try:
        return f"{stat.S_IMODE(path.stat().st_mode):04o}"
    except OSError:
        return None


class Directories:
    """Directories. One with something of others in it is never removed."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def look(self, name: str, wanted: Value) -> Value | None:
        """Return mode and owner, or who it was made as."""
        path = Path(name)
        with self._accounts.acting_as(wanted.get("as", "")):
            try:
                status = path.stat()
            except OSError:
                return None
        if not stat.S_ISDIR(status.st_mode):
            return {"mode": "file"}
        mode = f"{stat.S_IMODE(status.st_mode):04o}"
        if "holds" in wanted:
            return {"mode": mode, "owner": self._accounts.owner(status), "holds": wanted["holds"]}
        if "as" in wanted:
            return {"mode": mode, "as": self._accounts.name_of(status.st_uid)}
        return {"mode": mode, "owner": self._accounts.owner(status)}

    def make(self, name: str, wanted: Value) -> None:
        """Make the directory with mode and owner, or give them to the one that is there."""
        path = Path(name)
        with self._accounts.acting_as(wanted.get("as", "")):
            atomic.make_directory(path, mode=0o700)
            self._give(path, wanted)

    def _give(self, path: Path, wanted: Value) -> None:
        try:
            if "owner" in wanted and os.geteuid() == 0:
                os.chown(path, *self._accounts.ids(wanted["owner"]))
            path.chmod(int(wanted["mode"], 8))
            atomic.sync_directory(path.parent)
        except OSError as error:
            raise atomic.storage_error("give mode and owner to", path, error) from error

    def take_back(self, name: str, after: Value, before: Value | None) -> str:
        """Remove the directory if it is empty, or give back its mode and owner."""
        path = Path(name)
        with self._accounts.acting_as(after.get("as", "")):
            if before is not None:
                self._give(path, before)
                return ""
            return _removed(path, after.get("holds", ""))


def _removed(path: Path, holds: str) -> str:
    """Remove a directory; return why it had to stay.

    A cache goes with all that is the cache's, the directory of images with locks and empty directories.
    What is of others stays, and no link is followed: the directory may belong to somebody else.
    """
    is_own = _OWN.get(holds, _OWN[""])
    try:
        with directory_descriptor(path) as descriptor:
            others = _others(descriptor, PurePath(), is_own)
            if not others or holds == "cache":
                others = _others(descriptor, PurePath(), is_own, remove=True)
        if others:
            what = {"images": "files", "cache": "entries of others"}.get(holds, "entries")
            return f"{others} {what} are in it"
        path.rmdir()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise atomic.storage_error("remove directory", path, error) from error
    return ""


def _others(directory: int, place: PurePath, is_own: IsOwn, *, remove: bool = False) -> int:
    """Return how many entries below a directory aren't its own; ``remove`` all that are."""
    count = 0
    for name in os.listdir(directory):
        inner = place / name
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if not is_own(inner, status):
            count += 1
        elif not stat.S_ISDIR(status.st_mode):
            if remove:
                os.unlink(name, dir_fd=directory)
        else:
            with below(directory, name) as descriptor:
                found = _others(descriptor, inner, is_own, remove=remove)
            count += found
            if remove and not found:
                os.rmdir(name, dir_fd=directory)
    return count


def _is_of_cache(place: PurePath, status: os.stat_result) -> bool:
    is_directory = stat.S_ISDIR(status.st_mode)
    return (is_directory or stat.S_ISREG(status.st_mode)) and is_of_cache(
        place, directory=is_directory
    )


def _is_empty(place: PurePath, status: os.stat_result) -> bool:
    """Whether it is a directory, not endlessly deep, or a lock."""
    if stat.S_ISDIR(status.st_mode):
        return len(place.parts) <= _MOST_LEVELS
    return stat.S_ISREG(status.st_mode) and place.name.endswith(".lock") and status.st_size == 0


_OWN: dict[str, IsOwn] = {
    "": lambda _, __: False,
    "images": _is_empty,
    "cache": _is_of_cache,
}


class Files:
    """Files whose content is known beforehand; ``on_change`` hears of each that was changed."""

    def __init__(self, accounts: Accounts, on_change: Callable[[Path], None] | None = None) -> None:
        self._accounts = accounts
        self._on_change = on_change or (lambda _: None)

    def look(self, name: str, wanted: Value) -> Value | None:  # noqa: ARG002 - of the protocol
        """Return content, mode and owner."""
        path = Path(name)
        content = read_text(path)
        if content is None:
            return None
        return {
            "content": content,
            "mode": mode_of(path) or "",
            "owner": self._accounts.owner(path.stat()),
        }

    def make(self, name: str, wanted: Value) -> None:
        """Replace the file."""
        path = Path(name)
        sweep(path.parent)
        owner = self._accounts.ids(wanted["owner"])
        write_text(path, wanted["content"], int(wanted["mode"], 8), owner)
        self._on_change(path)

    def take_back(self, name: str, after: Value, before: Value | None) -> str:
        """Remove the file, or bring back what it was, unless somebody changed it."""
        path = Path(name)
        sweep(path.parent)
        now = self.look(name, after)
        if now not in (None, after, before):
            return CHANGED
        if before is None:
            remove(path)
        else:
            self.make(name, before)
        self._on_change(path)
        return ""


class Copies:
    """Copies of a file that setup made, as the local CA's certificate."""

    def __init__(self, accounts: Accounts, on_change: Callable[[bool], None] | None = None) -> None:
        self._accounts = accounts
        self._on_change = on_change or (lambda _: None)

    def look(self, name: str, wanted: Value) -> Value | None:
        """Return what is wanted if the content is the same, else the content."""
        with self._accounts.acting_as(wanted.get("as", "")):
            content = read_text(Path(name))
        if content is None:
            return None
        if content == read_text(Path(wanted["of"])):
            return wanted
        mode = mode_of(Path(name)) or wanted["mode"]
        return {"content": content, "mode": mode}

    def make(self, name: str, wanted: Value) -> None:
        """Write the copy."""
        self._write(name, read_text(Path(wanted["of"])) or "", wanted["mode"], wanted)
        self._on_change(True)  # noqa: FBT003 - "it is there now"

    def _write(self, name: str, content: str, mode: str, wanted: Value) -> None:
        with self._accounts.acting_as(wanted.get("as", "")):
            sweep(Path(name).parent)
            write_text(Path(name), content, int(mode, 8))

    def take_back(self, name: str, after: Value, before: Value | None) -> str:
        """Remove the copy, or bring back what was there."""
        now = self.look(name, after)
        if now not in (None, after, before):
            return CHANGED
        if before is not None:
            self._write(name, before["content"], before["mode"], after)
            return ""
        with self._accounts.acting_as(after.get("as", "")):
            sweep(Path(name).parent)
            remove(Path(name))
        self._on_change(False)  # noqa: FBT003 - "it is gone now"
        return ""
