"""The tests' own LXD: it ends without a trace, also when its run is killed."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.lxd import PrivateLxd, abandoned, sweep
from tests.harness.processes import bridges, links_on, mounts_under, processes_of, run

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


LEAVES = """
    import subprocess, sys
    from pathlib import Path
    from tests.harness.leaks import leftovers, snapshot
    from tests.harness.processes import end_processes_of, eventually, processes_of, run

    scratch = Path(sys.argv[1])
    before = snapshot()
    assert leftovers(before, scratch) == []
    run("mount", "-t", "tmpfs", "tmpfs", scratch)
    run("ip", "link", "add", "lxt-left", "type", "bridge")
    left = subprocess.Popen(["sleep", "1000"], env={"RUN": str(scratch)}, start_new_session=True)
    eventually(lambda: left.pid in processes_of(scratch), timeout_seconds=5, what="sleep")
    found = leftovers(before, scratch)
    end_processes_of(scratch)
    left.wait()
    print(*found, f"process {left.pid} sleep 1000" in found, sep="\\n")
"""


@pytest.mark.root
def test_what_a_run_leaves_is_found(tmp_path: Path) -> None:
    # Mounts and bridges of tests beside this one aren't seen there.
    apart = ("unshare", "--mount", "--net", "--propagation", "private", "sh", "-c")
    own_links = 'mount -t sysfs sysfs /sys && exec "$@"'
    words = (*apart, own_links, "sh", sys.executable, "-c", textwrap.dedent(LEAVES), tmp_path)
    found = run(*words, env={**os.environ, "PYTHONPATH": str(CHECKOUT)}).stdout.splitlines()
    assert found[-1] == "True"
    assert f"mount {tmp_path}" in found
    assert "bridge lxt-left" in found
