"""On a real LXD: no update leaves declared data behind, and the documented way to a volume works."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.lxd import PrivateLxd
from tests.lxd.update_stage import CHECKOUT, Stage

pytestmark = pytest.mark.lxd

VOLUMES = {"one": ("/srv/data",), "two": ("/srv/data",), "moved": ("/srv",)}


@pytest.fixture(scope="module")
def images(private_lxd: PrivateLxd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    directory = tmp_path_factory.mktemp("images")
    stage = Stage(private_lxd, directory, words=tuple(VOLUMES), volumes=VOLUMES)
    yield stage
    stage.remove_images()


@pytest.fixture
def stage(images: Stage) -> Iterator[Stage]:
    yield images
    images.clean()
    images.lxd.lxc("storage", "volume", "delete", "default", "db-data", check=False)


def recipe() -> list[list[str]]:
    """The commands that the manual names, for an instance ``db`` and its ``/srv/data``."""
    text = (CHECKOUT / "docs" / "updater.md").read_text()
    section = text.partition("## Data on the root disk\n")[2]
    block = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert block is not None
    return [shlex.split(line)[1:] for line in block[1].splitlines()]


def test_data_of_a_declared_volume_gets_to_a_volume_before_the_first_update(
    stage: Stage, tmp_path: Path
) -> None:
    name = stage.launch("one")
    lxd = stage.lxd
    lxd.shell(name, "echo precious >/srv/data/rows; chown 70:70 /srv/data; chmod 700 /srv/data")
    stage.follow("app", "one")
    refused = stage.update(tmp_path, "enable", name, "--image=local|app", check=False)
    assert refused.returncode != 0
    assert f"lxc storage volume create default {name}-srv-data" in refused.stderr
    # Whoever sets the key himself is told as well, and nothing is stopped.
    lxd.lxc("config", "set", name, "user.lxdocker.update=auto", "user.lxdocker.image=local|app")
    stage.follow("app", "two")
    told = stage.update(tmp_path, "now", check=False)
    assert "/srv/data, and no disk is mounted there" in told.stderr
    assert stage.version(name) == "one"
    assert lxd.shell(name, "cat /srv/data/rows") == "precious\n"

    for command in recipe():
        lxd.lxc(*(name if word == "db" else word for word in command))
    stage.update(tmp_path, "enable", name)
    stage.update(tmp_path, "now", name)
    assert stage.version(name) == "two"
    found = lxd.shell(name, "cat /srv/data/rows; stat -c '%u:%g %a' /srv/data")
    assert found == "precious\n70:70 700\n"


def test_a_volume_that_moved_stops_the_update_before_its_outage(
    stage: Stage, tmp_path: Path
) -> None:
    lxd = stage.lxd
    lxd.lxc("storage", "volume", "create", "default", "db-data")
    disk = {"type": "disk", "pool": "default", "source": "db-data", "path": "/srv/data"}
    name = stage.launch("one", devices={"data": disk})
    lxd.shell(name, "echo precious >/srv/data/rows")
    stage.follow("app", "one")
    stage.update(tmp_path, "enable", name, "--image=local|app")
    began = lxd.state(name)["pid"]
    stage.follow("app", "moved")
    done = stage.update(tmp_path, "now", name, check=False)
    assert done.returncode == 1
    assert f"lxc config device set {name} data path=/srv" in done.stdout
    assert (stage.version(name), lxd.state(name)["pid"]) == ("one", began)
    assert lxd.shell(name, "cat /srv/data/rows") == "precious\n"
    assert not [one for one in lxd.instances() if one.startswith(f"{name}-")]
    # Somebody who knows that nothing is lost says so.
    lxd.lxc("config", "set", name, "user.lxdocker.update.root_disk=disposable")
    stage.update(tmp_path, "now", name)
    assert stage.version(name) == "moved"
