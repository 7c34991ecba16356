"""What updates promise about roots and data, on the real LXD, where versions and users are at their
worst: the root that worked, and the data, are there each time, and what is told is true.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lxdocker_lxd.convert.image_config import Healthcheck, ImageConfig
from lxdocker_lxd.lxd.daemon import LxdDaemon, open_lxd
from lxdocker_lxd.lxd.place import SocketPlace
from lxdocker_lxd.update.recovery import reap
from tests.guest.lxd_guest import image_config
from tests.harness.lxd import PrivateLxd
from tests.harness.lxd_image import lxd_image
from tests.harness.processes import eventually
from tests.lxd.update_stage import Stage

pytestmark = pytest.mark.lxd

STEADY = b"#!/bin/sh\nexec sleep 1000\n"
CRASHES = "#!/bin/sh\nsleep {seconds}\nexit 3\n"
# Needs a while for its clean end, as a database for its last checkpoint.
ENDS_SLOWLY = b"""#!/bin/sh
trap 'sleep 35; echo clean >>/data/ends; exit 0' TERM
while :; do sleep 1 & wait $!; done
"""
# Ready some seconds after it was started, which its check sees.
STARTS_SLOWLY = "#!/bin/sh\nsleep {seconds}\necho >/tmp/ready\nexec sleep 1000\n"
# Its root takes LXD a while to copy, and it is frozen meanwhile.
LARGE = b"#!/bin/sh\ndd if=/dev/zero of=/large bs=1M count=200\nexec sleep 1000\n"
THREE_DAYS = timedelta(hours=73)


def checked(*words: str) -> ImageConfig:
    """An image with a HEALTHCHECK that is run often."""
    check = Healthcheck(
        test=("CMD", *words),
        interval_seconds=0.2,
        timeout_seconds=2,
        start_period_seconds=None,
        retries=None,
    )
    return replace(image_config(), healthcheck=check)


@pytest.fixture(scope="module")
def images(private_lxd: PrivateLxd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(private_lxd, tmp_path_factory.mktemp("images"), words=())
    for word in ("first", "second", "third"):
        stage.add_image(word, STEADY)
    for seconds in (3, 12):
        stage.add_image(f"crashes-{seconds}", CRASHES.format(seconds=seconds).encode())
    stage.add_image("ends-at-once", b"#!/bin/sh\nexit 3\n")
    stage.add_image("large", LARGE)
    for seconds in (5, 15):
        app = STARTS_SLOWLY.format(seconds=seconds).encode()
        stage.add_image(f"ready-{seconds}", app, checked("/bin/test", "-e", "/tmp/ready"))
    stage.add_image("never-ready", STEADY, checked("/bin/test", "-e", "/tmp/ready"))
    yield stage
    stage.remove_images()


@pytest.fixture
def stage(images: Stage) -> Iterator[Stage]:
    yield images
    images.clean()


@pytest.fixture
def daemon(private_lxd: PrivateLxd) -> LxdDaemon:
    return open_lxd(SocketPlace(socket=private_lxd.socket))


def followed(
    stage: Stage,
    state: Path,
    word: str = "first",
    config: dict[str, str] | None = None,
    devices: dict[str, dict[str, str]] | None = None,
) -> str:
    """Launch an instance of ``word``, with a file of its own in its root, and follow its alias."""
    name = stage.launch(word, config, devices)
    stage.lxd.shell(name, "echo mine >/root-data")
    stage.follow("app", word)
    stage.update(state, "enable", name, "--image=local|app")
    return name


def copies(stage: Stage, name: str) -> dict[str, str]:
    """Versions of all that updates left beside an instance, by name."""
    words = {fingerprint: word for word, fingerprint in stage.fingerprints.items()}
    names = [one for one in stage.lxd.instances() if one.startswith((f"{name}-old", f"{name}-new"))]
    return {one: words[stage.base_image(one)] for one in names}


def told(stage: Stage, state: Path) -> list[dict[str, str]]:
    """How the updates of the history ended."""
    found: list[dict[str, str]] = json.loads(stage.update(state, "history", "--format=json").stdout)
    return found


def as_days_pass(stage: Stage, daemon: LxdDaemon) -> None:
    """Remove the copies that a round in three days would remove."""
    names = set(stage.lxd.instances())
    reaped = reap(daemon, datetime.now(UTC) + THREE_DAYS)
    assert set(stage.lxd.instances()) == names - set(reaped.removed)


# ---- proved


@pytest.mark.parametrize(
    ("window", "crash"), [("1", "3"), pytest.param("10", "12", marks=pytest.mark.full)]
)
def test_a_service_that_fell_over_after_its_window_is_started_with_its_fix(
    stage: Stage, daemon: LxdDaemon, tmp_path: Path, window: str, crash: str
) -> None:
    lxd = stage.lxd
    name = followed(stage, tmp_path, "first", {"user.lxdocker.update.stable": window})
    stage.follow("app", f"crashes-{crash}")
    assert "committed" in stage.update(tmp_path, "now", name).stdout
    lxd.wait_status(name, "Stopped", timeout_seconds=30)
    assert "first" in copies(stage, name).values()

    stage.follow("app", "third")
    done = stage.update(tmp_path, "now", name)

    assert "committed" in done.stdout, done.stderr
    assert lxd.status(name) == "Running"
    assert stage.version(name) == "third"
    # It had to pass its gate, as one that was running.
    assert f"{name}: gate" in done.stderr
    (old,) = (one for one, version in copies(stage, name).items() if version == "first")
    assert lxd.file_pull(old, "/root-data") == b"mine\n"
    as_days_pass(stage, daemon)
    assert lxd.status(name) == "Running"


def test_a_version_that_never_ran_takes_no_root_away(
    stage: Stage, daemon: LxdDaemon, tmp_path: Path
) -> None:
    lxd = stage.lxd
    name = followed(stage, tmp_path)
    lxd.lxc("stop", "--timeout=10", name)
    # LXD can't even start it.
    image = lxd_image("unstartable", init="#!/nonexistent\n")
    (tmp_path / "metadata").write_bytes(image.metadata)
    (tmp_path / "rootfs").write_bytes(image.rootfs)
    lxd.import_split(tmp_path / "metadata", tmp_path / "rootfs", "unstartable")
    stage.fingerprints["unstartable"] = image.fingerprint
    stage.follow("app", "unstartable")

    done = stage.update(tmp_path, "now", name)

    assert lxd.status(name) == "Stopped"
    assert stage.base_image(name) == image.fingerprint
    assert "nothing of the new version has run yet" in done.stdout
    as_days_pass(stage, daemon)
    assert list(copies(stage, name).values()) == ["first"]
    assert lxd.lxc("start", name, check=False).returncode != 0
    stage.update(tmp_path, "rollback", name)
    lxd.start(name)
    assert lxd.shell(name, "cat /version /root-data") == "firstmine\n"


# ---- the gate


@pytest.mark.full
@pytest.mark.parametrize(("wait", "seconds", "window"), [("2", "5", "4"), ("8", "15", "10")])
def test_a_slow_start_behind_a_slow_network_is_waited_for(
    stage: Stage, tmp_path: Path, wait: str, seconds: str, window: str
) -> None:
    """Nobody offers an address, so the command itself is started that much later."""
    silent = stage.lxd.add_network(dhcp=False)
    nic = {"type": "nic", "network": silent, "name": "eth0"}
    times = {
        "user.lxdocker.network_wait": wait,
        "user.lxdocker.update.start_period": "30",
        "user.lxdocker.update.stable": window,
    }
    name = followed(stage, tmp_path, "first", times, {"eth0": nic})
    stage.follow("app", f"ready-{seconds}")
    done = stage.update(tmp_path, "now", name, check=False)
    assert (done.returncode, stage.version(name)) == (0, f"ready-{seconds}"), done.stdout
    assert "committed" in done.stdout
    assert stage.lxd.exec(name, "/bin/test", "-e", "/tmp/ready", check=False).returncode == 0


def test_what_never_gets_healthy_behind_a_slow_network_goes_back(
    stage: Stage, daemon: LxdDaemon, tmp_path: Path
) -> None:
    silent = stage.lxd.add_network(dhcp=False)
    nic = {"type": "nic", "network": silent, "name": "eth0"}
    times = {"user.lxdocker.network_wait": "3", "user.lxdocker.update.start_period": "4"}
    name = followed(stage, tmp_path, "first", times, {"eth0": nic})
    stage.follow("app", "never-ready")
    done = stage.update(tmp_path, "now", name, check=False)
    assert (done.returncode, stage.version(name)) == (1, "first"), done.stdout
    assert "rolled back" in done.stdout
    assert stage.lxd.shell(name, "cat /root-data") == "mine\n"
    rejected = daemon.instances.get(name).config["user.lxdocker.rejected"]
    assert stage.fingerprints["never-ready"] in rejected


@pytest.mark.full
def test_a_crash_loop_under_a_restart_policy_goes_back(stage: Stage, tmp_path: Path) -> None:
    """The supervisor is PID 1 and runs all the time; the command doesn't."""
    name = followed(stage, tmp_path, "first", {"user.lxdocker.restart": "always"})
    stage.follow("app", "ends-at-once")
    done = stage.update(tmp_path, "now", name, check=False)
    assert (done.returncode, stage.version(name)) == (1, "first"), done.stdout
    assert stage.lxd.shell(name, "cat /root-data") == "mine\n"
    assert stage.lxd.status(name) == "Running"
    (ended,) = told(stage, tmp_path)
    assert ended["result"] == "rolled back"


