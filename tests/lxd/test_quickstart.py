"""The README's first command: an empty machine becomes a container that answers."""

import contextlib
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.harness.lxd import PrivateLxd
from tests.harness.processes import bridges, mounts_under, processes_of, run
from tests.harness.registry import real_registry

pytestmark = [pytest.mark.lxd]

CHECKOUT = Path(__file__).parents[2]
SCRIPT = CHECKOUT / "examples" / "quickstart.sh"


@pytest.fixture
def empty_place() -> Iterator[PrivateLxd]:
    """A place for an LXD that nobody has started."""
    place = PrivateLxd()
    try:
        yield place
    finally:
        place.close()


def quickstart(
    lxd: PrivateLxd, *arguments: str, check: bool = True, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the script with an LXD directory and a state directory of its own."""
    state = {"LXDOCKER_QUICKSTART_STATE": str(lxd.home / "quickstart")}
    env = {**lxd.environment, **state, **(env or {})}
    return run("bash", SCRIPT, *arguments, env=env, check=check, timeout_seconds=280)


def ours(lxd: PrivateLxd) -> list[str]:
    """The instances that the quick start made."""
    return sorted(name for name in lxd.instances() if name.startswith("lxdocker-"))


@pytest.fixture
def converter(tmp_path: Path) -> dict[str, str]:
    """The checkout's command as it is, without a virtual environment of its own."""
    command = tmp_path / "lxdocker-lxd"
    python = f"PYTHONPATH={CHECKOUT} exec {sys.executable} -m lxdocker_lxd"
    command.write_text(f'#!/bin/sh\n{python} "$@"\n')
    command.chmod(0o755)
    return {"LXDOCKER_LXD": str(command)}


def answer(output: str) -> str:
    """Open the URL that the script printed."""
    (url,) = [line.split()[1] for line in output.splitlines() if line.startswith("URL ")]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with contextlib.closing(opener.open(url, timeout=10)) as response:
        return str(response.read().decode())


@pytest.mark.full
def test_from_nothing_to_a_page_and_back_to_nothing(empty_place: PrivateLxd) -> None:
    lxd = empty_place
    bridge = lxd.reserve_bridge()
    first = quickstart(lxd, env={"LXDOCKER_QUICKSTART_BRIDGE": bridge})
    assert "It runs" in answer(first.stdout)
    assert "pool default" in first.stdout
    assert f"bridge {bridge}" in first.stdout
    assert lxd.instances() == ["lxdocker-page"]

    # A second time changes nothing: the same instance answers.
    process = lxd.state("lxdocker-page")["pid"]
    second = quickstart(lxd)
    assert "already runs" in second.stdout
    assert "It runs" in answer(second.stdout)
    assert lxd.state("lxdocker-page")["pid"] == process

    cleaned = quickstart(lxd, "--clean")
    assert "kept" not in cleaned.stdout
    assert not (lxd.home / "quickstart").exists()
    assert bridge not in bridges()
    assert mounts_under(lxd.directory) == []
    assert processes_of(lxd.directory) == set()


@pytest.mark.full
@pytest.mark.registry
def test_any_image_in_an_lxd_that_is_there(
    private_lxd: PrivateLxd, image_layout: Path, converter: dict[str, str], tmp_path: Path
) -> None:
    before = private_lxd.lxc("profile", "show", "default").stdout
    with real_registry(tmp_path / "registry") as registry:
        registry.push_layout(image_layout, "nginx", "library/nginx:1")
        registry.push_layout(image_layout, "static", "library/shop:1")
        shown = quickstart(private_lxd, f"{registry.host}/library/nginx:1", env=converter)
        assert answer(shown.stdout) == "a real nginx\n"
        spec = tmp_path / "Shop.yaml"
        spec.write_text(f"image: {registry.host}/library/shop:1\nenv: {{A: b}}\n")
        assert answer(quickstart(private_lxd, str(spec), env=converter).stdout) == "probe\n"
    (tmp_path / "store").symlink_to(image_layout)
    relative = os.path.relpath(tmp_path / "store")
    layout = quickstart(private_lxd, f"oci:{relative}:redis", env=converter)
    assert "port 6379" in layout.stdout
    assert "accepts connections" in layout.stdout
    assert ours(private_lxd) == ["lxdocker-nginx", "lxdocker-shop", "lxdocker-store"]
    quickstart(private_lxd, "--clean", env=converter)
    assert ours(private_lxd) == []
    # What was there before is as it was.
    assert private_lxd.lxc("profile", "show", "default").stdout == before


def test_an_image_that_does_not_run_says_why(
    private_lxd: PrivateLxd, image_layout: Path, converter: dict[str, str], tmp_path: Path
) -> None:
    spec = tmp_path / "broken.yaml"
    spec.write_text(f"image: oci:{image_layout}:static\ncmd: ['exit:3']\n")
    failed = quickstart(private_lxd, str(spec), check=False, env=converter)
    assert failed.returncode == 1
    assert "arg exit:3" in failed.stderr
    assert "error: the application in lxdocker-broken ended" in failed.stderr
    assert "lxc config set lxdocker-broken environment.NAME" in failed.stderr
    quickstart(private_lxd, "--clean")


def test_an_image_that_is_not_there_ends_with_the_next_step(
    private_lxd: PrivateLxd, converter: dict[str, str]
) -> None:
    failed = quickstart(private_lxd, "oci:/nowhere:1", check=False, env=converter)
    assert failed.returncode == 1
    assert "/nowhere" in failed.stderr
    assert "Traceback" not in failed.stderr
    quickstart(private_lxd, "--clean")


@pytest.mark.root
@pytest.mark.timeout(900)
def test_a_clean_debian_that_has_never_seen_any_of_it() -> None:
    done = run("bash", CHECKOUT / "tests" / "clean_root.sh", timeout_seconds=880)
    # Both runs ended with a page, and what they made is gone.
    assert done.stdout.count("HTTP status 200") == 2
    assert "<h1>It runs</h1>" in done.stdout
    assert "packages     installing busybox-static" in done.stdout
    assert "removed      daemon /var/lib/lxd" in done.stdout
    assert "kept" not in done.stdout
