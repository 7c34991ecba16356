"""Signals to ``lxdocker-lxd update now`` on the real LXD, and LXD away in the middle of its outage."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.lxd import PrivateLxd
from tests.lxd.update_stage import Stage

pytestmark = pytest.mark.lxd

FULL = os.environ.get("LXDOCKER_TEST_FULL") == "1"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STEPS = (
    "stage",
    "prove",
    "lease",
    "stop",
    "park",
    "give name up",
    "take name",
    "restore",
    "start",
    "gate",
    "commit",
)


@pytest.fixture(scope="module")
def images(private_lxd: PrivateLxd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(private_lxd, tmp_path_factory.mktemp("images"))
    yield stage
    stage.remove_images()


@pytest.fixture
def stage(images: Stage) -> Iterator[Stage]:
    yield images
    images.clean()


def enrolled(stage: Stage, state: Path, **config: str) -> str:
    name = stage.launch("one", {key.replace("__", "."): value for key, value in config.items()})
    stage.follow("app", "two")
    stage.update(state, "enable", name, "--image=local|app")
    return name


def told_until(process: "subprocess.Popen[str]", step: str) -> list[str]:
    """Read what it says until it is about to take a step."""
    assert process.stderr is not None
    told: list[str] = []
    while not told or f": {step}" not in told[-1]:
        line = process.stderr.readline()
        assert line, told
        told.append(line)
    return told


def whole(stage: Stage, name: str, before: object, told: str) -> None:
    assert stage.story(name) == before, told
    assert stage.lxd.status(name) == "Running", told


@pytest.mark.timeout(1200)
def test_a_first_signal_at_any_step_leaves_the_name_whole(stage: Stage, tmp_path: Path) -> None:
    chosen = STEPS if FULL else ("prove", "park", "gate")
    for number, step in enumerate(chosen):
        name = enrolled(stage, tmp_path)
        before = stage.story(name)
        with stage.begin(tmp_path / "state", "now", name) as process:
            told = told_until(process, step)
            process.send_signal(SIGNALS[number % len(SIGNALS)])
            _, rest = process.communicate(timeout=120)
        said = "".join(told) + rest
        assert "Traceback" not in said
        assert process.returncode == 130, said
        assert "nothing half-made" not in said
        assert f"the update of {name}" in said
        assert "once more leaves it" in said
        assert "interrupted; what was at work came to its end" in said
        whole(stage, name, before, said)
        left = [one for one in stage.lxd.instances() if one.startswith(f"{name}-")]
        if step in STEPS[:3]:
            assert (stage.version(name), left) == ("one", []), said
        elif step != "lease":
            assert stage.version(name) == "two", said
        assert stage.update(tmp_path / "state", "recover").stdout.count(name) == 0
        stage.clean()


def test_a_second_signal_leaves_it_and_names_what_finishes_it(stage: Stage, tmp_path: Path) -> None:
    name = enrolled(stage, tmp_path, user__lxdocker__update__stable="30")
    before = stage.story(name)
    with stage.begin(tmp_path / "state", "now", name) as process:
        told = told_until(process, "gate")
        process.send_signal(signal.SIGINT)
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=20)
    said = "".join(told) + rest
    assert process.returncode == 130, said
    assert f"finishing the update of {name}; once more leaves it" in said
    assert (
        f"interrupted; the update of {name} isn't finished:"
        " `lxdocker-lxd update recover` finishes it or turns it back" in said
    )
    stage.lxd.set_config(name, {"user.lxdocker.update.stable": "1"})
    stage.update(tmp_path / "state", "recover")
    assert stage.lxd.status(name) == "Running"
    assert stage.version(name) in {"one", "two"}
    assert stage.story(name)["devices"] == before["devices"]


@pytest.mark.timeout(600)
def test_lxd_away_for_a_minute_in_an_outage_is_waited_for(stage: Stage, tmp_path: Path) -> None:
    for step in ("park", "give name up", "take name", "start", "gate") if FULL else ("park",):
        name = enrolled(stage, tmp_path)
        before = stage.story(name)
        with stage.begin(tmp_path / "state", "now", name) as process:
            told = told_until(process, step)
            restart = threading.Thread(target=stage.lxd.restart, kwargs={"away_seconds": 60})
            restart.start()
            _, rest = process.communicate(timeout=300)
            restart.join()
        said = "".join(told) + rest
        assert process.returncode == 0, said
        # The gate waits by itself, if LXD isn't faster than it.
        if step != "gate":
            assert f"{name}: waits up to 15 minutes for LXD" in said
            assert said.count("for LXD") == 1
        whole(stage, name, before, said)
        assert stage.version(name) == "two"
        stage.clean()
