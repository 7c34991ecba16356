"""What one setting is, and how its text becomes a value.

Pure. :mod:`lxdocker_lxd.settings` collects the declarations of all parts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

_Value = TypeVar("_Value")
# As many as 64 bits hold in any case.
_MOST_DIGITS = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting: its key in the file, what it means, its default and how text becomes a value.

    ``parse`` raises ValueError that says what was expected. ``option`` is its flag where that isn't
    called like the key.
    """

    key: str
    meaning: str
    default: str
    parse: Callable[[str], object]
    option: str = ""

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return f"LXDOCKER_LXD_{self.key.upper()}"

    @property
    def flag(self) -> str:
        """Its flag on the command line."""
        return self.option or "--" + self.key.replace("_", "-")


def number(least: int, most: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from ``least`` to ``most``."""

    def parse(text: str) -> int:
        digits = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
        if not (digits and least <= int(text) <= most):
            raise ValueError(f"a whole number from {least} to {most}")
        return int(text)

    return parse


def choice(*words: str) -> Callable[[str], str]:
    """Return a parser that takes only ``words``."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError("one of " + ", ".join(words))
        return text

    return parse


def path(text: str) -> Path:
    """Parse a path of the file system."""
    if not text or "\0" in text:
        raise ValueError("a path")
    return Path(text)


def optional(parse: Callable[[str], _Value]) -> Callable[[str], _Value | None]:
    """Return a parser that takes no text for None, and else does what ``parse`` does."""

    def parse_if_any(text: str) -> _Value | None:
        return parse(text) if text else None

    return parse_if_any
