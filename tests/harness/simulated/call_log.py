"""Each call to the simulated LXD: counted, told to hooks, and spoilt where a test says so."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum, auto
from typing import NoReturn, Protocol, TypeVar

from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.lxd.failures import (
    BusyError,
    ConnectionLostError,
    NotRunningError,
    OperationGoneError,
    RefusedError,
    StartFailedError,
)

T = TypeVar("T")


class KilledError(BaseException):
    """The caller's process was killed here; nothing of it may catch this."""


class Fault(Enum):
    """What goes wrong at one call. ``LATE``: the effect comes some calls later, as LXD goes on."""

    KILLED_BEFORE = auto()
    KILLED_AFTER = auto()
    KILLED_LATE = auto()
    REQUEST_LOST = auto()
    ANSWER_LOST = auto()
    ANSWER_LATE = auto()
    BUSY = auto()
    # Refused, without any effect, for a reason that nobody knows.
    REFUSED = auto()
    # LXD is restarted: politely (it finishes its work first), or killed in the middle.
    LXD_RESTARTED = auto()
    LXD_KILLED = auto()
    LXD_DOWN = auto()


LATE_BY_CALLS = 3


@dataclass(frozen=True, slots=True)
class Call:
    """One call: ``name`` is ``port.method``, ``subject`` the object, ``writes`` whether it changes."""

    number: int
    name: str
    subject: str
    writes: bool

    def __str__(self) -> str:
        return f"{self.number}: {self.name} {self.subject}".rstrip()


Hook = Callable[[Call], None]


def _nothing(_call: Call) -> None:
    return


class Restartable(Protocol):
    """What calls ask of the daemon; ``store.Store`` is one."""

    lock: AbstractContextManager[bool]
    down: bool

    def settle(self, subject: str) -> None:
        """Let happen what is due; BusyError when LXD is at work on the subject."""
        ...

    def postpone(self, call: Call, act: Callable[[], object]) -> None:
        """Do it some calls later."""
        ...

    def restarted(self) -> None:
        """Break what a restart breaks."""
        ...

    def go_down(self) -> None:
        """End."""
        ...


class CallLog:
    """Passes calls on. ``before`` and ``after`` see each; ``faults`` are by number of the call."""

    def __init__(self, daemon: Restartable) -> None:
        self.before: Hook = _nothing
        self.after: Hook = _nothing
        self.faults: dict[int, Fault] = {}
        self.number = 0
        self.calls: list[Call] = []
        self.keeps_calls = True
        self._daemon = daemon

    def restart_count(self) -> None:
        """Count from one again; what is planned stays."""
        self.number = 0
        self.calls.clear()

    def made(
        self,
        name: str,
        subject: str,
        act: Callable[[], T],
        *,
        writes: bool = False,
        half: Callable[[], None] | None = None,
    ) -> T:
        """Make one call; ``half`` is what is left of it when LXD is killed in the middle."""
        with self._daemon.lock:
            self.number += 1
            call = Call(self.number, name, subject, writes)
            if self.keeps_calls:
                self.calls.append(call)
            self.before(call)
            self._daemon.settle(subject if writes else "")
            if self._daemon.down:
                raise NotRunningError(f"could not {call}: LXD isn't running", hint="start it")
            fault = self.faults.pop(call.number, None)
            if fault is not None:
                self._spoilt(fault, call, act, half)
            try:
                return act()
            finally:
                self.after(call)

    def _spoilt(
        self, fault: Fault, call: Call, act: Callable[[], T], half: Callable[[], None] | None
    ) -> NoReturn:
        said = f"could not {call}"
        if fault is Fault.KILLED_BEFORE:
            raise KilledError(str(call))
        if fault is Fault.REQUEST_LOST:
            raise ConnectionLostError(f"{said}: the connection broke", hint="look again")
        if fault is Fault.BUSY:
            raise BusyError(f"{said}: Instance is busy running a stop operation", hint="wait")
        if fault is Fault.REFUSED:
            # As the real adapter has it: a start that is refused is one that failed.
            refused = StartFailedError if call.name == "power.start" else RefusedError
            raise refused(f"{said}: status 500, no reason given", hint="LXD's log tells more")
        if fault is Fault.LXD_DOWN:
            self._daemon.go_down()
            raise NotRunningError(f"{said}: nobody listens on its socket", hint="start it")
        if fault in {Fault.KILLED_LATE, Fault.ANSWER_LATE}:
            self._daemon.postpone(call, act)
        elif fault is Fault.LXD_KILLED:
            if half is not None:
                half()
        else:
            # A failure's answer is lost like another one.
            with contextlib.suppress(LxdockerError):
                act()
        if fault in {Fault.LXD_RESTARTED, Fault.LXD_KILLED}:
            self._daemon.restarted()
            raise OperationGoneError(f"{said}: LXD forgot the operation", hint="look again")
        if fault in {Fault.KILLED_AFTER, Fault.KILLED_LATE}:
            self.after(call)
            raise KilledError(str(call))
        raise ConnectionLostError(f"{said}: the answer was lost", hint="look again")
