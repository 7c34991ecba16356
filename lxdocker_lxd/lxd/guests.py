"""What is inside instances: commands, files, the console."""

import json
import time
from collections.abc import Callable, Iterator, Mapping

from lxdocker_lxd.lxd.api import Api, RawAnswer
from lxdocker_lxd.lxd.calls import Command, CommandResult, FileKind, GuestFile
from lxdocker_lxd.lxd.command_run import CommandRun
from lxdocker_lxd.lxd.document import Document
from lxdocker_lxd.lxd.failures import AbsentError, RefusedError, TooLongError
from lxdocker_lxd.lxd.instance_requests import executing
from lxdocker_lxd.lxd.operations import Operations
from lxdocker_lxd.lxd.paths import under
from lxdocker_lxd.lxd.records import DEFAULT_PROJECT
from lxdocker_lxd.lxd.request import Request

_MODE_BITS = 0o7777


class LxdGuests:
    """Implements the port :class:`Guests`."""

    def __init__(
        self, api: Api, operations: Operations, *, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self._api = api
        self._operations = operations
        self._pause = pause
        incus = api.host_info.part("environment").text("server") == "incus"
        self._prefix = "X-Incus-" if incus else "X-LXD-"

    # ---- commands

    def execute(
        self, name: str, command: Command, *, project: str = DEFAULT_PROJECT
    ) -> CommandResult:
        """Run a command and wait."""
        request = executing(name, command, project)
        accepted = self._api.send(request)
        return CommandRun(self._api, self._operations, command, request.doing).finish(accepted)

    # ---- the console

    def console_log(self, name: str, *, project: str = DEFAULT_PROJECT) -> bytes:
        """What is on the console and was not read before."""
        doing = f"read the console of the instance {name} of project {project}"
        path = under("instances", name, "console")
        try:
            with self._api.read_raw(path, doing, project=project) as answer:
                return b"".join(answer.pieces)
        except RefusedError as error:
            # LXD 5.0 looks for a file without a name when the ring is empty, and for one that isn't
            # there before the first start.
            if "no such file or directory" in error.message:
                return b""
            raise

    def follow_console(
        self, name: str, *, project: str = DEFAULT_PROJECT, poll_seconds: float = 1.0
    ) -> Iterator[bytes]:
        """Yield what reaches the console until the instance stops."""
        while True:
            running = self._runs(name, project)
            yield self.console_log(name, project=project)
            if not running:
                return
            self._pause(poll_seconds)

    def _runs(self, name: str, project: str) -> bool:
        doing = f"read the state of the instance {name} of project {project}"
        answer = self._api.read(under("instances", name, "state"), doing, project=project)
        return answer.document.number("pid") > 0

    # ---- files

    def read_file(
        self,
        name: str,
        path: str,
        *,
        project: str = DEFAULT_PROJECT,
        most_bytes: int = 1 << 20,
    ) -> GuestFile:
        """A file, link or directory."""
        doing = f"read {path} in the instance {name} of project {project}"
        files = under("instances", name, "files")
        with self._api.read_raw(files, doing, project=project, path=path) as answer:
            content = _bounded(answer, most_bytes, doing)
            kind = self._kind(answer.headers)
            entries: tuple[str, ...] = ()
            if kind == "directory":
                entries, content = Document(json.loads(content)).texts("metadata"), b""
            return GuestFile(
                kind=kind,
                content=content,
                entries=entries,
                mode=int(self._header(answer.headers, "mode") or "0", 8) & _MODE_BITS,
                user_id=int(self._header(answer.headers, "uid") or "0"),
                group_id=int(self._header(answer.headers, "gid") or "0"),
            )

    def file_kind(self, name: str, path: str, *, project: str = DEFAULT_PROJECT) -> FileKind:
        """What is at a path, which is not opened."""
        doing = f"look at {path} in the instance {name} of project {project}"
        files = under("instances", name, "files")
        return self._kind(self._api.read_headers(files, doing, project=project, path=path))

    def _header(self, headers: Mapping[str, str], name: str) -> str:
        return headers.get(f"{self._prefix}{name}".lower(), "")

    def _kind(self, headers: Mapping[str, str]) -> FileKind:
        kind = self._header(headers, "type")
        if kind == "directory":
            return "directory"
        return "symlink" if kind == "symlink" else "file"

    def write_file(
        self, name: str, path: str, file: GuestFile, *, project: str = DEFAULT_PROJECT
    ) -> None:
        """Write a file or link, or make a directory."""
        headers = {
            f"{self._prefix}type": file.kind,
            f"{self._prefix}uid": str(file.user_id),
            f"{self._prefix}gid": str(file.group_id),
            "Content-Type": "application/octet-stream",
        }
        if file.kind != "symlink":
            headers[f"{self._prefix}mode"] = f"{file.mode & _MODE_BITS:04o}"
        self._operations.run(
            Request(
                method="post",
                path=under("instances", name, "files"),
                doing=f"write {path} in the instance {name} of project {project}",
                params={"project": project, "path": path},
                data=b"" if file.kind == "directory" else file.content,
                headers=headers,
            )
        )

    def delete_file(self, name: str, path: str, *, project: str = DEFAULT_PROJECT) -> None:
        """Remove a file or an empty directory."""
        doing = f"remove {path} in the instance {name} of project {project}"
        try:
            self._operations.run(
                Request(
                    method="delete",
                    path=under("instances", name, "files"),
                    doing=doing,
                    params={"project": project, "path": path},
                )
            )
        except RefusedError as error:
            if "not exist" in error.message or "no such file" in error.message:
                raise AbsentError(error.message, hint="check the path") from error
            raise


def _bounded(answer: RawAnswer, most_bytes: int, doing: str) -> bytes:
    content = bytearray()
    for piece in answer.pieces:
        content += piece
        if len(content) > most_bytes:
            raise TooLongError(f"could not {doing}: it has more than {most_bytes} bytes")
    return bytes(content)
