"""One command inside an instance, over LXD's four websockets: input, two outputs, control.

The outputs are read in threads of their own until LXD marks their end; so a command that talks much
is never held up, and memory holds no more than asked for. LXD's other way, recording to files, has no
bound and can't be ended.
"""

import contextlib
import json
import threading
from collections.abc import Sequence

from lxdocker_lxd.lxd.api import Answer, Api
from lxdocker_lxd.lxd.calls import Command, CommandResult
from lxdocker_lxd.lxd.document import Document
from lxdocker_lxd.lxd.failures import (
    CommandTimedOutError,
    ConnectionLostError,
    NoAnswerError,
    UnknownOutcomeError,
)
from lxdocker_lxd.lxd.operations import Operations
from lxdocker_lxd.lxd.websocket import LxdWebsocket

_STDIN, _STDOUT, _STDERR, _CONTROL = "0", "1", "2", "control"
_KILL = 9
_AFTERWARDS_SECONDS = 5.0
_PIECE_BYTES = 1 << 15


class _Output:
    """The first bytes of one output; ``ended`` is set when LXD says that no more come."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._kept = bytearray()
        self.truncated = False
        self.ended = threading.Event()

    def take(self, data: bytes, is_text: bool) -> None:
        if not data:
            # An empty text message is LXD's end of a stream; empty binary ones mean nothing.
            if is_text:
                self.ended.set()
            return
        room = self._most_bytes - len(self._kept)
        self._kept += data[:room]
        self.truncated = self.truncated or len(data) > room

    @property
    def kept(self) -> bytes:
        return bytes(self._kept)


class CommandRun:
    """A command that LXD has accepted and that starts when its websockets are connected."""

    def __init__(self, api: Api, operations: Operations, command: Command, doing: str) -> None:
        self._api = api
        self._operations = operations
        self._command = command
        self._doing = doing
        self._outputs = {
            _STDOUT: _Output(command.output_bytes),
            _STDERR: _Output(command.output_bytes),
        }
        self._sockets: dict[str, LxdWebsocket] = {}
        self._readers: list[threading.Thread] = []

    def finish(self, accepted: Answer) -> CommandResult:
        """Feed, watch and end the command; what ``Guests.execute`` promises."""
        secrets = accepted.document.part("metadata").part("fds")
        try:
            # The control connection first: LXD kills the command when it breaks.
            for name in (_CONTROL, _STDOUT, _STDERR, _STDIN):
                self._connect(accepted.operation, name, secrets)
            self._feed()
            ended = self._watch(accepted.operation)
            # LXD says no end of outputs that it never had.
            if _exit_code(ended) is not None:
                self._drain(_AFTERWARDS_SECONDS)
        finally:
            for websocket in self._sockets.values():
                websocket.end()
            for reader in self._readers:
                reader.join(_AFTERWARDS_SECONDS)
        return self._result(ended)

    def _connect(self, operation: str, name: str, secrets: Document) -> None:
        output = self._outputs.get(name)
        websocket = self._api.operation_socket(
            operation, secrets.text(name), output.take if output else None
        )
        websocket.connect()
        self._sockets[name] = websocket
        reader = threading.Thread(
            target=_read, args=(websocket, output), name=f"lxd-exec-{name}", daemon=True
        )
        reader.start()
        self._readers.append(reader)

    def _feed(self) -> None:
        data = self._command.stdin
        # A command that ends without reading closes its input early.
        with contextlib.suppress(OSError, RuntimeError):
            for start in range(0, len(data), _PIECE_BYTES):
                self._sockets[_STDIN].send(data[start : start + _PIECE_BYTES], binary=True)
            self._sockets[_STDIN].send(b"", binary=False)

    def _watch(self, operation: str) -> Document:
        seconds = self._command.timeout_seconds
        try:
            return self._operations.end_of(operation, self._doing, timeout_seconds=seconds)
        except NoAnswerError as error:
            self._kill()
            with contextlib.suppress(NoAnswerError):
                self._operations.end_of(operation, self._doing, timeout_seconds=_AFTERWARDS_SECONDS)
            raise CommandTimedOutError(
                f"could not {self._doing} within {seconds:g} s; the command was killed",
                hint="give it more time, or look why it hangs",
            ) from error

    def _kill(self) -> None:
        order = json.dumps({"command": "signal", "signal": _KILL})
        with contextlib.suppress(OSError, RuntimeError):
            self._sockets[_CONTROL].send(order, binary=False)

    def _drain(self, seconds: float) -> None:
        for output in self._outputs.values():
            output.ended.wait(seconds)

    def _result(self, ended: Document) -> CommandResult:
        exit_code = _exit_code(ended)
        if exit_code is None:
            said = ended.text("err") or "LXD gives no reason"
            raise UnknownOutcomeError(
                f"could not {self._doing}: LXD doesn't know how it ended ({said})",
                hint="the instance may have ended meanwhile; look at it and try again",
            )
        lost: Sequence[str] = [
            name for name, out in self._outputs.items() if not out.ended.is_set()
        ]
        if lost and exit_code == 0:
            raise ConnectionLostError(
                f"could not {self._doing}: it ended well, but its output broke off",
                hint="try again",
            )
        out, err = self._outputs[_STDOUT], self._outputs[_STDERR]
        return CommandResult(
            exit_code=exit_code,
            stdout=out.kept,
            stderr=err.kept,
            truncated=out.truncated or err.truncated,
        )


def _exit_code(ended: Document) -> int | None:
    """Return the command's exit code; None when LXD doesn't know it.

    LXD writes -1 when it could not attach to the instance, as to one that ends just now, and when
    it lost sight of the process. Nothing at all is there when it was asked to end the operation.
    """
    metadata = ended.part("metadata")
    if "return" not in metadata or metadata.number("return") < 0:
        return None
    return metadata.number("return")


def _read(websocket: LxdWebsocket, output: _Output | None) -> None:
    websocket.read_to_end()
    # A connection that LXD has closed has told all there is.
    if output is not None and not websocket.trouble:
        output.ended.set()
