"""A port that an image says it listens at: ``80``, ``53/udp``, ``8000-8010/tcp``. Pure.

Every part that reads ``ExposedPorts`` asks here what a port is. Docker's grammar: a number or a range,
then tcp, udp or sctp in any case; tcp goes without saying.
"""

import re
from dataclasses import dataclass
from typing import Self

LAST_PORT = 65535
_GRAMMAR = re.compile(r"0*([0-9]{1,5})(?:-0*([0-9]{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_MOST_CHARACTERS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposedPort:
    """One port, or all from ``first`` to ``last``; both are within 1 and 65535."""

    first: int
    last: int
    protocol: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return what ``text`` names; None for everything that Docker wouldn't take."""
        match = _GRAMMAR.fullmatch(text) if len(text) <= _MOST_CHARACTERS else None
        if match is None or not text.isascii():
            return None
        first = int(match[1])
        last = int(match[2] or match[1])
        if not 1 <= first <= last <= LAST_PORT:
            return None
        return cls(first=first, last=last, protocol=(match[3] or "tcp").lower())

    @property
    def numbers(self) -> str:
        """The number, or the range as ``8000-8010``."""
        return f"{self.first}" if self.first == self.last else f"{self.first}-{self.last}"

    def __str__(self) -> str:
        return f"{self.numbers}/{self.protocol}"
