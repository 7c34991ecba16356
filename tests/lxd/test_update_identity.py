"""Time to stop, and what LXD ties to an instance, through an update on the real LXD."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.lxd import PrivateLxd
from tests.lxd.update_stage import Stage

pytestmark = pytest.mark.lxd

FULL = os.environ.get("LXDOCKER_TEST_FULL") == "1"
P2P = {"type": "nic", "nictype": "p2p"}


@pytest.fixture(scope="module")
def images(private_lxd: PrivateLxd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(private_lxd, tmp_path_factory.mktemp("images"), words=("one", "two"))
    yield stage
    stage.remove_images()


@pytest.fixture
def stage(images: Stage) -> Iterator[Stage]:
    images.lxd.lxc("storage", "volume", "create", "default", "data", check=False)
    yield images
    images.clean()
    images.lxd.lxc("storage", "volume", "delete", "default", "data", check=False)


def writing(seconds: int) -> str:
    """A program that needs some seconds to end, and notes when it is done, as a database does."""
    script = (
        f"trap 'sleep {seconds}; echo whole >>/data/end; exit 0' TERM;"
        " echo begun >>/data/end; while :; do sleep 0.1; done"
    )
    return json.dumps(["/bin/sh", "-c", script])


def updated(stage: Stage, state: Path, name: str) -> dict[str, Any]:
    """Update an instance to ``two``; its outcome."""
    stage.follow("app", "one")
    stage.update(state, "enable", name, "--image=local|app", "--root-disk-is-disposable")
    stage.follow("app", "two")
    done = stage.update(state, "now", name, "--format=json")
    found: dict[str, Any] = json.loads(done.stdout)[0]
    return found


DATA = {"data": {"type": "disk", "pool": "default", "source": "data", "path": "/data"}}


# LXD's own patience, 30 s, is shorter than the second.
@pytest.mark.parametrize(("needs", "given"), [(6, 20), (45, 60)] if FULL else [(6, 20)])
def test_a_program_that_ends_in_the_time_it_was_given_isnt_killed(
    stage: Stage, tmp_path: Path, needs: int, given: int
) -> None:
    config = {
        "user.lxdocker.entrypoint": writing(needs),
        "user.lxdocker.stop_timeout": str(given),
    }
    name = stage.launch("one", config, DATA)
    outcome = updated(stage, tmp_path, name)
    assert (outcome["result"], outcome["killed"]) == ("committed", "")
    assert stage.lxd.shell(name, "cat /version /data/end") == "twobegun\nwhole\nbegun\n"


def test_one_that_hears_no_signal_is_killed_after_its_time_and_that_is_told(
    stage: Stage, tmp_path: Path
) -> None:
    deaf = json.dumps(["/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"])
    config = {
        "user.lxdocker.entrypoint": deaf,
        "user.lxdocker.supervisor": "false",
        "user.lxdocker.stop_timeout": "1",
    }
    name = stage.launch("one", config)
    outcome = updated(stage, tmp_path, name)
    assert outcome["result"] == "committed"
    assert outcome["killed"] == f"{name} didn't stop within 11 s and was killed"
    history = json.loads(stage.update(tmp_path, "history", "--format=json").stdout)
    assert [row["killed"] for row in history] == [outcome["killed"]]


def interfaces(lxd: PrivateLxd, name: str) -> dict[str, str]:
    """The hardware address of each interface, as the guest sees it."""
    found = lxd.shell(name, "cd /sys/class/net && for nic in eth*; do cat $nic/address; done")
    names = lxd.shell(name, "cd /sys/class/net && echo eth*").split()
    return dict(zip(names, found.split(), strict=True))


def test_a_routers_interfaces_backups_and_root_volume_come_through(
    stage: Stage, tmp_path: Path
) -> None:
    lxd = stage.lxd
    name = stage.launch("one", devices={"eth0": {"type": "none"}, "wan": P2P}, start=False)
    lxd.query("PATCH", f"/1.0/instances/{name}", {"devices": {"lan": P2P}})
    lxd.lxc("start", name)
    lxd.query(
        "POST", f"/1.0/instances/{name}/backups", {"name": "b1", "compression_algorithm": "none"}
    )
    volume = ("default", f"container/{name}", "user.mine")
    lxd.lxc("storage", "volume", "set", *volume, "precious")
    before = interfaces(lxd, name)
    names = {key: lxd.lxc("config", "get", name, key).stdout for key in _NAMES}
    assert [names[key].strip() for key in _NAMES] == ["eth0", "eth1"]

    assert updated(stage, tmp_path, name)["result"] == "committed"
    assert interfaces(lxd, name) == before
    assert {key: lxd.lxc("config", "get", name, key).stdout for key in _NAMES} == names
    assert lxd.lxc("storage", "volume", "get", *volume).stdout.strip() == "precious"
    copy = next(one for one in lxd.instances() if one.startswith(f"{name}-old-"))
    stage.update(tmp_path, "reap", name, check=False)
    assert copy in lxd.instances(), "it has a backup that LXD keeps"

    stage.update(tmp_path, "rollback", name)
    assert stage.version(name) == "one"
    assert interfaces(lxd, name) == before


_NAMES = ("volatile.wan.name", "volatile.lan.name")
