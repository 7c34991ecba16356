"""On a real LXD, pools of ``dir`` and of btrfs: a version that migrates and fails leaves no trace."""

import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.lxd import PrivateLxd
from tests.harness.processes import eventually
from tests.lxd.update_stage import Stage

pytestmark = pytest.mark.lxd

KEY = "user.lxdocker.update.volumes"


@pytest.fixture(scope="module")
def images(private_lxd: PrivateLxd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(private_lxd, tmp_path_factory.mktemp("images"), words=("one", "two"))
    yield stage
    stage.remove_images()


@pytest.fixture(params=["dir", "btrfs"])
def pool(images: Stage, request: pytest.FixtureRequest) -> Iterator[str]:
    """A pool with the volume ``rows``."""
    driver = request.param
    if driver == "btrfs" and shutil.which("mkfs.btrfs") is None:
        pytest.skip("btrfs-progs isn't installed")
    size = ["size=512MiB"] if driver == "btrfs" else []
    name = f"volumes-{driver}"
    images.lxd.lxc("storage", "create", name, driver, *size)
    images.lxd.lxc("storage", "volume", "create", name, "rows")
    yield name
    images.clean()
    images.lxd.lxc("storage", "volume", "delete", name, "rows")
    images.lxd.lxc("storage", "delete", name)


def database(stage: Stage, pool: str, state: Path, *, keys: bool = True) -> str:
    """An enrolled instance with rows, before a version that migrates and ends."""
    disk = {"type": "disk", "pool": pool, "source": "rows", "path": "/data"}
    config = {"environment.TWO": "migrates"} | ({KEY: "snapshot"} if keys else {})
    name = stage.launch("one", config, {"data": disk})
    stage.lxd.shell(name, "echo precious >/data/rows")
    stage.follow("app", "one")
    stage.update(state, "enable", name, "--image=local|app")
    stage.follow("app", "two")
    return name


def rows(stage: Stage, name: str) -> str:
    return stage.lxd.shell(name, "cat /data/*")


def snapshots(stage: Stage, pool: str) -> list[str]:
    path = f"/1.0/storage-pools/{pool}/volumes/custom/rows/snapshots"
    return [str(one) for one in stage.lxd.query("GET", path)]


def test_the_rows_after_a_turn_back_are_those_before(
    images: Stage, pool: str, tmp_path: Path
) -> None:
    name = database(images, pool, tmp_path)
    done = images.update(tmp_path, "now", name, check=False)
    assert "rolled back" in done.stdout
    assert images.version(name) == "one"
    assert rows(images, name) == "precious\n"
    assert snapshots(images, pool) == []


def test_without_the_key_they_are_what_the_new_version_wrote(
    images: Stage, pool: str, tmp_path: Path
) -> None:
    name = database(images, pool, tmp_path, keys=False)
    images.update(tmp_path, "now", name, check=False)
    assert images.version(name) == "one"
    assert rows(images, name) == "2\nmigrated\n"


def test_killed_in_the_middle_of_it_they_still_are(
    images: Stage, pool: str, tmp_path: Path
) -> None:
    """Killed as soon as the new version has written: the worst moment."""
    name = database(images, pool, tmp_path)
    lxd = images.lxd
    running = images.begin(tmp_path, "now", name)
    eventually(
        lambda: (
            lxd.shell(name, "cat /data/format", check=False) == "2\n"
            or running.poll() is not None
            or len(snapshots(images, pool)) > 0
        ),
        timeout_seconds=60,
        what="the snapshot",
    )
    time.sleep(0.5)
    running.send_signal(signal.SIGKILL)
    running.communicate(timeout=30)
    images.update(tmp_path, "recover", check=False)
    assert images.version(name) == "one"
    assert rows(images, name) == "precious\n"
    assert snapshots(images, pool) == []


def test_a_snapshot_whose_update_is_forgotten_goes_and_a_users_stays(
    images: Stage, pool: str, tmp_path: Path
) -> None:
    name = database(images, pool, tmp_path)
    for snapshot in ("lxdocker-0000abcd", "lxdocker-mine"):
        images.lxd.lxc("storage", "volume", "snapshot", pool, "rows", snapshot)
    done = images.update(tmp_path, "now", name, check=False)
    assert "removed the snapshot lxdocker-0000abcd of the volume rows" in done.stdout + done.stderr
    assert [path.rsplit("/", 1)[-1] for path in snapshots(images, pool)] == ["lxdocker-mine"]
