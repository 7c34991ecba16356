"""Files that appear whole or not at all, and locks."""

import errno
import os
import pwd
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lxdocker_lxd import atomic
from lxdocker_lxd.errors import StorageError


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_content_and_mode_are_as_asked(tmp_path: Path) -> None:
    path = tmp_path / "key"
    atomic.write(path, b"secret", mode=0o600)
    assert path.read_bytes() == b"secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names(tmp_path) == ["key"]


def test_a_secret_is_never_readable_by_others_while_written(tmp_path: Path) -> None:
    with atomic.replacing(tmp_path / "key", mode=0o600) as file:
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o600


def test_a_failing_writer_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write() -> None:
        with atomic.replacing(path) as file:
            file.write(b"new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_readers_see_the_old_file_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with atomic.replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_a_symlink_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"kept")
    (tmp_path / "link").symlink_to("target")
    atomic.write(tmp_path / "link", b"new")
    assert (tmp_path / "target").read_bytes() == b"kept"
    assert not (tmp_path / "link").is_symlink()


def test_a_temporary_name_and_a_directory_that_become_links_lead_nowhere(tmp_path: Path) -> None:
    place, elsewhere = tmp_path / "place", tmp_path / "elsewhere"
    place.mkdir()
    elsewhere.mkdir()
    (elsewhere / "victim").write_bytes(b"kept")
    with atomic.replacing(place / "file") as file:
        (temporary,) = place.iterdir()
        temporary.unlink()
        temporary.symlink_to(elsewhere / "victim")
        place.rename(tmp_path / "moved")
        place.symlink_to(elsewhere)
        file.write(b"new")
    assert [(path.name, path.read_bytes()) for path in elsewhere.iterdir()] == [("victim", b"kept")]


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "made")
    with pytest.raises(StorageError, match="lock"):
        atomic.open_lock(tmp_path / "lock")
    assert not (tmp_path / "made").exists()


def test_a_missing_directory_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file"):
        atomic.write(tmp_path / "no" / "file", b"")


def test_a_full_disk_is_a_storage_error_with_a_next_step() -> None:
    error = atomic.storage_error("write", Path("/f"), OSError(errno.ENOSPC, "x"))
    assert error.message == "write /f: No space left on device"
    assert "free some space" in error.hint


def test_a_full_disk_inside_the_block_is_a_storage_error(tmp_path: Path) -> None:
    def write() -> None:
        with atomic.replacing(tmp_path / "file"):
            raise OSError(errno.ENOSPC, "full")

    with pytest.raises(StorageError, match="No space"):
        write()
    assert names(tmp_path) == []


def test_a_broken_connection_inside_the_block_stays_one(tmp_path: Path) -> None:
    """Network exceptions are OSErrors too and were once reported as a failing disk."""

    def write() -> None:
        with atomic.replacing(tmp_path / "file"):
            raise ConnectionResetError(errno.ECONNRESET, "reset")

    with pytest.raises(ConnectionResetError):
        write()
    assert names(tmp_path) == []


def test_a_directory_in_the_way_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(StorageError):
        atomic.write(tmp_path / "file", b"")
    assert names(tmp_path) == ["file"]


def test_make_directory(tmp_path: Path) -> None:
    atomic.make_directory(tmp_path / "a" / "b")
    atomic.make_directory(tmp_path / "a" / "b")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="create directory"):
        atomic.make_directory(tmp_path / "file" / "x")


