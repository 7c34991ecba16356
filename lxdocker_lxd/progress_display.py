"""Progress events as text: for people without a terminal, for programs, or not at all.

``auto`` draws bars on a terminal and is quiet elsewhere; ``plain`` writes a line per stage and at
most one line in ten seconds between; ``json`` writes one object per event. Failures and notices
are shown in each of them but ``none``. All of it goes to the stream given, never to standard
output.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import TextIO

from lxdocker_lxd.console import human_size, printable
from lxdocker_lxd.digest import Digest
from lxdocker_lxd.progress import BytesDone, Event, ImageFinished, Notice, StageStarted

_PLAIN_INTERVAL_SECONDS = 10.0

_EVENT_NAMES: dict[type, str] = {
    StageStarted: "stage-started",
    BytesDone: "bytes-done",
    ImageFinished: "image-finished",
    Notice: "notice",
}


class NoticesOnly:
    """Shows what a user must know and nothing else: the quiet display."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def emit(self, event: Event, /) -> None:
        """Write a line for a notice."""
        if isinstance(event, Notice):
            with self._lock:
                self._stream.write(printable(f"{event.image}: {event.text}") + "\n")
                self._stream.flush()


class Plain:
    """One line a stage, and an aggregate line now and then."""

    def __init__(self, stream: TextIO, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._clock = clock
        self._lock = threading.Lock()
        self._done: dict[tuple[str, str, Digest | None], tuple[int, int]] = {}
        self._last = clock()

    def emit(self, event: Event, /) -> None:
        """Write the event's line, or remember its bytes for the next aggregate line."""
        with self._lock:
            match event:
                case StageStarted(image=image, stage=stage):
                    self._line(f"{image}: {stage}")
                case Notice(image=image, text=text):
                    self._line(f"{image}: {text}")
                case ImageFinished(image=image, outcome=outcome, detail=detail):
                    self._line(f"{image}: {outcome}" + (f": {detail}" if detail else ""))
                    self._done = {key: at for key, at in self._done.items() if key[0] != image}
                case BytesDone():
                    self._bytes(event)

    def _bytes(self, event: BytesDone) -> None:
        key = (event.image, event.stage, event.digest)
        self._done[key] = (event.done_bytes, event.total_bytes)
        now = self._clock()
        if now - self._last < _PLAIN_INTERVAL_SECONDS:
            return
        same = [at for (image, stage, _), at in self._done.items() if (image, stage) == key[:2]]
        done, total = (sum(column) for column in zip(*same, strict=True))
        of = f" of {human_size(total)}" if total else ""
        self._line(f"{event.image}: {event.stage}: {human_size(done)}{of}")

    def _line(self, text: str) -> None:
        self._last = self._clock()
        self._stream.write(printable(text) + "\n")
        self._stream.flush()


class JsonLines:
    """One JSON object a line: ``event`` names the kind, the other members are its fields."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def emit(self, event: Event, /) -> None:
        """Write the event."""
        fields = asdict(event)
        if isinstance(event, BytesDone):
            fields["digest"] = str(event.digest) if event.digest else None
        line = json.dumps({"event": _EVENT_NAMES[type(event)], **fields})
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()
