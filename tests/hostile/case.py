"""One attack: who attacks, how it is met, what must come of it, and within which bounds."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lxdocker_lxd.errors import LxdockerError


@dataclass(frozen=True, slots=True, kw_only=True)
class HostileCase:
    """An attack by ``party``.

    ``meet`` runs the program against it in a directory of its own, which has a ``machine`` beside
    it that stands for the host, and checks what came. It raises ``error``, with ``says`` in its
    message; None where nothing may come of the attack. ``most_seconds`` are of the processor,
    ``most_mb`` what the memory grows by.
    """

    party: str
    name: str
    meet: Callable[[Path], object]
    error: type[LxdockerError] | None = None
    says: str = ""
    most_seconds: float = 5.0
    most_mb: int = 128
    needs_root: bool = False
    is_slow: bool = False

    @property
    def expected(self) -> str:
        """The outcome in a word."""
        return self.error.__name__ if self.error else "harmless"


def machine_of(place: Path) -> Path:
    """Return the directory that stands for the host."""
    return place.parent / "machine"
