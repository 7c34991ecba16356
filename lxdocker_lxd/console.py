"""What a user sees: results on standard output, everything else on standard error.

Nothing else in the package prints. Results are tables for people and JSON for programs; errors are
three lines at most (what failed, what to do next, where the details are).
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from lxdocker_lxd.errors import LxdockerError

_UNITS = ("B", "kB", "MB", "GB", "TB")


@dataclass(frozen=True, slots=True)
class Console:
    """Two text streams and how errors look on them."""

    out: TextIO
    err: TextIO
    debug: bool = False

    @classmethod
    def standard(cls, *, debug: bool = False) -> "Console":
        """Return the console of this process."""
        return cls(sys.stdout, sys.stderr, debug)

    def result(self, text: str) -> None:
        """Write a result: the only thing that reaches standard output."""
        self.out.write(text if text.endswith("\n") else text + "\n")
        self.out.flush()

    def note(self, text: str) -> None:
        """Write a remark beside the result."""
        self.err.write(printable(text) + "\n")
        self.err.flush()

    def error(self, error: LxdockerError) -> None:
        """Write what failed and the next step."""
        self.note(f"error: {error.message}")
        if error.hint:
            self.note(f"hint: {error.hint}")


def printable(text: str) -> str:
    """Return ``text`` without control characters, which names from images could smuggle in."""
    return "".join(
        character if character.isprintable() or character == "\n" else f"\\x{ord(character):02x}"
        for character in text
    )


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return left-aligned columns under upper-case heads; cells stay on one line."""
    cells = [[column.upper() for column in columns]]
    cells += [[printable(cell).replace("\n", " ") or "-" for cell in row] for row in rows]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )
    return "\n".join(lines) + "\n"


def document(content: Mapping[str, object] | Sequence[object]) -> str:
    """Return ``content`` as JSON text that stays the same for the same content."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def human_size(size_bytes: int) -> str:
    """Return ``size_bytes`` with a decimal unit, as ``docker images`` writes sizes."""
    size = float(size_bytes)
    for unit in _UNITS:
        if size < 1000 or unit == _UNITS[-1]:  # noqa: PLR2004 - decimal units, as in 1 kB
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
