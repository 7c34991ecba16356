"""LXD that is away in the middle of an outage: waited for, since nobody else would end the outage."""

from collections.abc import Callable
from dataclasses import dataclass

from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.lxd.failures import (
    AbsentError,
    BusyError,
    ChangedMeanwhileError,
    NameTakenError,
    NotRunningError,
    UnknownOutcomeError,
    UnreachableError,
    WrongStateError,
)

AWAY = (NotRunningError, UnreachableError, UnknownOutcomeError)
# What only a fresh look can judge: somebody was faster, or nobody knows what became of a request.
LOOK_AGAIN = (
    *AWAY,
    BusyError,
    ChangedMeanwhileError,
    AbsentError,
    NameTakenError,
    WrongStateError,
)
# A refresh of LXD's snap takes minutes.
LONGEST_ABSENCE_SECONDS = 900.0
_LONGEST_PAUSE_SECONDS = 10.0
_MOST_DOUBLINGS = 7
# A restart of LXD isn't worth a word.
_UNTOLD_SECONDS = 3.0


@dataclass(slots=True, kw_only=True)
class Absence:
    """One absence of LXD; ``pause`` waits, ``tell`` hears of it once."""

    pause: Callable[[float], None]
    tell: Callable[[str], None]
    waited_seconds: float = 0.0
    _tries: int = 0
    _told: bool = False

    def wait(self, name: str, error: LxdockerError) -> None:
        """Wait before the next attempt; raise ``error`` after fifteen minutes of waiting.

        ``name`` is the instance whose outage it prolongs.
        """
        if self.waited_seconds >= LONGEST_ABSENCE_SECONDS:
            raise error
        if not self._told and self.waited_seconds >= _UNTOLD_SECONDS:
            self._told = True
            minutes = LONGEST_ABSENCE_SECONDS / 60
            self.tell(f"{name}: waits up to {minutes:g} minutes for LXD: {error.message}")
        self._tries += 1
        seconds = min(0.1 * 2 ** min(self._tries, _MOST_DOUBLINGS), _LONGEST_PAUSE_SECONDS)
        self.waited_seconds += seconds
        self.pause(seconds)

    def end(self) -> None:
        """Forget it: LXD did what it was asked."""
        self.waited_seconds, self._tries, self._told = 0.0, 0, False
