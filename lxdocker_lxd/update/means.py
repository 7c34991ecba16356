"""What an updater works with besides LXD, and what it answers: all of it replaceable by a test."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from lxdocker_lxd.errors import LxdError
from lxdocker_lxd.lxd.ports import EventStream
from lxdocker_lxd.lxd.records import Instance
from lxdocker_lxd.update.procedure import Act, Step
from lxdocker_lxd.update.retention import KEEP
from lxdocker_lxd.update.transaction import Transaction


class PutOffError(LxdError):
    """Somebody who was asked before the outage wants the update later; nothing is wrong."""


class Judgement(StrEnum):
    """What a health gate says of a new version.

    ``STOPPED``: a user stopped the instance, which says nothing of the version. ``UNDECIDED``: the
    version has shown neither that it works nor that it doesn't; the update turns back without blame.
    """

    HEALTHY = "healthy"
    FAILED = "failed"
    STOPPED = "stopped"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a health gate says, and why.

    ``check`` names the check that decided, as ``tcp 8080`` or ``the image's health check``.
    ``evidence`` are lines that a failed version left: its log, its check's output; without secrets.
    """

    judgement: Judgement
    reason: str = ""
    check: str = ""
    evidence: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether the version was shown to work."""
        return self.judgement is Judgement.HEALTHY


class Gate(Protocol):
    """Decides whether a started instance does its work."""

    def listen(self) -> AbstractContextManager[EventStream | None]:
        """Listen to LXD's events from now on, for an instance that is to be started; None if it fails."""
        ...

    def judge(self, name: str, *, project: str, events: EventStream | None = None) -> Verdict:
        """Watch the instance for as long as its checks need, and say how it does.

        ``events`` are LXD's since before its start.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a transaction ended; HOLD leaves it open and needs somebody's eyes.

    ``failed`` says of one that was given up that something went wrong: it wasn't merely put off, nor
    did somebody change the instance meanwhile. ``evidence`` are the last lines of a failed version.
    ``killed`` says which instance was killed because it didn't stop, and after which time.
    ``problems`` went wrong beside it, as a journal that couldn't be written.
    """

    transaction: Transaction
    act: Act
    reason: str = ""
    blame: bool = False
    failed: bool = False
    outage_seconds: float | None = None
    evidence: tuple[str, ...] = ()
    killed: str = ""
    problems: tuple[str, ...] = ()

    @property
    def explanation(self) -> str:
        """Why it ended so, and which instance was killed because it didn't stop."""
        return "; ".join(text for text in (self.reason, self.killed) if text)

    @property
    def bad(self) -> bool:
        """Whether it needs somebody's eyes, and others aren't to be tried before."""
        return self.failed or self.act in {Act.HOLD, Act.ROLLED_BACK}


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What an updater works with besides LXD.

    ``obstacle`` says of an instance and an image why no update is to begin, or nothing.
    ``before_outage`` may raise a LxdError to give the update up, PutOffError when nothing is wrong, and
    so may ``before_stage``, which is asked where the last attempt at the same version was put off;
    ``check_stage`` compares what was staged with what it is to follow, raises a LxdError to give the
    update up, and returns whether it read files of the stage. ``went_back`` is told of a
    transaction, and why, once the old version is back. Both may be called again after a crash.
    ``interrupted`` says whether nothing more is to begin, and what caused no outage is to be given up;
    ``tell`` hears in a line of what takes long.
    """

    gate: Gate
    clock: Callable[[], datetime]
    pause: Callable[[float], None]
    draw_id: Callable[[], str]
    retention: timedelta = KEEP
    on_step: Callable[[Transaction, Step], None] = lambda _transaction, _step: None
    obstacle: Callable[[Instance, str], str] = lambda _instance, _fingerprint: ""
    before_stage: Callable[[Transaction], None] = lambda _transaction: None
    check_stage: Callable[[Transaction], bool] = lambda _transaction: False
    before_outage: Callable[[Transaction], None] = lambda _transaction: None
    went_back: Callable[[Transaction, str], None] = lambda _transaction, _reason: None
    interrupted: Callable[[], bool] = lambda: False
    tell: Callable[[str], None] = lambda _text: None
