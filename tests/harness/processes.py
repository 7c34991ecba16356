"""Programs, and what they leave behind: processes, mounts and bridges of this machine.

Nothing here is found by a program's name alone: a process counts as ours when its arguments or
its environment name our own directory, so other daemons on the machine are never touched.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TypeVar

Found = TypeVar("Found")


def run(
    *arguments: str | Path,
    check: bool = True,
    env: Mapping[str, str] | None = None,
    text_input: str | None = None,
    timeout_seconds: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run a program; with ``check`` a failure raises AssertionError that shows its output."""
    completed = subprocess.run(
        [str(argument) for argument in arguments],
        check=False,
        env=env,
        input=text_input or "",
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=timeout_seconds,
    )
    if check and completed.returncode != 0:
        shown = " ".join(str(argument)[:200] for argument in arguments)
        raise AssertionError(
            f"{shown}: exit {completed.returncode}\n{completed.stdout}\n{completed.stderr}",
        )
    return completed


def eventually(look: Callable[[], Found], *, timeout_seconds: float, what: str) -> Found:
    """Call ``look`` until it answers something true; AssertionError naming ``what`` otherwise."""
    end = time.monotonic() + timeout_seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout_seconds:g} s for {what}; last answer: {found!r}")
        time.sleep(0.1)


def start_time(process_id: int) -> str:
    """When a process began, in clock ticks since boot; empty when it is gone or a zombie."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{process_id}/stat").read_bytes().rpartition(b")")[2].split()
        return "" if fields[0] == b"Z" else fields[19].decode()
    return ""


def _mentions(process_id: int, directory: Path) -> bool:
    needle = os.fsencode(directory)
    for name in ("cmdline", "environ"):
        with contextlib.suppress(OSError):
            content = Path(f"/proc/{process_id}/{name}").read_bytes()
            found = content.find(needle)
            while found >= 0:
                after = content[found + len(needle) : found + len(needle) + 1]
                # "/tmp/ab" must not claim the processes of "/tmp/abc".
                if after in {b"", b"\0", b"/", b":", b" "}:
                    return True
                found = content.find(needle, found + 1)
    return False


def _ancestors(process_id: int) -> set[int]:
    seen: set[int] = set()
    while process_id > 1 and process_id not in seen:
        seen.add(process_id)
        try:
            stat = Path(f"/proc/{process_id}/stat").read_bytes()
        except OSError:
            break
        process_id = int(stat.rpartition(b")")[2].split()[1])
    return seen


def _children() -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_bytes().rpartition(b")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    return children


def processes_of(directory: Path) -> set[int]:
    """Processes whose arguments or environment name ``directory``, and what they started.

    A container's own processes know nothing of the directory; they are found as descendants of
    their monitor. The calling process and its ancestors are never part of the answer.
    """
    own = _ancestors(os.getpid())
    children = _children()
    pending = [
        process_id
        for ids in children.values()
        for process_id in ids
        if process_id not in own and _mentions(process_id, directory)
    ]
    found: set[int] = set()
    while pending:
        process_id = pending.pop()
        if process_id not in found and process_id not in own and start_time(process_id):
            found.add(process_id)
            pending += children.get(process_id, [])
    return found


def end_processes_of(directory: Path, *, patience_seconds: float = 5) -> None:
    """End every process of ``directory``: SIGTERM, then SIGKILL to what is left."""
    known: dict[int, str] = {}
    for number in (signal.SIGTERM, signal.SIGKILL):
        known |= {process_id: start_time(process_id) for process_id in processes_of(directory)}
        for process_id, began in known.items():
            # A number may have been given to somebody else meanwhile.
            if began and start_time(process_id) == began:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process_id, number)
        end = time.monotonic() + patience_seconds
        while time.monotonic() < end and any(
            began and start_time(process_id) == began for process_id, began in known.items()
        ):
            time.sleep(0.05)


def mounts_under(directory: Path) -> list[str]:
    """Mount points at or below ``directory`` in our mount namespace, deepest last mounted first."""
    below = str(directory).rstrip("/") + "/"
    points = []
    for line in Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines():
        point = line.split()[4].encode().decode("unicode_escape")
        if point == str(directory) or point.startswith(below):
            points.append(point)
    return points[::-1]


def unmount_under(directory: Path) -> None:
    """Take away every mount at or below ``directory``."""
    for point in mounts_under(directory):
        run("umount", "-l", point, check=False)


def bridges() -> set[str]:
    """Names of the machine's bridges."""
    return {entry.name for entry in Path("/sys/class/net").iterdir() if (entry / "bridge").is_dir()}


def links_on(names: Collection[str]) -> set[str]:
    """Names of the links that are ports of these bridges: a running container has one each."""
    listed = json.loads(run("ip", "-j", "link", "show", "type", "veth", check=False).stdout or "[]")
    return {link["ifname"] for link in listed if link.get("master") in names}


def networks_in_use() -> list[str]:
    """Subnets this machine already routes or has an address in, as ``a.b.c.d/n``."""
    routes = json.loads(run("ip", "-j", "-4", "route", "show", "table", "all").stdout or "[]")
    return [route["dst"] for route in routes if route.get("dst", "default") != "default"]
