"""The tests' own LXD: it ends without a trace, also when its run is killed."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.leaks import leftovers, snapshot
from tests.harness.lxd import PrivateLxd, abandoned, sweep
from tests.harness.processes import (
    bridges,
    end_processes_of,
    eventually,
    links_on,
    mounts_under,
    processes_of,
    run,
)

CHECKOUT = Path(__file__).parents[2]
STORY = """
    import sys, time
    from pathlib import Path
    from tests.harness.lxd import PrivateLxd
    from tests.guest.lxd_guest import image_config, import_guest, small_tree

    with PrivateLxd() as lxd:
        config = image_config(entrypoint=["/bin/sleep", "1000"])
        alias, _ = import_guest(lxd, lxd.home, small_tree(), config)
        name = lxd.launch(alias)
        lxd.address(name)
        print(lxd.home, lxd.network, lxd.state(name)["pid"], flush=True)
        time.sleep(1000)
"""

pytestmark = pytest.mark.lxd


@pytest.fixture
def story() -> Iterator["subprocess.Popen[str]"]:
    """A test run of its own, with a daemon and a container that runs."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(STORY)],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            sweep()


def test_a_killed_run_is_cleaned_up_by_the_next(story: "subprocess.Popen[str]") -> None:
    assert story.stdout is not None
    home_text, network, container = story.stdout.readline().split()
    home = Path(home_text)
    assert network in bridges()
    assert int(container) in processes_of(home)
    links = links_on([network])
    assert len(links) == 1
    # As long as its run lives, nobody else touches it.
    assert home not in abandoned()
    story.send_signal(signal.SIGKILL)
    story.wait()
    assert home in sweep()
    assert not home.exists()
    assert network not in bridges()
    assert not Path(f"/proc/{container}/stat").exists()
    assert mounts_under(home) == []
    # Once the container's end of the pair came back to this machine after the daemon was gone.
    assert not any(Path("/sys/class/net", link).exists() for link in links)


def test_an_interrupted_run_cleans_up_after_itself(story: "subprocess.Popen[str]") -> None:
    assert story.stdout is not None
    home_text, network, container = story.stdout.readline().split()
    story.send_signal(signal.SIGINT)
    story.wait(timeout=60)
    assert not Path(home_text).exists()
    assert network not in bridges()
    assert not Path(f"/proc/{container}/stat").exists()


def test_a_place_without_a_daemon_is_removed_too() -> None:
    place = PrivateLxd()
    bridge = place.reserve_bridge()
    run("ip", "link", "add", bridge, "type", "bridge")
    run("mount", "-t", "tmpfs", "tmpfs", place.directory)
    place.close()
    assert bridge not in bridges()
    assert not place.home.exists()


@pytest.mark.root
def test_what_a_run_leaves_is_found(tmp_path: Path) -> None:
    before = snapshot()
    assert leftovers(before, tmp_path) == []
    environment = os.environ | {"LXDOCKER_TEST_RUN": str(tmp_path)}
    run("mount", "-t", "tmpfs", "tmpfs", tmp_path)
    with subprocess.Popen(["sleep", "1000"], env=environment, start_new_session=True) as process:
        try:
            eventually(
                lambda: process.pid in processes_of(tmp_path), timeout_seconds=5, what="sleep"
            )
            found = leftovers(before, tmp_path)
        finally:
            end_processes_of(tmp_path)
            run("umount", tmp_path)
    assert f"process {process.pid} sleep 1000" in found
    assert f"mount {tmp_path}" in found
