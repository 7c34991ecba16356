"""What long work reports while it runs: small frozen events to one listener.

Work never prints. It sends events to a :class:`Progress`; terminals, logs and tests listen.
Events arrive from several threads; a listener must be safe for that.
"""

from dataclasses import dataclass
from typing import Protocol

from lxdocker_lxd.digest import Digest

# How progress may be shown; ``auto`` draws on a terminal and is quiet elsewhere.
MODES = ("auto", "plain", "rich", "json", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStarted:
    """One image reached a stage: ``resolve``, ``download``, ``merge``, ``pack``, ``publish``."""

    image: str
    stage: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BytesDone:
    """Bytes of one stage so far: a layer's download, or the root filesystem being packed."""

    image: str
    stage: str
    digest: Digest | None
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFinished:
    """One image ended: ``built``, ``unchanged`` or ``failed``; ``detail`` is a short text."""

    image: str
    outcome: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something a user should know that stops nothing (a retry, a registry's warning)."""

    image: str
    text: str


Event = StageStarted | BytesDone | ImageFinished | Notice


class Progress(Protocol):
    """Receives events; must not raise and must not block for long."""

    def emit(self, event: Event, /) -> None:
        """Take one event."""
        ...


class Silent:
    """A listener for callers that want no progress."""

    def emit(self, event: Event, /) -> None:
        """Drop the event."""
