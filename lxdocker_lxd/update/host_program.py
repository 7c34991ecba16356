"""The door to programs on the host: one run, bounded in time and output, that leaves nothing behind."""

import contextlib
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO

from lxdocker_lxd.errors import ToolError

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PIECE_BYTES = 1 << 16
_SLICE_SECONDS = 1.0


class ProgramMissingError(ToolError):
    """A program that can't be started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramRun:
    """How a program ended: ``exit_code`` 128 + N for the signal N; ``output`` is both its outputs."""

    exit_code: int
    output: bytes
    timed_out: bool = False


def run_program(
    words: tuple[str, ...],
    *,
    environment: Mapping[str, str],
    timeout_seconds: float,
    stdin: bytes = b"",
    output_bytes: int = 1 << 14,
    heartbeat: Callable[[], None] = lambda: None,
) -> ProgramRun:
    """Run a program in a session of its own; raise ProgramMissingError.

    It gets ``environment``, a fixed PATH and nothing else of ours. After ``timeout_seconds``, and
    also when it has ended, everything left of its process group is killed. ``heartbeat`` is called
    about each second meanwhile.
    """
    with tempfile.TemporaryFile() as given:
        given.write(stdin)
        given.seek(0)
        try:
            process = subprocess.Popen(
                words,
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={"PATH": _PATH, "LANG": "C.UTF-8", **environment},
                cwd="/",
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise ProgramMissingError(
                f"start {words[0]}: {error}", hint="check the path and its first line"
            ) from error
    if process.stdout is None:  # a pipe was asked for
        raise ProgramMissingError(f"start {words[0]}: it has no output")
    with process.stdout as output:
        os.set_blocking(output.fileno(), False)
        kept = _Kept(output_bytes)
        timed_out = True
        try:
            timed_out = not _wait(process, output, kept, timeout_seconds, heartbeat)
        finally:
            # Before the process is reaped: until then nobody else can get its group's number.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
        kept.drain(output)
    return ProgramRun(
        exit_code=128 - code if code < 0 else code, output=bytes(kept.data), timed_out=timed_out
    )


class _Kept:
    """The first bytes of an output; the rest is read and dropped."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self.data = bytearray()

    def take(self, output: IO[bytes]) -> bool:
        """Read once; return whether more may come."""
        try:
            piece = os.read(output.fileno(), _PIECE_BYTES)
        except BlockingIOError:
            return True
        self.data += piece[: self._most_bytes - len(self.data)]
        return bool(piece)

    def drain(self, output: IO[bytes]) -> None:
        """Read what is there, of what was written before the end."""
        with contextlib.suppress(BlockingIOError):
            while len(self.data) < self._most_bytes:
                piece = os.read(output.fileno(), _PIECE_BYTES)
                if not piece:
                    return
                self.data += piece[: self._most_bytes - len(self.data)]


def _wait(
    process: subprocess.Popen[bytes],
    output: IO[bytes],
    kept: _Kept,
    timeout_seconds: float,
    heartbeat: Callable[[], None],
) -> bool:
    """Read until the process ends, and return True, or until its time is over."""
    deadline = time.monotonic() + timeout_seconds
    ended = os.pidfd_open(process.pid)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(ended, selectors.EVENT_READ)
            selector.register(output, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0:
                heartbeat()
                ready = {key.fd for key, _ in selector.select(min(left, _SLICE_SECONDS))}
                if output.fileno() in ready and not kept.take(output):
                    selector.unregister(output)
                if ended in ready:
                    return True
            return False
    finally:
        os.close(ended)
