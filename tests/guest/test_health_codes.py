"""What ``/.lxdocker/run --health`` answers, by the real script: each answer has a code of its own."""

import subprocess
from pathlib import Path

import pytest

from tests.guest.guest_shell import BUSYBOX, GuestShell, joined

PASSED, FAILED, NONE, NOT_YET = 0, 1, 124, 125


@pytest.fixture
def shell(tmp_path: Path) -> GuestShell:
    shell = GuestShell(tmp_path)
    (shell.live / "env").write_bytes(b"PATH=/bin\0A=b c\0")
    return shell


def started(shell: GuestShell) -> None:
    """What init leaves when it starts the command; the image's limit for a check is a second."""
    launch = joined([b"0", b"0", b"none", bytes(shell.directory), b"1"])
    (shell.live / "launch").write_bytes(launch)


def check(shell: GuestShell, *words: bytes) -> None:
    (shell.live / "health").write_bytes(joined(words))


def asked(shell: GuestShell, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [BUSYBOX, "sh", shell.directory / "run", "--health", *arguments],
        check=False,
        capture_output=True,
        timeout=60,
    )


def test_before_the_command_is_started_there_is_no_verdict(shell: GuestShell) -> None:
    check(shell, b"/bin/true")
    assert asked(shell).returncode == NOT_YET
    started(shell)
    assert asked(shell).returncode == PASSED


def test_no_check_is_no_proof(shell: GuestShell) -> None:
    started(shell)
    assert asked(shell).returncode == NONE
    for words in ([], [b"none"]):
        check(shell, *words)
        assert asked(shell).returncode == NONE


@pytest.mark.parametrize("code", [1, 2, 124, 125, 126, 127, 137])
def test_a_check_that_fails_looks_like_nothing_else(shell: GuestShell, code: int) -> None:
    started(shell)
    check(shell, b"/bin/sh", b"-c", b"echo it says; exit %d" % code)
    answer = asked(shell)
    assert (answer.returncode, answer.stdout) == (FAILED, b"it says\n")


def test_a_check_has_its_time_and_the_caller_may_give_another(shell: GuestShell) -> None:
    started(shell)
    check(shell, b"/bin/sleep", b"2")
    assert asked(shell).returncode == FAILED
    assert asked(shell, "10").returncode == PASSED
    assert asked(shell, "x").returncode == FAILED


def test_a_program_that_is_missing_fails_the_check(shell: GuestShell) -> None:
    started(shell)
    check(shell, b"/no/such")
    assert asked(shell).returncode == FAILED
