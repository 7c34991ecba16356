"""Watching updates: drawn on a terminal, in lines elsewhere."""

import argparse
import io
import os
import pty
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

import pytest

from lxdocker_lxd.console import Console
from lxdocker_lxd.service_notify import Heartbeat, ServiceNotify
from lxdocker_lxd.terminal_rounds import TerminalRounds
from lxdocker_lxd.update.procedure import Act, Step
from lxdocker_lxd.update.settings import UpdateSettings
from lxdocker_lxd.update.transaction import Transaction
from lxdocker_lxd.verbs.rounds_view import watched
from lxdocker_lxd.verbs.update_work import UpdateWork

WEB = Transaction(id="00000001", project="default", name="web", fingerprint="b" * 64)
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[TextIO, Callable[[], str]]]:
    """A terminal's stream, and a way to read all that it was shown."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    master, slave = pty.openpty()
    with os.fdopen(slave, "w", buffering=1) as stream:
        os.set_blocking(master, False)
        yield stream, lambda: _read(master)
    os.close(master)


def _read(master: int) -> str:
    pieces = []
    while True:
        try:
            piece = os.read(master, 1 << 16)
        except OSError:
            break
        if not piece:
            break
        pieces.append(piece)
    return b"".join(pieces).decode()


def work_on(err: TextIO, out: TextIO, action: str = "now") -> UpdateWork:
    options = argparse.Namespace(action=action, dry_run=False, format="table", state="/s")
    return UpdateWork(
        options=options,
        console=Console(out, err),
        settings=UpdateSettings(),
        heartbeat=Heartbeat(ServiceNotify({}, os.getpid()), clock=time.monotonic),
    )


def act(work: UpdateWork) -> None:
    """What a round says on its way."""
    tell = work._told
    tell(WEB, Step(act=Act.STAGE))
    time.sleep(0.3)
    tell(WEB, Step(act=Act.STOP, reason="because"))
    work.console.note("problem: \x1b[31mred")
    tell(WEB, Step(act=Act.COMMITTED))
    time.sleep(0.3)
    work.console.result("NAME  RESULT\nweb   committed\n")


def test_a_step_that_is_over_at_once_is_seen_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    with terminal(monkeypatch) as (stream, shown), watched(work_on(stream, out)) as work:
        for each in (Act.STAGE, Act.GATE, Act.COMMITTED):
            work._told(WEB, Step(act=each))
        drawn = shown()
    assert all(str(each) in drawn for each in (Act.STAGE, Act.GATE, Act.COMMITTED))


def test_a_terminal_shows_the_step_at_work_and_then_only_what_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = io.StringIO()
    with terminal(monkeypatch) as (stream, shown), watched(work_on(stream, out)) as work:
        act(work)
        assert out.getvalue() == ""
        seen = shown()
    assert "web" in _ESCAPES.sub("", seen)
    assert "stage" in seen
    assert "committed" in seen
    assert "looking" in seen
    # It moves: lines are drawn over. What a name or a message holds can't.
    assert "\x1b[" in seen
    assert r"problem: \x1b[31mred" in seen
    assert out.getvalue() == "NAME  RESULT\nweb   committed\n"


def test_elsewhere_there_is_a_line_for_each_step() -> None:
    out, err = io.StringIO(), io.StringIO()
    with watched(work_on(err, out)) as work:
        act(work)
    assert err.getvalue().splitlines() == [
        "web: stage",
        "web: stop: because",
        r"problem: \x1b[31mred",
    ]
    assert out.getvalue().startswith("NAME")


def test_a_terminal_that_cant_move_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as (stream, shown):
        monkeypatch.setenv("TERM", "dumb")
        with watched(work_on(stream, io.StringIO())) as work:
            work.console.note("one line")
        assert shown() == "one line\r\n"


class BrokenError(Exception):
    """Something fails."""


def fails(work: UpdateWork) -> None:
    with watched(work) as seen:
        seen.console.result("half")
        raise BrokenError


def test_results_are_told_when_the_work_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    with terminal(monkeypatch) as (stream, _), pytest.raises(BrokenError):
        fails(work_on(stream, out))
    assert out.getvalue() == "half\n"


def test_many_ended_updates_dont_fill_the_screen() -> None:
    rounds = TerminalRounds(io.StringIO(), lambda: 0.0)
    for number in range(100):
        rounds.step(f"web{number}", "committed", ended=True)
    assert rounds._drawn().row_count < 12
