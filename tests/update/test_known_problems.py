"""Problems as `update status` shows them: each with the time since when it has been there."""

from datetime import timedelta
from pathlib import Path

from lxdocker_lxd.update.known_problems import FILE, KnownProblems
from lxdocker_lxd.update.means import Outcome
from lxdocker_lxd.update.problem import Problem
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.rounds import Report
from lxdocker_lxd.update.transaction import Transaction
from lxdocker_lxd.verbs.update_service import lines_of
from tests.update.records import NOW

LATER = NOW + timedelta(hours=1)


def problem(text: str, name: str = "web") -> Problem:
    return Problem(project="default", name=name, text=text)


def test_a_problem_keeps_its_time_until_it_changes_or_goes(tmp_path: Path) -> None:
    known = KnownProblems(tmp_path)
    assert known.read() == ()
    known.replace([problem("the pool has 12 MiB left"), problem("it is frozen", "db")], NOW)
    known.replace([problem("the pool has 11 MiB left"), problem("it is busy", "db")], LATER)
    assert [(one.problem.text, one.since) for one in KnownProblems(tmp_path).read()] == [
        ("the pool has 11 MiB left", NOW),
        ("it is busy", LATER),
    ]
    known.replace([], LATER)
    assert known.read() == ()


def test_no_secret_and_no_line_of_a_stranger_is_written_down(tmp_path: Path) -> None:
    KnownProblems(tmp_path).replace([problem("environment.TOKEN=abcdefgh\nERROR")], NOW)
    text = (tmp_path / FILE).read_text()
    assert "abcdefgh" not in text
    assert "\\n" not in text


def test_a_damaged_file_holds_nothing(tmp_path: Path) -> None:
    for content in (b"", b"[[[[" * 9999, b'{"problems": [{"since": 1}]}', b"\xff"):
        (tmp_path / FILE).write_bytes(content)
        assert KnownProblems(tmp_path).read() == ()


def test_what_every_round_finds_again_is_told_apart_from_what_happened() -> None:
    transaction = Transaction(id="1", project="default", name="web", fingerprint="f" * 64)
    report = Report(
        recovered=(Outcome(transaction=transaction, act=Act.HOLD, reason="it is frozen"),),
        outcomes=(Outcome(transaction=transaction, act=Act.COMMITTED),),
        restarted=("front",),
        removed=("web-old-1",),
        problems=(problem("no room"),),
        remarks=("wait",),
    )
    assert lines_of(report) == (
        ("web: committed: done", "front: restarted", "removed the copy web-old-1"),
        ("web: hold: it is frozen", "wait", "problem: web: no room"),
    )