@pytest.mark.full
def test_a_snapshot_in_the_middle_of_the_gate_blames_nobody(
    stage: Stage, daemon: LxdDaemon, tmp_path: Path
) -> None:
    """LXD freezes the instance while it copies it; a schedule does that at any time."""
    lxd = stage.lxd
    name = followed(stage, tmp_path, "first", {"user.lxdocker.update.stable": "5"})
    stage.follow("app", "large")
    with stage.begin(tmp_path, "now", name) as process:
        assert process.stderr is not None
        while f"{name}: gate" not in (line := process.stderr.readline()):
            assert line, "it never came to the gate"
        eventually(
            lambda: lxd.shell(name, "/busybox-lxd pidof sleep || true") != "",
            timeout_seconds=10,
            what="the whole file",
        )
        frozen = False
        for number in range(3):
            with lxd.begin("snapshot", name, f"nightly{number}") as snapshot:
                while snapshot.poll() is None:
                    frozen = frozen or lxd.status(name) == "Frozen"
        _, said = process.communicate(timeout=60)
    assert frozen, "no snapshot met it"
    (ended,) = told(stage, tmp_path)
    assert ended["result"] in {"committed", "rolled back"}, said
    assert "user.lxdocker.rejected" not in daemon.instances.get(name).config
    if ended["result"] == "rolled back":
        assert "frozen" in ended["reason"].lower()
    assert lxd.status(name) == "Running"


