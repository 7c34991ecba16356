"""Updates on a terminal, drawn by rich: a line for each instance with what is being done to it.

What is said besides goes above these lines. When the block ends they disappear; results are told by
whoever asked for them.
"""

import io
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console as RichConsole
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from lxdocker_lxd.console import printable

_PER_SECOND = 4
_MOST_ENDED = 8


@dataclass(slots=True)
class _Line:
    name: str
    step: str
    since: float
    began: float
    ended: float | None = None


class TerminalRounds(io.TextIOBase):
    """Draws while its block runs; a text stream for whatever is to stand above. Thread-safe.

    ``clock`` counts seconds.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._stream = stream
        self._lines: dict[str, _Line] = {}
        self._lock = threading.RLock()
        self._spinner = Spinner("line")
        self._console = RichConsole(file=stream, highlight=False, markup=False, emoji=False)
        self._live = Live(
            get_renderable=self._drawn,
            console=self._console,
            refresh_per_second=_PER_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def step(self, name: str, text: str, *, ended: bool) -> None:
        """Show what is being done to an instance now, or how that ended."""
        with self._lock:
            moment = self._clock()
            line = self._lines.get(name)
            if line is None or line.ended is not None:
                line = _Line(name, text, moment, moment)
                self._lines.pop(name, None)
                self._lines[name] = line
            line.step, line.since = text, moment
            line.ended = moment if ended else None
            over = [one for one in self._lines.values() if one.ended is not None]
            for one in over[:-_MOST_ENDED]:
                del self._lines[one.name]
        # Many steps are over before the next regular drawing; each is to be seen once.
        self._live.refresh()

    # ---- the stream above

    def write(self, text: str, /) -> int:
        """Print above what is drawn."""
        if text.strip("\n"):
            self._live.console.print(Text(printable(text.rstrip("\n"))), soft_wrap=True)
        return len(text)

    def flush(self) -> None:
        """Nothing waits."""

    def isatty(self) -> bool:
        """Whether it is a terminal; it is."""
        return self._stream.isatty()

    # ---- what is drawn

    def _drawn(self) -> Table:
        with self._lock:
            now = self._clock()
            grid = Table.grid(padding=(0, 2))
            for line in self._lines.values():
                if line.ended is None:
                    took = f"{now - line.since:.0f} s, {now - line.began:.0f} s in all"
                    grid.add_row(self._spinner, _text(line.name), _text(line.step), took)
                else:
                    took = f"{line.ended - line.began:.0f} s"
                    grid.add_row(" ", _text(line.name), _text(line.step), took)
            if not any(line.ended is None for line in self._lines.values()):
                grid.add_row(self._spinner, Text("looking"), Text(""), Text(""))
            return grid


def _text(text: str) -> Text:
    return Text(printable(text).replace("\n", " "))
