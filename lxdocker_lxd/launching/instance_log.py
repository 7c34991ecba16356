"""The use case ``logs``: what an instance's command wrote, from the file that the guest keeps.

The file is ``/.lxdocker/log``, before it ``log.1``; running and stopped instances have them. An
instance without one (``user.lxdocker.log_size 0``, or an init that keeps a log itself) has only its
console.
"""

import re
import time
from collections.abc import Callable, Iterator

from lxdocker_lxd.errors import LxdockerError, VerificationError
from lxdocker_lxd.lxd.calls import Command
from lxdocker_lxd.lxd.failures import AbsentError, UnknownOutcomeError
from lxdocker_lxd.lxd.ports import Lxd

LOG_PATH = "/.lxdocker/log"
_OLDER_PATH = "/.lxdocker/log.1"
_MOST_BYTES = 1 << 30
_POLL_SECONDS = 0.5
_PIECE_BYTES = 1 << 18
_MOST_UNKNOWN = 10
# Prints the size, then what follows the offset $1, at most $2 bytes of it.
_SCRIPT = (
    'stat -c %s /.lxdocker/log 2>/dev/null || echo 0; tail -c "+$1" /.lxdocker/log | head -c "$2"'
)


class InstanceLog:
    """The log of one instance."""

    def __init__(
        self, lxd: Lxd, name: str, *, project: str, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self._lxd = lxd
        self._name = name
        self._project = project
        self._pause = pause

    def now(self) -> bytes:
        """Return all that is kept; the console's where the guest keeps nothing."""
        older, newer = self._file(_OLDER_PATH), self._file(LOG_PATH)
        if older is None and newer is None:
            return self._lxd.guests.console_log(self._name, project=self._project)
        return (older or b"") + (newer or b"")

    def _file(self, path: str) -> bytes | None:
        try:
            file = self._lxd.guests.read_file(
                self._name, path, project=self._project, most_bytes=_MOST_BYTES
            )
        except AbsentError:
            # It may be the instance that isn't there.
            self._lxd.instances.get(self._name, project=self._project)
            return None
        return file.content

    def followed(self) -> Iterator[bytes]:
        """Yield what is kept, then what is written, until the instance stops."""
        if self._file(LOG_PATH) is None:
            for piece in self._lxd.guests.follow_console(self._name, project=self._project):
                if piece:
                    yield piece
            return
        yield self._file(_OLDER_PATH) or b""
        offset, unknown = 0, 0
        while True:
            try:
                size, piece = self._piece(offset)
                unknown = 0
            except LxdockerError as error:
                # It has stopped, perhaps just now: what is left is in the file.
                if self._runs():
                    unknown += 1
                    if not isinstance(error, UnknownOutcomeError) or unknown > _MOST_UNKNOWN:
                        raise
                    # It ends just now.
                    self._pause(_POLL_SECONDS)
                    continue
                rest = self._file(LOG_PATH) or b""
                yield rest[offset if len(rest) >= offset else 0 :]
                return
            if size < offset:
                # A new file was begun; the end of the one before is in the older one.
                yield (self._file(_OLDER_PATH) or b"")[offset:]
                offset = 0
                continue
            offset += len(piece)
            if piece:
                yield piece
            else:
                self._pause(_POLL_SECONDS)

    def _piece(self, offset: int) -> tuple[int, bytes]:
        words = ("/busybox-lxd", "sh", "-c", _SCRIPT, "log", str(offset + 1), str(_PIECE_BYTES))
        command = Command(words=words, directory="/", output_bytes=_PIECE_BYTES + 64)
        result = self._lxd.guests.execute(self._name, command, project=self._project)
        size, _, piece = result.stdout.partition(b"\n")
        # A command that was killed says nothing; the programs are those of the instance's root.
        if not re.fullmatch(rb"[0-9]{0,18}", size):
            raise VerificationError(
                f"follow the log of {self._name}: the instance's programs say no size of it",
                hint="look at /busybox-lxd in the instance; `logs` without --follow needs no program",
            )
        return int(size or 0), piece

    def _runs(self) -> bool:
        return self._lxd.power.state(self._name, project=self._project).process_id > 0
