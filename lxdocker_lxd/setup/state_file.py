"""Setup's state file: what was done, on disk before and after each step.

Only root can read it. The directories made for it are recorded in it and go with it, if they are
empty then.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from lxdocker_lxd import atomic
from lxdocker_lxd.ownership import expect_closed_for_root
from lxdocker_lxd.setup.record import SetupState, decode, encode

_MODE = 0o600


class StateFile:
    """Implements :class:`StateKeeper` with one file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> SetupState:
        """Return the state; an empty one when there is no file. Raises LxdockerError."""
        # What it says was made is taken back with root's rights.
        expect_closed_for_root(self.path)
        try:
            text = self.path.read_text("utf-8")
        except FileNotFoundError:
            return SetupState()
        except OSError as error:
            raise atomic.storage_error("read what setup did from", self.path, error) from error
        return decode(text, file=str(self.path))

    @contextlib.contextmanager
    def locked(self, on_wait: atomic.OnWait | None = None) -> Iterator[SetupState]:
        """Hold the file for one run and yield the state. Raises LxdockerError.

        Another run is waited for, an hour at most; ``on_wait`` hears who that is.
        """
        missing = [path for path in reversed(self.path.parents) if not path.exists()]
        for path in missing:
            atomic.make_directory(path)
        with atomic.locked(self._lock, on_wait=on_wait, wait_seconds=atomic.RUN_SECONDS):
            atomic.sweep(self.path.parent)
            state = self.read()
            if missing:
                made = tuple(str(path) for path in missing)
                state = replace(state, directories=(*state.directories, *made))
                self.save(state)
            yield state

    @property
    def _lock(self) -> Path:
        return self.path.with_name(f".{self.path.name}.lock")

    def save(self, state: SetupState) -> None:
        """Keep ``state``, on disk before this returns; raise StorageError."""
        atomic.write(self.path, encode(state).encode(), mode=_MODE)

    def remove(self, state: SetupState) -> tuple[str, ...]:
        """Remove the file and the directories made for it; return those that aren't empty."""
        left: list[str] = []
        try:
            self.path.unlink(missing_ok=True)
            self._lock.unlink(missing_ok=True)
        except OSError as error:
            raise atomic.storage_error("remove", self.path, error) from error
        for path in reversed(state.directories):
            try:
                Path(path).rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                left.append(path)
        return tuple(left)