# ---- copies and stops


def test_a_copy_of_a_followed_instance_is_left_alone_and_told_of(
    stage: Stage, daemon: LxdDaemon, tmp_path: Path
) -> None:
    lxd = stage.lxd
    name = followed(stage, tmp_path)
    backup = f"{name}-backup"
    lxd.lxc("copy", name, backup)
    lxd.shell(name, "rm /root-data")
    for word in ("second", "third"):
        stage.follow("app", word)
        done = stage.update(tmp_path, "now")
        assert stage.version(name) == word
        assert stage.version(backup) == "first", done.stdout
    as_days_pass(stage, daemon)
    assert stage.version(backup) == "first"
    assert lxd.file_pull(backup, "/root-data") == b"mine\n"
    service = stage.serve(tmp_path, tmp_path / "log")
    time.sleep(4)
    stage.follow("app", "second")
    # While names are exchanged there is nothing to read files of.
    second = stage.fingerprints["second"]
    eventually(lambda: stage.base_image(name) == second, timeout_seconds=30, what="an update")
    service.terminate()
    assert service.wait(60) == 0
    lines = [line for line in (tmp_path / "log").read_text().splitlines() if backup in line]
    assert len(lines) == 1, lines
    assert stage.version(backup) == "first"


@pytest.mark.full
def test_a_program_that_needs_its_stop_timeout_ends_by_itself(stage: Stage, tmp_path: Path) -> None:
    """Its keys promise a minute, and it needs more than half of that."""
    lxd = stage.lxd
    stage.add_image("ends-slowly", ENDS_SLOWLY)
    lxd.lxc("storage", "volume", "create", "default", "slow", check=False)
    disk = {"type": "disk", "pool": "default", "source": "slow", "path": "/data"}
    config = {"user.lxdocker.stop_timeout": "60"}
    name = followed(stage, tmp_path, "ends-slowly", config, {"data": disk})
    stage.follow("app", "second")
    done = stage.update(tmp_path, "now", name)
    assert stage.version(name) == "second"
    assert lxd.shell(name, "cat /data/ends") == "clean\n"
    assert "kill" not in done.stdout + done.stderr
