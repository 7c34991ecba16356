"""What strangers wrote, as a terminal may have it."""

import io
import os
import pty
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.console import Console
from lxdocker_lxd.control_characters import TerminalText, spelled_out
from lxdocker_lxd.verbs.logs import shown
from tests.harness.hostile_values import CONTROLS


@pytest.mark.parametrize("text", CONTROLS)
def test_nothing_that_commands_a_terminal_is_left(text: str) -> None:
    for seen in (spelled_out(text), TerminalText().shown(text.encode(), last=True)):
        assert seen != text
        assert seen.isprintable()


def test_a_note_keeps_its_lines_and_no_tabs() -> None:
    stream = io.StringIO()
    Console(stream, stream).note("a\tb\x1b[31m\nc")
    assert stream.getvalue() == "a\\x09b\\x1b[31m\nc\n"


@given(st.binary(), st.integers(1, 5))
def test_a_stream_reads_the_same_however_it_is_cut(content: bytes, step: int) -> None:
    cut, whole = TerminalText(), TerminalText()
    pieces = [content[at : at + step] for at in range(0, len(content), step)]
    text = "".join(map(cut.shown, pieces)) + cut.shown(b"", last=True)
    assert text == whole.shown(content, last=True)
    assert all(letter in "\n\t" or letter.isprintable() or letter.isspace() for letter in text)


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        (b"line\r\nnext\r\n", "line\nnext\n"),
        (b"50%\r60%\r", "50%\\x0d60%\\x0d"),
        ("größe ✓\n".encode(), "größe ✓\n"),
        (b"\xff\xfe", "\\xff\\xfe"),
        ("cut: ✓".encode()[:-1], "cut: \\xe2\\x9c"),
    ],
)
def test_what_a_log_looks_like(content: bytes, seen: str) -> None:
    assert TerminalText().shown(content, last=True) == seen


@pytest.fixture
def terminal() -> Iterator[Callable[[], io.TextIOWrapper]]:
    main, side = pty.openpty()
    with open(side, "w", encoding="utf-8") as stream:  # noqa: PTH123 - a descriptor
        yield lambda: stream
    os.close(main)


def test_logs_are_raw_in_a_pipe_and_legible_on_a_terminal(
    terminal: Callable[[], io.TextIOWrapper],
) -> None:
    pieces = [b"\x1b]0;owned\x07\xe2\x9c", b"\x93\r\n"]
    pipe = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    assert b"".join(shown(pieces, pipe)) == b"".join(pieces)
    assert b"".join(shown(pieces, terminal())) == "\\x1b]0;owned\\x07✓\n".encode()
