"""Meets each attack in a process of its own and measures what it costs.

A case's process is forked from one that has everything loaded, so that hundreds of cases take
seconds. It may take a few times the stated processor time; then the kernel ends it.
"""

import contextlib
import json
import os
import resource
import signal
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lxdocker_lxd.console import printable
from lxdocker_lxd.errors import LxdockerError
from tests.harness.snapshots import read_directory
from tests.hostile.case import HostileCase

_LONGEST_SECONDS = 120
_MB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What came of a case. ``problem`` is empty where all is as it must be."""

    outcome: str
    message: str
    seconds: float
    mb: float
    problem: str


def measured(case: HostileCase) -> Measurement:
    """Meet a case in a child process."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        place, machine = Path(name) / "work", Path(name) / "machine"
        place.mkdir()
        _furnish(machine)
        before = read_directory(machine)
        said, seconds, mb = _in_child(case, place, machine)
        problem = said.get("problem", "") or _difference(case, said["outcome"], said["message"])
        if not problem and read_directory(machine) != before:
            problem = "the host was changed"
        if not problem and seconds > case.most_seconds:
            problem = f"took {seconds:.1f} s of the processor"
        if not problem and mb > case.most_mb:
            problem = f"took {mb:.0f} MB"
    return Measurement(
        outcome=said["outcome"], message=said["message"], seconds=seconds, mb=mb, problem=problem
    )


def _furnish(machine: Path) -> None:
    """Make the things that attacks are after."""
    machine.mkdir()
    (machine / "canary").write_text("must stay\n")
    (machine / "shadow").write_text("root:secret\n")
    (machine / "shadow").chmod(0o600)
    (machine / "here").mkdir()


def _difference(case: HostileCase, outcome: str, message: str) -> str:
    if outcome != case.expected:
        return f"{outcome} instead of {case.expected}: {message}"
    if case.says not in message:
        return f"does not say {case.says!r}: {message}"
    return ""


def _in_child(case: HostileCase, place: Path, machine: Path) -> tuple[dict[str, str], float, float]:
    reader, writer = os.pipe()
    resident = _resident_bytes()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _meet(case, place, machine, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        content = b""
        with contextlib.suppress(TimeoutError), _deadline(child):
            content = stream.read()
    _, status, used = os.wait4(child, 0)
    mb = (used.ru_maxrss * 1024 - resident) / _MB
    seconds = used.ru_utime + used.ru_stime
    if not content:
        ended = f"ended by {signal.Signals(os.WTERMSIG(status)).name}" if status & 0x7F else "died"
        content = json.dumps({"outcome": ended, "message": "", "problem": ended}).encode()
    said: dict[str, str] = json.loads(content)
    return said, seconds, max(0.0, mb)


@contextlib.contextmanager
def _deadline(child: int) -> Iterator[None]:
    def late(_signal: int, _frame: object) -> None:
        os.kill(child, signal.SIGKILL)

    previous = signal.signal(signal.SIGALRM, late)
    signal.alarm(_LONGEST_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def _meet(case: HostileCase, place: Path, machine: Path, writer: int) -> None:
    """Run in the child, which never returns from here."""
    said = {"outcome": "?", "message": "", "problem": ""}
    try:
        os.chdir(machine / "here")
        limit = int(case.most_seconds * 3) + 2
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
        case.meet(place)
        said["outcome"] = "harmless"
    except LxdockerError as error:
        said["outcome"] = type(error).__name__
        said["message"] = printable(error.message)
        if case.error is not None and isinstance(error, case.error):
            said["outcome"] = case.expected
    except BaseException as error:  # noqa: BLE001 - any other end is a fault, and is told
        said["outcome"] = type(error).__name__
        said["message"] = printable(str(error))[:500]
        said["problem"] = printable("".join(traceback.format_exception(error))[-3000:])
    finally:
        os.write(writer, json.dumps(said).encode()[: 1 << 16])
        time.sleep(0)
        os._exit(0)


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
