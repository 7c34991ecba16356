"""The updater killed at any moment, on the real LXD, while newer versions keep coming."""

import os
import random
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.lxd import PrivateLxd
from tests.harness.processes import eventually
from tests.lxd.update_stage import Stage

pytestmark = pytest.mark.lxd

TRIALS = 50 if os.environ.get("LXDOCKER_TEST_FULL") == "1" else 2
VERSIONS = ("first", "second", "third", "fourth")
# From the start of the service to the next version.
BETWEEN_SECONDS = 2.0
KILLED_WITHIN_SECONDS = 4.0
SETTLED_WITHIN_SECONDS = 60.0
# Its page is the version that the program found in its own root.
SERVES = b"""#!/bin/sh
mkdir -p /tmp/www
cat /version >/tmp/www/index.html
echo "$(cat /version)" >>/data/starts
exec httpd -f -p 8080 -h /tmp/www
"""
CHECKED = {"user.lxdocker.update.health": "exec /bin/wget -qO- http://127.0.0.1:8080/"}


@pytest.fixture(scope="module")
def images(private_lxd: PrivateLxd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(private_lxd, tmp_path_factory.mktemp("images"), words=())
    for word in VERSIONS:
        stage.add_image(word, SERVES)
    yield stage
    stage.remove_images()


@pytest.fixture
def stage(images: Stage) -> Iterator[Stage]:
    yield images
    images.clean()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("trial", range(TRIALS))
def test_the_newest_version_answers_though_the_updater_was_killed_three_times(
    stage: Stage, tmp_path: Path, trial: int
) -> None:
    """Each time at a random moment, and a still newer version is there when it starts again."""
    draw = random.Random()
    lxd = stage.lxd
    lxd.lxc("storage", "volume", "create", "default", f"data{trial}")
    data = {"type": "disk", "pool": "default", "source": f"data{trial}", "path": "/data"}
    name = stage.launch(VERSIONS[0], CHECKED, {"data": data})
    stage.follow("app", VERSIONS[0])
    stage.update(tmp_path, "enable", name, "--image=local|app")
    address = lxd.address(name)
    lxd.shell(name, "echo precious >/data/file")
    before = stage.story(name)

    log = tmp_path / "log"
    story: list[str] = []
    service = stage.serve(tmp_path, log)
    for word in VERSIONS[1:]:
        time.sleep(draw.uniform(0, BETWEEN_SECONDS))
        stage.follow("app", word)
        moment = draw.uniform(0, KILLED_WITHIN_SECONDS)
        time.sleep(moment)
        os.killpg(service.pid, signal.SIGKILL)
        service.wait(10)
        story.append(f"killed {moment:.2f} s after {word} came")
        with log.open("a") as lines:
            lines.write(f"---- {story[-1]}\n")
        service = stage.serve(tmp_path, log)
    started = time.monotonic()
    try:
        eventually(
            lambda: answers(address) == VERSIONS[-1],
            timeout_seconds=SETTLED_WITHIN_SECONDS,
            what="the newest version's answer",
        )
    except AssertionError as error:
        listed = stage.update(tmp_path, "plan").stdout
        raise AssertionError(f"{error}\n{log.read_text()}\n{listed}") from None
    finally:
        print(f"{story}: {time.monotonic() - started:.1f} s")
        # Even the last one is killed, with whatever is left to do.
        os.killpg(service.pid, signal.SIGKILL)
        service.wait(10)
    stage.update(tmp_path, "recover")
    assert answers(address) == VERSIONS[-1], log.read_text()
    assert lxd.shell(name, "cat /data/file") == "precious\n"
    assert stage.story(name) == before
    assert [one for one in lxd.instances() if one.startswith(f"{name}-new-")] == []


def answers(address: str) -> str:
    """What its page says; empty while there is none."""
    try:
        with urllib.request.urlopen(f"http://{address}:8080/", timeout=2) as page:
            return str(page.read().decode())
    except OSError:
        return ""
