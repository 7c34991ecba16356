"""The updater on the real LXD: everything a name stands for survives, broken versions go back."""

import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lxdocker_lxd.lxd.daemon import LxdDaemon, open_lxd
from lxdocker_lxd.lxd.place import SocketPlace
from lxdocker_lxd.update.recovery import reap
from lxdocker_lxd.update.rejection import rejections_of
from lxdocker_lxd.update.transaction import Phase, readable_stamp
from tests.harness.image_server import free_port
from tests.harness.lxd import PrivateLxd
from tests.harness.processes import eventually
from tests.lxd.update_stage import Stage

pytestmark = pytest.mark.lxd

FULL = os.environ.get("LXDOCKER_TEST_FULL") == "1"


@pytest.fixture(scope="module")
def images(private_lxd: PrivateLxd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(private_lxd, tmp_path_factory.mktemp("images"))
    yield stage
    for fingerprint in stage.fingerprints.values():
        private_lxd.lxc("image", "delete", fingerprint, check=False)


@pytest.fixture
def stage(images: Stage) -> Iterator[Stage]:
    yield images
    images.clean()


@pytest.fixture
def daemon(private_lxd: PrivateLxd) -> LxdDaemon:
    return open_lxd(SocketPlace(socket=private_lxd.socket))


def test_an_update_keeps_addresses_volumes_and_every_key(
    stage: Stage, daemon: LxdDaemon, tmp_path: Path
) -> None:
    lxd = stage.lxd
    lxd.lxc("storage", "volume", "create", "default", "data", check=False)
    fixed = str(lxd.subnet[77])
    name = stage.launch(
        "one",
        {"environment.SECRET": "a=b c", "limits.memory": "128MiB", "boot.autostart": "true"},
        {
            "eth0": {
                "type": "nic",
                "network": lxd.network,
                "name": "eth0",
                "ipv4.address": fixed,
                "security.port_isolation": "false",
            },
            "data": {"type": "disk", "pool": "default", "source": "data", "path": "/data"},
        },
    )
    assert lxd.address(name) == fixed
    lxd.shell(name, "echo precious >/data/file")
    lxd.lxc("snapshot", name, "before")
    stage.follow("app", "one")
    stage.update(tmp_path, "enable", name, "--image=local|app")
    before = stage.story(name)
    assert "it has the newest app" in stage.update(tmp_path, "plan").stdout

    stage.follow("app", "two")
    assert json.loads(stage.update(tmp_path, "plan", "--format=json").stdout)["decisions"][0][
        "choice"
    ] == ("update")
    done = stage.update(tmp_path, "now", name)

    assert "committed" in done.stdout
    # The files were remapped before the outage, and the templates waited for the name.
    steps = [line.rpartition(": ")[2] for line in done.stderr.splitlines()]
    assert steps.index("remap") < steps.index("lease"), done.stderr
    assert lxd.shell(name, "cat /etc/hostname") == f"{name}\n"
    assert stage.story(name) == before
    assert lxd.shell(name, "cat /version /data/file") == "twoprecious\n"
    assert lxd.address(name) == fixed
    # The parked copy holds no address and no volume, and its snapshots keep it from being removed.
    assert "kept copy" in stage.update(tmp_path, "status").stdout
    assert reap(daemon, datetime(2099, 1, 1, tzinfo=UTC)).removed == ()

    # Somebody goes back, after changing something.
    lxd.lxc("config", "set", name, "limits.memory=256MiB")
    stage.update(tmp_path, "rollback", name)
    assert lxd.shell(name, "cat /version /data/file") == "oneprecious\n"
    after = stage.story(name)
    assert after["config"].pop("limits.memory") == "256MiB"
    assert before["config"].pop("limits.memory") == "128MiB"
    assert after == before
    assert lxd.address(name) == fixed
    assert [snapshot.name for snapshot in daemon.instances.snapshots(name)] == ["before"]
    assert "rolled back" in stage.update(tmp_path, "history").stdout


@pytest.mark.parametrize("how", ["ends", pytest.param("crashes", marks=pytest.mark.full)])
def test_a_broken_version_goes_back_to_the_parked_root(
    stage: Stage, daemon: LxdDaemon, tmp_path: Path, how: str
) -> None:
    lxd = stage.lxd
    stable = {"user.lxdocker.update.stable": "6"} if how == "crashes" else {}
    name = stage.launch("one", {"environment.TWO": how} | stable)
    lxd.shell(name, "echo mine >/root-data")
    stage.follow("app", "two")
    stage.update(tmp_path, "enable", name, "--image=local|app")
    before = stage.story(name)

    done = stage.update(tmp_path, "now", name, check=False)

    assert done.returncode == 1
    assert "it ended by itself" in done.stdout
    assert lxd.shell(name, "cat /version /root-data") == "onemine\n"
    assert stage.story(name) == before
    (rejection,) = rejections_of(daemon.instances.get(name).config)
    assert rejection.fingerprint == stage.fingerprints["two"]
    # It isn't tried again, what is left of it is kept for its time, and the next good one goes through.
    assert "rolled back" in stage.update(tmp_path, "now", name).stdout
    left = sorted(one for one in lxd.instances() if one.startswith(name))
    assert (left[0], len(left)) == (name, 2)
    stamp = readable_stamp(daemon.instances.get(left[1]))
    assert (left[1].startswith(f"{name}-new-"), stamp and stamp.phase) == (True, Phase.REJECTED)
    lxd.lxc("config", "set", name, "user.lxdocker.update.stable=0")
    stage.follow("app", "good")
    stage.update(tmp_path, "now", name)
    assert stage.version(name) == "good"
    # It is remembered, and no longer one of a series.
    (rejection,) = rejections_of(daemon.instances.get(name).config)
    assert (rejection.fingerprint, rejection.past) == (stage.fingerprints["two"], True)


@pytest.mark.full
def test_a_version_that_runs_and_never_gets_healthy_goes_back(
    stage: Stage, daemon: LxdDaemon, tmp_path: Path
) -> None:
    lxd = stage.lxd
    name = stage.launch(
        "one", {"user.lxdocker.update.health": "exec busybox grep -qv two /version"}
    )
    lxd.shell(name, "echo mine >/root-data")
    stage.follow("app", "two")
    stage.update(tmp_path, "enable", name, "--image=local|app")
    before = stage.story(name)

    done = stage.update(tmp_path, "now", name, check=False)

    assert done.returncode == 1
    assert "rolled back" in done.stdout
    assert lxd.shell(name, "cat /version /root-data") == "onemine\n"
    assert stage.story(name) == before
    (rejection,) = rejections_of(daemon.instances.get(name).config)
    assert rejection.fingerprint == stage.fingerprints["two"]
    stage.follow("app", "good")
    stage.update(tmp_path, "now", name)
    assert stage.version(name) == "good"


def test_a_stopped_instance_is_updated_and_stays_stopped(stage: Stage, tmp_path: Path) -> None:
    name = stage.launch("one", start=False)
    stage.follow("app", "two")
    stage.update(tmp_path, "enable", name, "--image=local|app")
    before = stage.story(name)
    stage.update(tmp_path, "now", name)
    assert stage.lxd.status(name) == "Stopped"
    assert stage.story(name) == before
    assert stage.version(name) == "two"


def test_the_service_notices_a_moved_alias_at_once(stage: Stage, tmp_path: Path) -> None:
    name = stage.launch("one")
    stage.follow("app", "one")
    stage.update(tmp_path, "enable", name, "--image=local|app")
    with stage.begin(tmp_path, "run", "--interval=600") as service:
        try:
            time.sleep(3)
            stage.follow("app", "two")
            moved = time.monotonic()
            eventually(
                lambda: any(one.startswith(f"{name}-new") for one in stage.lxd.instances()),
                timeout_seconds=10,
                what="the successor",
            )
            noticed = time.monotonic() - moved
            eventually(
                lambda: stage.base_image(name) == stage.fingerprints["two"],
                timeout_seconds=30,
                what="the update",
            )
            eventually(
                lambda: "committed" in stage.update(tmp_path, "history").stdout,
                timeout_seconds=30,
                what="its end",
            )
            # A command beside the service; which then leaves that version alone.
            stage.update(tmp_path, "rollback", name)
            stage.follow("app", "two")
            time.sleep(2)
            assert stage.version(name) == "one"
        finally:
            service.terminate()
            _, told = service.communicate(timeout=30)
    assert service.returncode == 0, told
    assert f"{name}: committed" in told
    # On a machine that is busy with other tests, too.
    assert noticed < 5


# In the full run it makes, kills and recovers some two dozen updates.
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("how", ["", "ends"])
def test_an_updater_killed_after_any_step_loses_nothing(
    stage: Stage, daemon: LxdDaemon, tmp_path: Path, how: str, lost: bool
) -> None:
    """SIGKILL after the n-th step; with ``lost`` the journal goes, too. All n in the full run."""
    chosen = {("", False): (11,), ("ends", True): (16,)}
    steps = range(1, 28) if FULL else chosen.get((how, lost), ())
    for number in steps:
        name = stage.launch("one", {"environment.TWO": how} if how else {})
        stage.follow("app", "two")
        stage.update(tmp_path, "enable", name, "--image=local|app")
        before = stage.story(name)
        state = tmp_path / str(number)
        with stage.begin(state, "now", name) as process:
            assert process.stderr is not None
            told = [process.stderr.readline() for _ in range(number)]
            os.killpg(process.pid, signal.SIGKILL)
        if lost:
            (state / "journal.jsonl").unlink(missing_ok=True)
        stage.update(state, "recover")
        assert stage.story(name) == before, told
        assert stage.version(name) in ({"one"} if how else {"one", "two"}), told
        assert stage.lxd.status(name) == "Running"
        stamp = readable_stamp(daemon.instances.get(name))
        assert stamp is None or stamp.phase == "committed", told
        stage.clean()
        if not told[-1]:
            break


@pytest.mark.timeout(1200)
def test_dependants_of_an_update_killed_anywhere_run_after_the_next_round(
    stage: Stage, daemon: LxdDaemon, tmp_path: Path
) -> None:
    """SIGKILL after some steps of the dependency's update; the round of another updater mends it."""

    def started(name: str) -> datetime:
        found = daemon.instances.get(name)
        assert (found.status, found.last_used_at is None) == ("Running", False)
        return found.last_used_at or datetime.min.replace(tzinfo=UTC)

    for number in range(8, 24) if FULL else (15,):
        stage.follow("app", "one")
        stage.follow("still", "good")
        db = stage.launch("one")
        web = stage.launch("good", {"user.lxdocker.depends": db})
        stage.update(tmp_path, "enable", db, "--image=local|app")
        stage.update(tmp_path, "enable", web, "--image=local|still")
        stage.follow("app", "two")
        state = tmp_path / str(number)
        with stage.begin(state, "now", db) as process:
            assert process.stderr is not None
            told = [process.stderr.readline() for _ in range(number)]
            os.killpg(process.pid, signal.SIGKILL)
        stage.update(state, "now", check=False)
        assert started(db) < started(web), told
        assert stage.version(db) in {"one", "two"}, told
        stage.clean()


def test_every_kind_of_device_and_an_isolated_id_map_survive(stage: Stage, tmp_path: Path) -> None:
    lxd = stage.lxd
    lxd.lxc("storage", "volume", "create", "default", "owned", check=False)
    second = lxd.add_network()
    host_directory = tmp_path / "shared"
    host_directory.mkdir()
    name = stage.launch(
        "one",
        {
            "security.idmap.isolated": "true",
            "security.nesting": "true",
            "environment.QUOTED": 'it\'s "quoted" = #1',
            "boot.autostart": "false",
            "boot.autostart.priority": "7",
            "snapshots.expiry": "3d",
            "raw.lxc": "lxc.environment = FROM_RAW=1",
            "user.note": "two\nlines",
            "user.lxdocker.restart": "always",
        },
        {
            "eth0": {
                "type": "nic",
                "network": lxd.network,
                "name": "eth0",
                "security.mac_filtering": "true",
                "security.port_isolation": "true",
                "hwaddr": "00:16:3e:12:34:56",
            },
            "inner": {"type": "nic", "network": second, "name": "eth1"},
            "owned": {"type": "disk", "pool": "default", "source": "owned", "path": "/owned"},
            "shared": {"type": "disk", "source": str(host_directory), "path": "/shared"},
            "stick": {"type": "unix-char", "source": "/dev/zero", "path": "/dev/stick"},
            "absent": {"type": "usb", "vendorid": "dead", "productid": "beef"},
            "web": {
                "type": "proxy",
                "listen": f"tcp:{lxd.subnet[1]}:{free_port()}",
                "connect": "tcp:127.0.0.1:80",
            },
            "root": {"type": "disk", "pool": "default", "path": "/"},
        },
    )
    lxd.shell(name, "echo mine >/owned/file")
    owner = lxd.shell(name, "stat -c %u:%g /owned/file")
    base = lxd.query("GET", f"/1.0/instances/{name}")["config"]["volatile.idmap.base"]
    stage.follow("app", "two")
    stage.update(tmp_path, "enable", name, "--image=local|app")
    before = stage.story(name)

    with stage.begin(tmp_path, "now", name) as process:
        assert process.stderr is not None
        while "lease" not in (line := process.stderr.readline()):
            assert line, "it never came to the lease"
        (new,) = (one for one in lxd.instances() if one.startswith(f"{name}-new"))
        remapped = lxd.query("GET", f"/1.0/instances/{new}")["config"]["volatile.last_state.idmap"]
        _, told = process.communicate(timeout=60)
        assert process.returncode == 0, told

    after = stage.story(name)
    # Its files were remapped once, for the map that its volumes have too.
    volatile = lxd.query("GET", f"/1.0/instances/{name}")["config"]
    assert volatile["volatile.last_state.idmap"] == volatile["volatile.idmap.current"] == remapped
    # The one key that is added: without it LXD would draw another map and chown the volume.
    assert after["config"].pop("security.idmap.base") == base
    assert after == before
    assert stage.version(name) == "two"
    assert lxd.shell(name, "cat /owned/file") == "mine\n"
    assert lxd.shell(name, "stat -c %u:%g /owned/file") == owner
    assert lxd.query("GET", f"/1.0/instances/{name}")["config"]["volatile.idmap.base"] == base
    stage.update(tmp_path, "rollback", name)
    assert stage.story(name) == before
    assert lxd.shell(name, "stat -c %u:%g /owned/file") == owner


@pytest.mark.timeout(1200)
def test_lxd_restarted_in_the_middle_loses_nothing(
    stage: Stage, daemon: LxdDaemon, tmp_path: Path
) -> None:
    for number in range(1, 23) if FULL else (14,):
        name = stage.launch("one")
        stage.follow("app", "two")
        stage.update(tmp_path, "enable", name, "--image=local|app")
        before = stage.story(name)
        state = tmp_path / str(number)
        with stage.begin(state, "now", name) as process:
            assert process.stderr is not None
            told = [process.stderr.readline() for _ in range(number)]
            stage.lxd.restart()
            process.communicate(timeout=120)
        stage.update(state, "recover")
        assert stage.story(name) == before, told
        assert stage.version(name) in {"one", "two"}
        assert stage.lxd.status(name) == "Running"
        stamp = readable_stamp(daemon.instances.get(name))
        assert stamp is None or stamp.phase == "committed", told
        stage.clean()


@pytest.mark.full
def test_lxd_killed_while_it_remaps_files_leaves_none_of_them_remapped_twice(
    private_lxd: PrivateLxd, tmp_path: Path
) -> None:
    stage = Stage(private_lxd, tmp_path, words=("first", "second"), more_files=6_000)
    try:
        name = stage.launch("first")
        stage.follow("app", "second")
        stage.update(tmp_path, "enable", name, "--image=local|app")
        before = stage.story(name)
        with stage.begin(tmp_path, "now", name, "--no-refresh") as process:
            assert process.stderr is not None
            while "remap" not in (line := process.stderr.readline()):
                assert line, "it never came there"
            root = Path(private_lxd.directory, "storage-pools", "default", "containers")
            root = next(root.glob(f"{name}-new-*")) / "rootfs"
            eventually(lambda: root.stat().st_uid != 0, timeout_seconds=20, what="remapping")
            private_lxd.crash()
            _, told = process.communicate(timeout=120)
        stage.update(tmp_path, "recover")
        assert stage.story(name) == before, told
        assert private_lxd.status(name) == "Running"
        assert stage.version(name) == "second", told
        assert private_lxd.shell(name, "stat -c %u /app /srv/* | sort -u") == "0\n"
    finally:
        stage.clean()
        stage.remove_images()


def test_a_user_stops_the_new_version_while_it_is_watched(stage: Stage, tmp_path: Path) -> None:
    name = stage.launch("one", {"user.lxdocker.update.stable": "30"})
    stage.follow("app", "two")
    stage.update(tmp_path, "enable", name, "--image=local|app")
    before = stage.story(name)
    with stage.begin(tmp_path, "now", name) as process:
        assert process.stderr is not None
        while "gate" not in (line := process.stderr.readline()):
            assert line, "it never came to the gate"
        time.sleep(2)
        stage.lxd.lxc("stop", "--force", name)
        _, told = process.communicate(timeout=60)
    assert stage.lxd.status(name) == "Stopped", told
    assert stage.story(name) == before, told
    assert stage.version(name) == "one"
    assert "somebody stopped it" in stage.update(tmp_path, "history").stdout
