"""Commands: real programs, with the message on standard input, and nothing left of them."""

import json
import os
import time
from pathlib import Path

import pytest

from lxdocker_lxd.trusted_path import UntrustedFileError, check_trusted
from lxdocker_lxd.update.delivery import Delivery, Result
from lxdocker_lxd.update.host_program import ProgramMissingError, run_program
from lxdocker_lxd.update.message_template import BodyTemplate, template_of
from lxdocker_lxd.update.notification import document_of
from lxdocker_lxd.update.notify_command import NotifyCommand
from tests.update.messages import message


def program(directory: Path, text: str, *, mode: int = 0o755) -> Path:
    path = directory / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return path


def deliver(
    directory: Path, text: str, *, body: BodyTemplate | None = None, timeout_seconds: float = 10
) -> Delivery:
    command = NotifyCommand(
        name="mail",
        words=(str(program(directory, text)), "$title", "; touch /tmp/evil"),
        body=body or BodyTemplate(),
        timeout_seconds=timeout_seconds,
        owner=os.getuid(),
    )
    return command.deliver(message(title='web: "updated" $(id)'))


def test_the_command_gets_the_message_on_its_input(tmp_path: Path) -> None:
    found = deliver(tmp_path, f'cat > {tmp_path}/in; printf "%s|" "$0" "$@" > {tmp_path}/args')
    assert found.result is Result.DELIVERED
    assert json.loads((tmp_path / "in").read_bytes()) == document_of(
        message(title='web: "updated" $(id)')
    )
    # Arguments are those of the configuration, to the letter.
    assert (tmp_path / "args").read_text() == f"{tmp_path}/program|$title|; touch /tmp/evil|"


def test_a_mail_is_a_template(tmp_path: Path) -> None:
    body = template_of("To: root\nSubject: $title\n\n$text\n", "text/plain")
    assert deliver(tmp_path, f"cat > {tmp_path}/in", body=body).result is Result.DELIVERED
    assert (tmp_path / "in").read_text().startswith('To: root\nSubject: web: "updated" $(id)\n\n')


def test_the_environment_holds_nothing_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_OURS", "s3cr3t")
    deliver(tmp_path, f"env > {tmp_path}/env")
    names = {line.partition("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert names - {"PWD", "SHLVL", "_", "OLDPWD"} == {
        *("PATH", "LANG", "LXDOCKER_TOPIC", "LXDOCKER_SEVERITY"),
        *("LXDOCKER_PROJECT", "LXDOCKER_INSTANCE", "LXDOCKER_TITLE"),
    }


@pytest.mark.parametrize(
    ("text", "result", "said"),
    [
        ("exit 0", "delivered", ""),
        ("echo no such user >&2; exit 67", "failed", "ended with 67: no such user"),
        ("exit 65", "refused", "ended with 65"),
        ("exit 75", "later", "ended with 75"),
        ("kill -9 $$", "failed", "ended with 137"),
        ("echo password=s3cr3t; exit 1", "failed", "password=[hidden]"),
    ],
)
def test_exit_codes(tmp_path: Path, text: str, result: str, said: str) -> None:
    found = deliver(tmp_path, text)
    assert (found.result, said in found.reason) == (result, True)


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_one_that_hangs_is_killed_with_all_it_started(tmp_path: Path) -> None:
    began = time.monotonic()
    found = deliver(
        tmp_path,
        f"trap '' TERM INT HUP; sleep 60 & echo $! > {tmp_path}/pid; wait; sleep 60",
        timeout_seconds=0.7,
    )
    assert (found.result, "didn't end within 0.7 s" in found.reason) == (Result.FAILED, True)
    assert time.monotonic() - began < 5
    assert gone(int((tmp_path / "pid").read_text()))


def test_what_a_command_leaves_behind_is_killed_and_waited_for_by_nobody(tmp_path: Path) -> None:
    began = time.monotonic()
    # The child keeps the output open.
    found = deliver(tmp_path, f"sleep 60 & echo $! > {tmp_path}/pid; exit 0")
    assert found.result is Result.DELIVERED
    assert time.monotonic() - began < 5
    assert gone(int((tmp_path / "pid").read_text()))


def test_much_output_is_cut_and_blocks_nothing(tmp_path: Path) -> None:
    path = program(tmp_path, "head -c 3000000 /dev/zero | tr '\\0' x; echo done >&2; exit 3")
    ended = run_program((str(path),), environment={}, timeout_seconds=20, output_bytes=1000)
    assert (ended.exit_code, ended.output) == (3, b"x" * 1000)


def test_a_large_input_to_a_program_that_reads_none(tmp_path: Path) -> None:
    path = program(tmp_path, "exit 0")
    ended = run_program((str(path),), environment={}, timeout_seconds=20, stdin=b"x" * 5_000_000)
    assert ended.exit_code == 0


def test_one_that_closes_its_output_is_waited_for(tmp_path: Path) -> None:
    path = program(tmp_path, "exec >&- 2>&-; sleep 0.3; exit 9")
    assert run_program((str(path),), environment={}, timeout_seconds=20).exit_code == 9


def test_a_missing_program_is_told(tmp_path: Path) -> None:
    with pytest.raises(ProgramMissingError):
        run_program((str(tmp_path / "none"),), environment={}, timeout_seconds=1)
    command = NotifyCommand(name="x", words=(str(tmp_path / "none"),), owner=os.getuid())
    assert command.deliver(message()).result is Result.LATER


def test_only_what_nobody_else_can_write_is_run(tmp_path: Path) -> None:
    me = os.getuid()
    directory = tmp_path / "hooks"
    directory.mkdir(mode=0o755)
    path = program(directory, "exit 0")
    check_trusted(path, owner=me, executable=True)

    def refused(which: Path, *, executable: bool = True) -> bool:
        try:
            check_trusted(which, owner=me, executable=executable)
        except UntrustedFileError:
            return True
        return False

    for mode in (0o775, 0o757, 0o777):
        path.chmod(mode)
        assert refused(path)
    path.chmod(0o644)
    assert refused(path)
    assert not refused(path, executable=False)
    path.chmod(0o755)
    for mode in (0o775, 0o757, 0o1777):
        directory.chmod(mode)
        assert refused(path)
    directory.chmod(0o755)
    assert refused(directory)
    assert refused(Path("program"))
    assert refused(directory / ".." / "hooks" / "program")

    link = tmp_path / "link"
    link.symlink_to(path)
    assert not refused(link)
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    other = program(open_to_all, "exit 0")
    open_to_all.chmod(0o777)
    link.unlink()
    link.symlink_to(other)
    assert refused(link)
    link.unlink()
    link.symlink_to(link)
    assert refused(link)


@pytest.mark.root
def test_what_belongs_to_somebody_else_is_never_run(tmp_path: Path) -> None:
    directory = tmp_path / "hooks"
    directory.mkdir(mode=0o755)
    path = program(directory, "exit 0")
    check_trusted(path, executable=True)
    os.chown(path, 1234, 0)
    with pytest.raises(UntrustedFileError, match="belongs to 1234"):
        check_trusted(path, executable=True)
    os.chown(path, 0, 0)
    os.chown(directory, 1234, 0)
    with pytest.raises(UntrustedFileError, match="belongs to 1234"):
        check_trusted(path, executable=True)