def test_a_killed_writer_leaves_the_old_file_and_what_sweep_removes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    program = (
        "import os, sys, pathlib\n"
        "from lxdocker_lxd import atomic\n"
        "with atomic.replacing(pathlib.Path(sys.argv[1])) as file:\n"
        "    file.write(b'new'); file.flush(); os.kill(os.getpid(), 9)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, path], check=False)
    assert ended.returncode == -9
    assert path.read_bytes() == b"old"
    assert len(names(tmp_path)) == 2
    atomic.sweep(tmp_path)
    assert names(tmp_path) == ["file"]


def test_sweep_spares_directories_and_what_links_point_to(tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(b"")
    (tmp_path / ".tmp-link").symlink_to("kept")
    (tmp_path / ".tmp-directory").mkdir()
    atomic.sweep(tmp_path)
    assert names(tmp_path) == [".tmp-directory", "kept"]
    atomic.sweep(tmp_path / "missing")


def test_an_exclusive_lock_waits_for_shared_ones(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    order: list[str] = []

    def writer() -> None:
        with atomic.locked(lock, on_wait=lambda _: order.append("waits")):
            order.append("writes")

    with atomic.locked(lock, shared=True), atomic.locked(lock, shared=True):
        thread = threading.Thread(target=writer)
        thread.start()
        thread.join(0.2)
        order.append("read")
    thread.join(10)
    assert order == ["waits", "read", "writes"]


def test_a_free_lock_is_taken_without_a_word(tmp_path: Path) -> None:
    waits: list[str] = []
    with atomic.locked(tmp_path / "lock", on_wait=waits.append):
        assert waits == []


def test_a_lock_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="lock"), atomic.locked(tmp_path / "no" / "lock"):
        pass


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_nobody_else_can_open_a_lock_and_an_old_one_is_closed_to_others(tmp_path: Path) -> None:
    """flock needs no right to write: a lock that others can read is one that others can hold."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.touch(mode=0o644)
    for path in (old, new):
        with atomic.locked(path):
            assert mode(path) == 0o600


def test_what_is_no_file_is_no_lock(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lock")
    with pytest.raises(StorageError, match="it is no plain file"), atomic.locked(tmp_path / "lock"):
        pass


@pytest.mark.parametrize("shared", [False, True])
def test_a_wait_ends_and_says_who_holds_the_lock(tmp_path: Path, *, shared: bool) -> None:
    path = tmp_path / "lock"
    path.touch()
    script = f"import fcntl; f = open({str(path)!r}); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=1); input()"
    words = [sys.executable, "-c", script]
    heard: list[str] = []
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()
        taken = atomic.locked(path, shared=shared, on_wait=heard.append, wait_seconds=0.2)
        with pytest.raises(StorageError, match=f"held by process {other.pid} ") as caught, taken:
            pass
        other.communicate(b"\n")
    user = pwd.getpwuid(os.getuid()).pw_name
    assert heard == [f"process {other.pid} ({Path(sys.executable).name[:15]}) of {user}"]
    assert f"kill {other.pid}" in caught.value.hint
    with atomic.locked(path, wait_seconds=0):
        pass


def test_a_free_lock_has_no_holder_and_readers_are_all_named(tmp_path: Path) -> None:
    descriptor = atomic.open_lock(tmp_path / "lock")
    assert atomic.holder(descriptor) == ""
    with (
        atomic.locked(tmp_path / "lock", shared=True),
        atomic.locked(tmp_path / "lock", shared=True),
    ):
        assert atomic.holder(descriptor).count("process ") == 1
    os.close(descriptor)


def test_a_program_cannot_speak_to_the_terminal_by_its_name() -> None:
    assert atomic.process_text(1, "a\x1b[2J\n", "root") == "process 1 (a\\x1b[2J) of root"


def test_try_exclusive_never_waits(tmp_path: Path) -> None:
    first, second = (atomic.open_lock(tmp_path / "lock") for _ in range(2))
    assert atomic.try_exclusive(first)
    assert not atomic.try_exclusive(second)
    os.close(first)
    assert atomic.try_exclusive(second)
    os.close(second)


@pytest.mark.parametrize(
    ("action", "hint"), [("read", "may read it"), ("write", "may write there")]
)
def test_the_next_step_fits_what_was_being_done(action: str, hint: str) -> None:
    error = atomic.storage_error(action, Path("/x"), PermissionError(errno.EACCES, "no"))
    assert hint in error.hint
