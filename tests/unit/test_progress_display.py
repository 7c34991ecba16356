"""Each display shows what its reader needs and never a control character."""

import io
import json

from lxdocker_lxd.digest import Digest
from lxdocker_lxd.progress import BytesDone, Event, ImageFinished, Notice, StageStarted
from lxdocker_lxd.progress_display import JsonLines, NoticesOnly, Plain
from lxdocker_lxd.terminal_progress import TerminalProgress

LAYER = Digest.of(b"layer")
STORY: tuple[Event, ...] = (
    StageStarted(image="web", stage="download"),
    BytesDone(image="web", stage="download", digest=LAYER, done_bytes=10, total_bytes=2000),
    Notice(image="web", text="registry is slow, trying again in 1 s"),
    BytesDone(image="web", stage="download", digest=LAYER, done_bytes=2000, total_bytes=2000),
    ImageFinished(image="web", outcome="built", detail="20261121"),
)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_quiet_display_shows_notices_alone() -> None:
    stream = io.StringIO()
    display = NoticesOnly(stream)
    for event in STORY:
        display.emit(event)
    assert stream.getvalue() == "web: registry is slow, trying again in 1 s\n"


def test_plain_writes_a_line_a_stage_and_holds_byte_counts_back() -> None:
    stream = io.StringIO()
    display = Plain(stream, Clock())
    for event in STORY:
        display.emit(event)
    assert stream.getvalue().splitlines() == [
        "web: download",
        "web: registry is slow, trying again in 1 s",
        "web: built: 20261121",
    ]


def test_plain_sums_all_layers_after_ten_seconds() -> None:
    stream, clock = io.StringIO(), Clock()
    display = Plain(stream, clock)
    display.emit(BytesDone(image="w", stage="download", digest=LAYER, done_bytes=5, total_bytes=9))
    clock.now = 11.0
    other = Digest.of(b"other")
    display.emit(BytesDone(image="w", stage="download", digest=other, done_bytes=4, total_bytes=9))
    assert stream.getvalue() == "w: download: 9 B of 18 B\n"


def test_json_lines_name_each_event_and_carry_its_fields() -> None:
    stream = io.StringIO()
    display = JsonLines(stream)
    for event in STORY:
        display.emit(event)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == [
        "stage-started",
        "bytes-done",
        "notice",
        "bytes-done",
        "image-finished",
    ]
    assert lines[1]["digest"] == str(LAYER)
    assert lines[1]["total_bytes"] == 2000


def test_the_terminal_display_leaves_one_line_an_image() -> None:
    stream = io.StringIO()
    with TerminalProgress(stream) as display:
        for event in STORY:
            display.emit(event)
    assert "web: built (20261121)" in stream.getvalue()


def test_a_name_cannot_drive_the_terminal() -> None:
    stream = io.StringIO()
    with TerminalProgress(stream) as display:
        display.emit(Notice(image="\x1b[31mred", text="[bold]x"))
    assert "\\x1b[31mred: [bold]x" in stream.getvalue()
