"""Until an instance is of use: its address, its health check, or its first port.

What is waited for: the health check where there is one; else a TCP port that the image
exposes or that was published; else an address, where there is a network.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lxdocker_lxd.errors import LxdError
from lxdocker_lxd.guest_health import HEALTH_COMMAND, Health, has_health_check, health_of
from lxdocker_lxd.guest_state import read_guest_state
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
        """Wait; raise NotReadyError when it ends first, or takes longer than ``seconds``.

        ``health``: whether its image has a health check; the instance's own key decides before that.
        """
        first = next(iter(ports), 0)
        instance = self._lxd.instances.get(self._name, project=self._project)
        health = has_health_check(instance.expanded_config, image=health)
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
            code = self._exit_code_of(HEALTH_COMMAND)
            found = Health.UNKNOWN if code is None else health_of(code, check=True)
            if found is not Health.NONE:
                return found is Health.HEALTHY
        address = self.address()
        if port:
            words = ("/busybox-lxd", "sh", "-c", _PORT_SCRIPT, "port")
            hosts = ("127.0.0.1", address) if address else ("127.0.0.1",)
            return any(self._exit_code_of((*words, host, str(port))) == 0 for host in hosts)
        return bool(address)

    def _exit_code_of(self, words: tuple[str, ...]) -> int | None:
        """Run a command; None when it can't be run now, or hangs."""
        command = Command(words=words, directory="/", timeout_seconds=_CHECK_SECONDS)
        try:
            result = self._lxd.guests.execute(self._name, command, project=self._project)
        except (CommandTimedOutError, BusyError, WrongStateError, UnknownOutcomeError):
            # Not known to be ready; the next look tells whether it still runs.
            return None
        return result.exit_code

    def _raise_if_ended(self) -> None:
        if self._lxd.power.state(self._name, project=self._project).process_id > 0:
            return
        state = read_guest_state(self._lxd, self._name, project=self._project)
        code = state.exit_code
        problem = state.problem or (
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
        return read_guest_state(self._lxd, self._name, project=self._project).exit_code or 0

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


def existing(lxd: Lxd, name: str, *, project: str) -> Instance | None:
    """Return the instance of this name, None where there is none."""
    try:
        return lxd.instances.get(name, project=project)
    except AbsentError:
        return None
