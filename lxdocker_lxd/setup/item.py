"""One thing a ready host has: what it is, how it shall be, and whose word holds about it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lxdocker_lxd.errors import NotFoundError

Value = Mapping[str, str]
"""How a thing is, in texts; None stands for a thing that isn't there."""

DAMAGE = "state"
"""A value with this key says what is wrong with setup's own thing: a crash or age, nobody's wish."""

Key = tuple[str, str]
"""Kind and name of a thing."""

Policy = Literal["ensure", "keep", "insist", "claim"]
"""What becomes of a thing that is there and different.

``ensure``: made as wanted, unless somebody changed what setup had made. ``keep``: left as it is.
``insist``: always made as wanted. ``claim``: left, and an error, unless setup made it.
"""


class UserGoneError(NotFoundError):
    """A user who doesn't exist, or no longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A thing of kind ``kind`` named ``name`` that shall be as ``wanted``.

    ``text`` says what it is in a few words, ``reason`` what it is for. ``hint`` is the next step
    when a ``claim`` fails.
    """

    kind: str
    name: str
    wanted: Value
    text: str
    reason: str
    policy: Policy = "ensure"
    hint: str = ""

    @property
    def key(self) -> Key:
        """What tells it from all others."""
        return (self.kind, self.name)
