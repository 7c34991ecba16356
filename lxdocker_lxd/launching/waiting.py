"""Until an instance is of use: its address, its health check, or its first port.

What is waited for: the image's health check where it has one; else a TCP port that the image
exposes or that was published; else an address, where there is a network.
"""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lxdocker_lxd.errors import LxdError, LxdockerError
from lxdocker_lxd.lxd.calls import Command
from lxdocker_lxd.lxd.failures import (
    AbsentError,
    BusyError,
    CommandTimedOutError,
    UnknownOutcomeError,
    WrongStateError,
)
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Instance

HEALTH_COMMAND = ("/.lxdocker/run", "--health")
STATE_PATH = "/.lxdocker/state"
_POLL_SECONDS = 0.5
_CHECK_SECONDS = 30.0
_PORT_SCRIPT = 'nc -w 1 "$1" "$2" </dev/null >/dev/null 2>&1'


class NotReadyError(LxdError):
    """The instance ended, or wasn't healthy in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Seconds that pass, and a way to let them."""

    now: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep


class Watch:
    """One instance being waited for."""

    def __init__(self, lxd: Lxd, name: str, *, project: str, clock: Clock | None = None) -> None:
        self._lxd = lxd
        self._name = name
        self._project = project
        self._clock = clock or Clock()

    def until_ready(self, *, health: bool, ports: Iterable[int], seconds: float) -> None:
        """Wait; raise NotReadyError when it ends first, or takes longer than ``seconds``."""
        first = next(iter(ports), 0)
        what = "healthy" if health else f"answering at port {first}" if first else "at its address"
        end = self._clock.now() + seconds
        while True:
            self._raise_if_ended()
            if self._ready(health=health, port=first):
                return
            if self._clock.now() >= end:
                raise NotReadyError(
                    f"{self._name} runs, but is not {what} after {seconds:g} s",
                    hint=f"lxdocker-lxd logs {self._name} shows what it says",
                )
            self._clock.pause(_POLL_SECONDS)

    def _ready(self, *, health: bool, port: int) -> bool:
        if health:
            return self._succeeds(HEALTH_COMMAND)
        address = self.address()
        if port:
            words = ("/busybox-lxd", "sh", "-c", _PORT_SCRIPT, "port")
            hosts = ("127.0.0.1", address) if address else ("127.0.0.1",)
            return any(self._succeeds((*words, host, str(port))) for host in hosts)
        return bool(address)

    def _succeeds(self, words: tuple[str, ...]) -> bool:
        command = Command(words=words, directory="/", timeout_seconds=_CHECK_SECONDS)
        try:
            result = self._lxd.guests.execute(self._name, command, project=self._project)
        except (CommandTimedOutError, BusyError, WrongStateError, UnknownOutcomeError):
            # Not known to be ready; the next look tells whether it still runs.
            return False
        return result.exit_code == 0

    def _raise_if_ended(self) -> None:
        if self._lxd.power.state(self._name, project=self._project).process_id > 0:
            return
        state = guest_state(self._lxd, self._name, project=self._project)
        code = state.get("exit_code")
        problem = state.get("problem") or (
            f"its command ended with code {code}" if code is not None else "it stopped"
        )
        raise NotReadyError(
            f"{self._name} started, and does not run any more: {problem}",
            hint=f"lxdocker-lxd logs {self._name} shows what it said",
        )

    def exit_code(self) -> int | None:
        """Return with which code its command ended, None while it runs."""
        if self._lxd.power.state(self._name, project=self._project).process_id > 0:
            return None
        code = guest_state(self._lxd, self._name, project=self._project).get("exit_code")
        return code if isinstance(code, int) else 0

    def address(self, *, seconds: float = 0.0) -> str:
        """Return its first address that others reach, IPv4 before IPv6; empty for none in time."""
        end = self._clock.now() + seconds
        while True:
            state = self._lxd.power.state(self._name, project=self._project)
            found = [one for one in state.addresses if one.scope == "global"]
            found.sort(key=lambda one: (one.family != "inet", one.interface))
            if found or self._clock.now() >= end or state.process_id <= 0:
                return found[0].address if found else ""
            self._clock.pause(_POLL_SECONDS)


def guest_state(lxd: Lxd, name: str, *, project: str) -> dict[str, object]:
    """Return the guest's own account of its command; empty where there is none."""
    try:
        file = lxd.guests.read_file(name, STATE_PATH, project=project, most_bytes=1 << 16)
        found = json.loads(file.content)
    except (LxdockerError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def existing(lxd: Lxd, name: str, *, project: str) -> Instance | None:
    """Return the instance of this name, None where there is none."""
    try:
        return lxd.instances.get(name, project=project)
    except AbsentError:
        return None
