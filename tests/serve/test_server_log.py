"""Lines for the administrator: what a client says never breaks or fakes one."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.errors import StorageError
from lxdocker_lxd.serve.server_log import Access, ServerLog, access_line, is_journal, quoted

ACCESS = Access(
    client="192.0.2.7",
    method="GET",
    target="/streams/v1/index.json?x=1",
    status=200,
    sent_bytes=251,
    seconds=0.00123,
    outcome="complete",
    agent="lxc/5.0",
)


def log(lines: list[str], *, journal: bool) -> ServerLog:
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    return ServerLog(lines.append, now=lambda: at, journal=journal)


def test_the_journal_gets_priorities_and_others_the_time() -> None:
    lines: list[str] = []
    log(lines, journal=True).access(ACCESS)
    log(lines, journal=True).failed("catalogue", StorageError("read x: no", hint="look"))
    log(lines, journal=False).notice("hello")
    assert lines == [
        '<6>192.0.2.7 "GET" "/streams/v1/index.json?x=1" 200 251 bytes 1.2 ms complete "lxc/5.0"',
        "<3>catalogue: read x: no (look)",
        "2026-03-01T12:00:00Z hello",
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('a"b', '"a\\"b"'),
        ("a\\b", '"a\\\\b"'),
        ("a\nb\x1b[31m", '"a\\nb\\x1b[31m"'),
        ("é", '"\\xe9"'),
        ("x" * 301, '"' + "x" * 300 + '…"'),
    ],
)
def test_words_of_a_client_are_quoted(text: str, shown: str) -> None:
    assert quoted(text) == shown


@given(st.text(max_size=400))
def test_a_line_stays_a_line(text: str) -> None:
    access = Access(
        client="c",
        method=text,
        target=text,
        status=1,
        sent_bytes=1,
        seconds=1,
        outcome="complete",
        agent=text,
    )
    line = access_line(access).replace("…", "")
    assert line.isprintable()
    assert line.isascii()


def test_the_journal_is_known_by_its_stream(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "stream", os.O_CREAT | os.O_RDWR)
    try:
        status = os.fstat(descriptor)
        stream = f"{status.st_dev}:{status.st_ino}"
        assert is_journal({"JOURNAL_STREAM": stream}, descriptor)
        # Redirected: the variable is still there, the stream is another.
        assert not is_journal({"JOURNAL_STREAM": f"{status.st_dev}:1"}, descriptor)
        for wrong in ("", "nonsense", "1", "a:b"):
            assert not is_journal({"JOURNAL_STREAM": wrong}, descriptor)
        assert not is_journal({}, descriptor)
    finally:
        os.close(descriptor)
    assert not is_journal({"JOURNAL_STREAM": stream}, descriptor)
