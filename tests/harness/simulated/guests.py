"""The inside of instances of the simulated LXD: the port ``Guests``."""

import posixpath
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

from lxdocker_lxd.lxd.calls import Command, CommandResult, FileKind, GuestFile
from lxdocker_lxd.lxd.failures import (
    AbsentError,
    CommandTimedOutError,
    RefusedError,
    TooLongError,
    UnknownOutcomeError,
    WrongStateError,
)
from lxdocker_lxd.lxd.records import DEFAULT_PROJECT
from tests.harness.simulated.call_log import CallLog
from tests.harness.simulated.mounts import Mounts
from tests.harness.simulated.store import Box, Store

# For so long LXD serves the files of a stopped instance after one was asked for.
FILE_SERVER = timedelta(seconds=15)
# 128 and the number of SIGKILL.
_KILLED = 137


class SimulatedGuests:
    """Implements the port ``Guests``."""

    def __init__(self, store: Store, log: CallLog) -> None:
        self._store = store
        self._log = log

    def execute(
        self, name: str, command: Command, *, project: str = DEFAULT_PROJECT
    ) -> CommandResult:
        return self._log.made("guests.execute", name, lambda: self._execute(name, command, project))

    def _execute(self, name: str, command: Command, project: str) -> CommandResult:
        store = self._store
        box = store.box(name, project)
        if box.status != "Running" or box.started_at is None:
            raise WrongStateError(f"could not run {command.words[0]} in {name}: it is not running")
        seconds = (store.clock() - box.started_at).total_seconds()
        attaches = box.guest.behaviour.attaches_for_seconds
        if attaches is not None and seconds >= attaches:
            raise UnknownOutcomeError(
                f"could not run {command.words[0]} in {name}: LXD doesn't know how it ended"
                " (Failed to retrieve PID of executing child process)",
                hint="look again",
            )
        config = store.expanded_config(project, box.settings)
        environment = {
            key.removeprefix("environment."): value
            for key, value in config.items()
            if key.startswith("environment.")
        }
        ran = box.guest.run(command, seconds, environment, Mounts(store, box))
        store.clock.advance(min(ran.seconds, command.timeout_seconds))
        ends = box.guest.behaviour.ends_after_seconds
        if ends is not None and ends < seconds + min(ran.seconds, command.timeout_seconds):
            # Whatever runs in an instance is killed when it ends.
            return CommandResult(exit_code=_KILLED, stdout=b"", stderr=b"")
        if ran.seconds > command.timeout_seconds:
            raise CommandTimedOutError(
                f"could not run {command.words[0]} within {command.timeout_seconds:g} s",
                hint="wait",
            )
        return ran.result

    def console_log(self, name: str, *, project: str = DEFAULT_PROJECT) -> bytes:
        def act() -> bytes:
            box = self._store.box(name, project)
            told = box.guest.console
            if box.runs:
                box.guest.console = b""
            return told

        return self._log.made("guests.console_log", name, act)

    def follow_console(
        self, name: str, *, project: str = DEFAULT_PROJECT, poll_seconds: float = 1.0
    ) -> Iterator[bytes]:
        while True:
            runs = self._store.box(name, project).runs
            yield self.console_log(name, project=project)
            if not runs:
                return
            self._store.clock.advance(poll_seconds)

    # ---- files

    def read_file(
        self,
        name: str,
        path: str,
        *,
        project: str = DEFAULT_PROJECT,
        most_bytes: int = 1 << 20,
    ) -> GuestFile:
        def act() -> GuestFile:
            box = self._store.box(name, project)
            file = self._file(box, path)
            if len(file.content) > most_bytes:
                raise TooLongError(f"could not read {path}: it has more than {most_bytes} bytes")
            return file

        return self._log.made("guests.read_file", name, act)

    def file_kind(self, name: str, path: str, *, project: str = DEFAULT_PROJECT) -> FileKind:
        def act() -> FileKind:
            return self._file(self._store.box(name, project), path).kind

        return self._log.made("guests.file_kind", name, act)

    def _file(self, box: Box, path: str) -> GuestFile:
        if not box.runs:
            box.files_until = self._store.clock() + FILE_SERVER
        plain = path.rstrip("/") or "/"
        supervised = box.guest.behaviour.supervised
        if supervised is not None and box.started_at is not None:
            seconds = (self._store.clock() - box.started_at).total_seconds()
            supervised.write(box.guest.files, seconds)
        files = Mounts(self._store, box)
        held = files.get(plain)
        if held is not None and held.kind != "directory":
            return held
        below = f"{plain.rstrip('/')}/"
        entries = {
            other.removeprefix(below).partition("/")[0]
            for other in files
            if other.startswith(below) and other != below
        }
        if held is None and not entries:
            raise AbsentError(f"could not read {path} in {box.name}: not found", hint="path?")
        kept = held or GuestFile(kind="directory", mode=0o755)
        return GuestFile(
            kind="directory",
            entries=tuple(sorted(entries)),
            mode=kept.mode,
            user_id=kept.user_id,
            group_id=kept.group_id,
        )

    def write_file(
        self, name: str, path: str, file: GuestFile, *, project: str = DEFAULT_PROJECT
    ) -> None:
        def act() -> None:
            box = self._store.box(name, project)
            self._file(box, path.rpartition("/")[0] or "/")
            kept = file
            if file.kind == "symlink":
                # LXD tells a link's target from the root on, and a mode of its own.
                directory = path.rpartition("/")[0]
                target = posixpath.join(directory, file.content.decode())
                kept = replace(file, content=target.encode(), mode=0o777)
            Mounts(self._store, box)[path.rstrip("/")] = kept

        self._log.made("guests.write_file", name, act, writes=True)

    def delete_file(self, name: str, path: str, *, project: str = DEFAULT_PROJECT) -> None:
        def act() -> None:
            box = self._store.box(name, project)
            file = self._file(box, path)
            if file.entries:
                raise RefusedError(f"could not remove {path}: directory not empty")
            Mounts(self._store, box).pop(path.rstrip("/"), None)

        self._log.made("guests.delete_file", name, act, writes=True)
