"""Two updaters with different state directories and one real LXD: nothing is lost."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lxdocker_lxd.update.claim import KEY, OtherUpdaterError
from tests.harness.lxd import PrivateLxd
from tests.harness.processes import eventually
from tests.lxd.update_stage import Stage

pytestmark = pytest.mark.lxd


@pytest.fixture
def stage(private_lxd: PrivateLxd, tmp_path: Path) -> Iterator[Stage]:
    made = Stage(private_lxd, tmp_path)
    yield made
    made.clean()
    made.remove_images()
    private_lxd.lxc("config", "unset", KEY, check=False)


def claim_of(lxd: PrivateLxd) -> str:
    found: str = lxd.query("GET", "/1.0")["config"].get(KEY, "")
    return found


def test_one_works_the_other_is_told_and_a_dead_one_goes_on(stage: Stage, tmp_path: Path) -> None:
    lxd, mine, theirs = stage.lxd, tmp_path / "mine", tmp_path / "theirs"
    name = stage.launch("one")
    stage.follow("app", "one")
    stage.update(mine, "enable", name, "--image=local|app")
    before = stage.story(name)

    def refused() -> None:
        for action in ("now", "recover"):
            done = stage.update(theirs, action, check=False)
            assert done.returncode == OtherUpdaterError.exit_code, done.stdout + done.stderr
            assert done.stderr.count(f"another updater is at work with this LXD: {host}") == 1
            assert f"lxc config unset {KEY}" in done.stderr
        assert not (theirs / "journal.jsonl").exists()

    stage.follow("app", "two")
    host = f"{os.uname().nodename}:{mine}"
    with stage.begin(mine, "now", name) as first:
        eventually(lambda: claim_of(lxd), timeout_seconds=20, what="the first one's claim")
        # However slow the others start here, it is still at work then.
        os.killpg(first.pid, signal.SIGSTOP)
        refused()
        os.killpg(first.pid, signal.SIGCONT)
        assert first.wait(60) == 0
        assert first.stderr is not None
        first.stderr.close()
    assert (stage.version(name), stage.story(name)) == ("two", before)
    assert claim_of(lxd) == ""

    # One that is killed in its outage keeps the other one away, and goes on by itself.
    stage.follow("app", "good")
    with stage.begin(mine, "now", name) as first:
        assert first.stderr is not None
        for line in first.stderr:
            if f"{name}: restore" in line:
                break
        os.killpg(first.pid, signal.SIGKILL)
    refused()
    stage.update(mine, "recover")
    assert (stage.version(name), stage.story(name)) == ("good", before)
    assert lxd.status(name) == "Running"
    assert claim_of(lxd) == ""

    # A claim that is old is nobody's, nor is one that was taken away by hand.
    old = json.dumps({"owner": "another", "at": "2026-01-01T00:00:00+00:00"})
    lxd.lxc("config", "set", f"{KEY}={old}")
    assert "it has the newest app" in stage.update(theirs, "now", name).stdout
    assert claim_of(lxd) == ""
