"""The image server as a process of its own, for as long as setup needs it. The one door to it.

It is the command that a user runs, so what works here works there.
"""

import contextlib
import os
import selectors
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from lxdocker_lxd.errors import ToolError

_START_SECONDS = 30.0
_STOP_SECONDS = 10.0


@contextlib.contextmanager
def serving(
    command: Sequence[str],
    flags: Sequence[str],
    log: Path,
    environment: dict[str, str] | None = None,
) -> Iterator[None]:
    """Serve during the block; raise ToolError with the server's own words when it doesn't start."""
    with log.open("wb") as errors:
        process = subprocess.Popen(
            (*_dying_with_us(), *command, "serve", *flags, "--stop-timeout", "1"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=_without_systemd(os.environ if environment is None else environment),
        )
        with process:
            try:
                _wait_until_it_serves(process, log)
                yield
            finally:
                process.terminate()
                try:
                    process.wait(_STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()


def _dying_with_us() -> tuple[str, ...]:
    """Return what to start a program with that shall not outlive this one, even killed (prctl(2))."""
    found = shutil.which("setpriv")
    return (found, "--pdeathsig", "KILL", "--") if found else ()


def _without_systemd(environment: "os._Environ[str] | dict[str, str]") -> dict[str, str]:
    """Return the environment without what this process was told about its own sockets."""
    ours = ("LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_")
    return {key: value for key, value in environment.items() if not key.startswith(ours)}


def _wait_until_it_serves(process: "subprocess.Popen[bytes]", log: Path) -> None:
    if process.stdout is None:
        raise AssertionError("it was started with a pipe")
    until = time.monotonic() + _START_SECONDS
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.select(until - time.monotonic())
        if process.stdout.readline() if selector.select(0) else b"":
            return
    said = log.read_text("utf-8", errors="replace").strip()
    raise ToolError(f"start the image server for a test: {said or 'it says nothing'}")
