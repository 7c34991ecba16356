"""Tar files that go into a real LXD while they are packed: broken anywhere, nothing of them stays."""

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness.lxd import PrivateLxd
from tests.harness.processes import eventually, run
from tests.lxd.data_image import write_data_layout
from tests.lxd.user import User

pytestmark = [pytest.mark.lxd, pytest.mark.tools]

TAR = {"LXDOCKER_LXD_IMAGEFORMAT": "tar"}
EXTRA_BYTES = 24 << 20
SMALL_BYTES = 64 << 10
FULL = os.environ.get("LXDOCKER_TEST_FULL") == "1"


@pytest.fixture
def user(private_lxd: PrivateLxd, tmp_path: Path) -> Iterator[User]:
    """Somebody at a machine with LXD who imports tar files, and a large image in ``big``."""
    one = User(lxd=private_lxd, home=tmp_path / "home", environment=dict(TAR))
    one.clean()
    write_data_layout(one.home / "big", extra=random.Random(1).randbytes(EXTRA_BYTES))
    yield one
    one.clean()


def until_sending(command: "subprocess.Popen[str]") -> None:
    """Wait until bytes are on their way."""
    assert command.stderr is not None
    for line in command.stderr:
        if '"bytes-done"' in line and '"send"' in line:
            return


def store_is_empty(lxd: PrivateLxd) -> None:
    store = lxd.directory / "images"
    eventually(lambda: not list(store.iterdir()), timeout_seconds=20, what="LXD to clean up")


def kept(user: User) -> list[Path]:
    """Files of root filesystems on our side, whole or half."""
    images = user.home / "imports" / "images" / "images"
    found = images.iterdir() if images.exists() else ()
    return [path for path in found if not path.name.endswith(".meta.tar")]


def test_only_lxd_keeps_the_image(user: User) -> None:
    first = user.image("oci:big:1.0", "--progress", "json")
    assert (first["outcome"], kept(user)) == ("imported", [])
    assert set(user.images()) == {first["fingerprint"]}
    assert user.images()[first["fingerprint"]]["properties"]["serial"] == first["serial"]
    again = user.run("import", "oci:big:1.0", "--progress", "json")
    assert '"send"' not in again.err
    assert '"pack"' not in again.err
    user.run("launch", "oci:big:1.0", "db", "--wait")
    user.lxd.delete("db")


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.full)]
)
def test_who_ends_it_in_the_middle_leaves_nothing(user: User, number: signal.Signals) -> None:
    command = user.start("import", "oci:big:1.0", "--progress", "json")
    until_sending(command)
    command.send_signal(number)
    command.communicate(timeout=60)
    assert command.returncode != 0
    store_is_empty(user.lxd)
    assert (user.images(), user.aliases()) == ({}, {})
    # Who is killed leaves the metadata's temporary file, which the next run removes.
    assert sum(path.stat().st_size for path in kept(user)) < SMALL_BYTES
    assert number == signal.SIGKILL or not kept(user)
    assert user.image("oci:big:1.0")["outcome"] == "imported"
    assert kept(user) == []


def test_killed_at_any_moment_it_is_finished_by_the_next_try(user: User) -> None:
    """What a kill may leave in the moment between image and name is named by the next try."""
    started = time.monotonic()
    whole = user.image("oci:big:1.0")
    seconds = time.monotonic() - started
    dice = random.Random(7)
    for _ in range(40 if FULL else 2):
        user.lxd.lxc("image", "delete", whole["fingerprint"])
        command = user.start("import", "oci:big:1.0")
        with contextlib.suppress(subprocess.TimeoutExpired):
            command.wait(dice.uniform(0.3, 1.1) * seconds)
        command.kill()
        command.communicate(timeout=30)
        last = user.image("oci:big:1.0")
        assert last["fingerprint"] == whole["fingerprint"]
        assert dict(user.aliases()) == {"big/1.0": whole["fingerprint"]}
        assert kept(user) == []
        names = {path.name.partition(".")[0] for path in (user.lxd.directory / "images").iterdir()}
        assert names == {whole["fingerprint"]}


@pytest.mark.parametrize("way", ["crash", pytest.param("restart", marks=pytest.mark.full)])
def test_lxd_goes_away_in_the_middle(user: User, tmp_path: Path, way: str) -> None:
    with PrivateLxd() as lxd:
        there = User(lxd=lxd, home=tmp_path / "there", environment=dict(TAR))
        command = there.start("import", f"oci:{user.home}/big:1.0", "--progress", "json")
        until_sending(command)
        go: Callable[[], None] = lxd.restart if way == "restart" else lxd.crash
        go()
        _, err = command.communicate(timeout=60)
        assert command.returncode == 7, err
        error, hint = [line for line in err.splitlines() if not line.startswith("{")]
        assert error.startswith("error: could not send the image"), error
        assert hint.startswith("hint: ")
        assert (there.images(), kept(there)) == ({}, [])
        assert there.image(f"oci:{user.home}/big:1.0")["outcome"] == "imported"


@pytest.mark.root
def test_the_disk_of_lxd_is_full(user: User) -> None:
    store = user.lxd.directory / "images"
    run("mount", "-t", "tmpfs", "-o", "size=12m,mode=0700", "tmpfs", store)
    try:
        said = user.run("import", "oci:big:1.0", code=7)
        assert "no space left" in said.err.lower(), said.err
        assert [line.partition(":")[0] for line in said.err.splitlines()] == ["error", "hint"]
        store_is_empty(user.lxd)
        assert (user.images(), user.aliases(), kept(user)) == ({}, {}, [])
    finally:
        run("umount", store)
    assert user.image("oci:big:1.0")["outcome"] == "imported"


@pytest.mark.root
def test_our_own_disk_needs_no_room_for_it(user: User) -> None:
    images = user.home / "imports" / "images"
    images.mkdir(parents=True)
    run("mount", "-t", "tmpfs", "-o", "size=1m,mode=0755", "tmpfs", images)
    try:
        assert user.image("oci:big:1.0")["outcome"] == "imported"
    finally:
        run("umount", images)


@pytest.mark.full
def test_a_layer_that_breaks_ends_both_sides(user: User) -> None:
    """The blob is damaged in the cache between its check and its second reading."""
    command = user.start("import", "oci:big:1.0", "--progress", "json")
    assert command.stderr is not None
    for line in command.stderr:
        if '"stage-started"' in line and '"send"' in line:
            break
    for blob in (user.home / "imports" / "cache" / "blobs").rglob("*"):
        if blob.is_file() and blob.stat().st_size > EXTRA_BYTES:
            with blob.open("r+b") as file:
                file.seek(-(1 << 20), os.SEEK_END)
                file.write(bytes(1 << 16))
    _, err = command.communicate(timeout=60)
    lines = [line for line in err.splitlines() if not line.startswith("{")]
    assert (command.returncode, len(lines)) == (6, 2), (command.returncode, err)
    store_is_empty(user.lxd)
    assert (user.images(), kept(user)) == ({}, [])
    assert user.image("oci:big:1.0")["outcome"] == "imported"
