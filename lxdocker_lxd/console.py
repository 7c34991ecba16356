"""What a user sees: results on standard output, everything else on standard error.

Nothing else in the package prints. Results are tables for people and JSON for programs; errors are
three lines at most (what failed, what to do next, where the details are).
"""

import contextlib
import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO, cast

from lxdocker_lxd.atomic import storage_error
from lxdocker_lxd.control_characters import spelled_out
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
        """Return the console of this process; a stream it was started without takes nothing."""
        out = cast("TextIO | None", sys.stdout) or _Nowhere()
        return cls(cast("TextIO", out), cast("TextIO", _Remarks(sys.stderr)), debug)

    def result(self, text: str) -> None:
        """Write a result: the only thing that reaches standard output.

        A reader that went away is no error: the work is done and keeps its exit code. Raises
        StorageError when the text can't be written for another reason.
        """
        try:
            self.out.write(text if text.endswith("\n") else text + "\n")
            self.out.flush()
        except OSError as error:
            discard(self.out)
            if not isinstance(error, BrokenPipeError):
                raise storage_error(
                    "write the result to", Path("standard output"), error
                ) from error

    def note(self, text: str) -> None:
        """Write a remark beside the result."""
        self.err.write(printable(text) + "\n")
        self.err.flush()

    def error(self, error: LxdockerError) -> None:
        """Write what failed and the next step."""
        self.note(f"error: {error.message}")
        if error.hint:
            self.note(f"hint: {error.hint}")


class _Nowhere(io.TextIOBase):
    """Takes text and forgets it."""

    def write(self, text: str, /) -> int:
        return len(text)


class _Remarks(io.TextIOBase):
    """Standard error as a place that never fails: losing a remark must not stop the work."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str, /) -> int:
        with contextlib.suppress(OSError, ValueError):
            if self._stream is not None:
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            if self._stream is not None:
                self._stream.flush()

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def fileno(self) -> int:
        if self._stream is None:
            raise io.UnsupportedOperation("there is no standard error")
        return self._stream.fileno()


def discard(stream: TextIO) -> None:
    """Let what is still buffered for a broken ``stream`` go nowhere, also when Python exits."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def printable(text: str) -> str:
    """Return ``text`` without control characters, which names from images could smuggle in."""
    return spelled_out(text, kept="\n")


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
    """Return ``content`` as ASCII JSON text: names that are no valid UTF-8 stay valid JSON."""
    return json.dumps(content, indent=2, ensure_ascii=True) + "\n"


def human_size(size_bytes: int) -> str:
    """Return ``size_bytes`` with a decimal unit, as ``docker images`` writes sizes."""
    size = float(size_bytes)
    for unit in _UNITS:
        if size < 1000 or unit == _UNITS[-1]:  # noqa: PLR2004 - decimal units, as in 1 kB
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
