"""The health gate on the real LXD: slow starts, crash loops, freezes, ports, and what a failure leaves."""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.harness.lxd import PrivateLxd
from tests.harness.processes import eventually
from tests.lxd.update_stage import Stage

pytestmark = pytest.mark.lxd

# What the second version does differently is up to the instance.
_APP = b"""#!/bin/sh
word=$(cat /version)
echo "version $word starts"
case $word-$TWO in
gate-two-loops) echo "no database"; exit 3 ;;
gate-two-slow) sleep 15 ;;
esac
: >/tmp/ready
[ "$TWO" != listens ] || { mkdir -p /tmp/www; cp /version /tmp/www/ready; exec httpd -f -p 127.0.0.1:8080 -h /tmp/www; }
exec sleep 1000
"""
# Nothing here is quick but the looks: what is tested are the times.
_KEYS = {
    "user.lxdocker.update.interval": "0.5",
    "user.lxdocker.update.stable": "3",
    "user.lxdocker.stop_timeout": "2",
}


@pytest.fixture(scope="module")
def images(private_lxd: PrivateLxd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(private_lxd, tmp_path_factory.mktemp("images"), words=())
    for word in ("gate-one", "gate-two"):
        stage.add_image(word, _APP)
    yield stage
    stage.remove_images()


@pytest.fixture
def stage(images: Stage) -> Iterator[Stage]:
    yield images
    images.clean()


def enrolled(
    stage: Stage,
    state: Path,
    config: Mapping[str, str],
    devices: Mapping[str, Mapping[str, str]] | None = None,
) -> str:
    """An instance of the first version that follows the second one."""
    name = stage.launch("gate-one", {**_KEYS, **config}, devices)
    stage.follow("gate-app", "gate-two")
    stage.update(state, "enable", name, "--image=local|gate-app")
    return name


def last(stage: Stage, state: Path) -> dict[str, Any]:
    """The last end in the journal."""
    found: list[dict[str, Any]] = json.loads(stage.update(state, "history", "--format=json").stdout)
    return found[-1]


def test_a_slow_starter_behind_a_network_without_an_answer_is_waited_for(
    stage: Stage, tmp_path: Path
) -> None:
    """Addresses are waited for in vain for 8 s, then the command takes 15 s to be ready."""
    silent = stage.lxd.add_network(dhcp=False)
    nic = {"eth0": {"type": "nic", "network": silent, "name": "eth0"}}
    name = enrolled(
        stage,
        tmp_path,
        {
            "user.lxdocker.network_wait": "8",
            "user.lxdocker.health": "test -e /tmp/ready",
            "user.lxdocker.update.start_period": "20",
            "environment.TWO": "slow",
        },
        nic,
    )
    began = time.monotonic()
    done = stage.update(tmp_path, "now", name)
    assert "committed" in done.stdout
    assert time.monotonic() - began > 8 + 15 + 3
    assert stage.version(name) == "gate-two"


def test_a_crash_loop_below_the_supervisor_goes_back_and_tells_why(
    stage: Stage, tmp_path: Path
) -> None:
    name = enrolled(
        stage,
        tmp_path,
        {
            "user.lxdocker.restart": "always",
            "user.lxdocker.network_wait": "0",
            "user.lxdocker.update.start_period": "5",
            "environment.TWO": "loops",
        },
    )
    done = stage.update(tmp_path, "now", name, check=False)
    assert done.returncode == 1
    assert stage.version(name) == "gate-one"
    assert stage.lxd.status(name) == "Running"
    ended = last(stage, tmp_path)
    assert ended["result"] == "rolled back"
    assert "its command ends with code 3 and is started again" in ended["reason"]
    assert "no database" in ended["evidence"]
    assert "  no database\n" in stage.update(tmp_path, "history", "--evidence").stdout
    # The version's own fault: it isn't tried again.
    assert "rolled back" in stage.update(tmp_path, "plan", "--brief").stdout


def test_a_freeze_in_the_gate_costs_a_good_version_nothing(stage: Stage, tmp_path: Path) -> None:
    name = enrolled(
        stage,
        tmp_path,
        {"user.lxdocker.network_wait": "0", "user.lxdocker.update.stable": "6"},
    )
    with stage.begin(tmp_path, "now", name) as command:
        try:
            eventually(
                lambda: (
                    stage.base_image(name) == stage.fingerprints["gate-two"]
                    and stage.lxd.status(name) == "Running"
                ),
                timeout_seconds=60,
                what="the new version",
            )
            stage.lxd.lxc("pause", name)
            time.sleep(10)
            assert command.poll() is None
            stage.lxd.lxc("start", name)
            assert command.wait(60) == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                command.kill()
    assert last(stage, tmp_path)["result"] == "committed"
    assert stage.version(name) == "gate-two"


@pytest.mark.parametrize("check", ["tcp 8080", "http 8080 /ready"])
def test_a_port_that_listens_only_inside_is_asked_from_inside(
    stage: Stage, tmp_path: Path, check: str
) -> None:
    config = {
        "user.lxdocker.network_wait": "0",
        "user.lxdocker.update.start_period": "10",
        "user.lxdocker.update.health": check,
        "environment.TWO": "listens",
    }
    name = enrolled(stage, tmp_path, config)
    assert "committed" in stage.update(tmp_path, "now", name).stdout
    assert stage.version(name) == "gate-two"


def test_a_check_and_a_hook_that_the_new_version_lacks_cost_no_outage(
    stage: Stage, tmp_path: Path
) -> None:
    for key, value, missing in (
        ("health", "exec /opt/check", "/opt/check"),
        ("hook.after", "warm", "/etc/lxdocker-lxd/hooks/warm"),
    ):
        config = {"user.lxdocker.network_wait": "0", f"user.lxdocker.update.{key}": value}
        name = enrolled(stage, tmp_path / key, config)
        process = stage.lxd.state(name)["pid"]
        done = stage.update(tmp_path / key, "now", name, check=False)
        assert f"the new version has no {missing}" in done.stdout
        assert stage.lxd.state(name)["pid"] == process
        assert stage.version(name) == "gate-one"
