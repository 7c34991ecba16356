"""Progress bars on a terminal, drawn by rich: one bar a layer, one line a build."""

import threading
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console as RichConsole
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from lxdocker_lxd.console import printable
from lxdocker_lxd.progress import BytesDone, Event, ImageFinished, Notice, StageStarted

_SHORT_DIGITS = 12


class TerminalProgress:
    """Draws while its block runs; what stays afterwards is one line an image."""

    def __init__(self, stream: TextIO) -> None:
        self._console = RichConsole(file=stream, highlight=False, markup=False, emoji=False)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=self._console,
            transient=True,
        )
        self._lock = threading.Lock()
        self._tasks: dict[tuple[str, str, str], TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def emit(self, event: Event, /) -> None:
        """Draw the event."""
        with self._lock:
            match event:
                case StageStarted(image=image, stage=stage):
                    self._forget(image)
                    self._task(image, stage, "", 0)
                case BytesDone():
                    self._advance(event)
                case ImageFinished(image=image, outcome=outcome, detail=detail):
                    self._forget(image)
                    self._say(f"{image}: {outcome}" + (f" ({detail})" if detail else ""))
                case Notice(image=image, text=text):
                    self._say(f"{image}: {text}")

    def _advance(self, event: BytesDone) -> None:
        part = event.digest.encoded[:_SHORT_DIGITS] if event.digest else ""
        task = self._task(event.image, event.stage, part, event.total_bytes)
        self._bars.update(task, completed=event.done_bytes, total=event.total_bytes or None)
        if part and event.total_bytes and event.done_bytes >= event.total_bytes:
            self._bars.update(task, visible=False)

    def _task(self, image: str, stage: str, part: str, total_bytes: int) -> TaskID:
        key = (image, stage, part)
        if key not in self._tasks:
            text = printable(" ".join(filter(None, (image, stage, part))))
            self._tasks[key] = self._bars.add_task(text, total=total_bytes or None)
        return self._tasks[key]

    def _forget(self, image: str) -> None:
        for key in [key for key in self._tasks if key[0] == image]:
            self._bars.remove_task(self._tasks.pop(key))

    def _say(self, text: str) -> None:
        self._bars.console.print(Text(printable(text)))
