"""SIGKILL at random moments: what is published stays whole, and the next run finishes.

A run in a process of its own is killed after a random time, again and again, while its images
change; after each kill every file of the catalogue is read and checked. The full count (200) is for
``LXDOCKER_TEST_FULL=1``.
"""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lxdocker_lxd.catalogue import GRACE
from lxdocker_lxd.catalogue_directory import CatalogueDirectory
from tests.harness.tiny_image import tiny_image

KILLS = 200 if os.environ.get("LXDOCKER_TEST_FULL") == "1" else 8
NAMES = ("one", "two", "three")
SEED = 20260301


class Victim:
    """Runs the real command in a process of its own."""

    def __init__(self, root: Path) -> None:
        self.specs = root / "specs"
        self.specs.mkdir()
        self.lxdimages = root / "lxdimages"
        self.command: list[str | Path] = [
            *(sys.executable, "-m", "lxdocker_lxd", "convert", "--progress", "none"),
            *("--specs", self.specs, "--cache", root / "cache", "--lxdimages", self.lxdimages),
            *("--config", os.devnull),
        ]
        busybox = shutil.which("busybox")
        assert busybox is not None
        self.busybox = Path(busybox).read_bytes()

    def change(self, name: str, generation: int) -> None:
        """Give a specification another image, of some megabytes so that killing takes effect."""
        # Noise takes time to pack; the seed makes a failure repeatable.
        noise = random.Random(f"{name} {generation}").randbytes(3 << 20)
        image = tiny_image(
            {"bin/busybox": self.busybox},
            {"noise": noise, "generation": f"{name} {generation}".encode()},
            config={"Cmd": ["/bin/busybox", "httpd", "-f"]},
        )
        layout = self.specs / f"{name}-{generation}.layout"
        image.write_layout(layout)
        (self.specs / f"{name}.yaml").write_text(f"image: oci:{layout.name}\n")

    def run(self) -> float:
        """Run to the end and return the seconds it took."""
        started = time.monotonic()
        done = subprocess.run(self.command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return time.monotonic() - started

    def killed_after(self, seconds: float) -> bool:
        """Run, kill after so long, and say whether that was before its end."""
        with subprocess.Popen(
            self.command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                return True
        return False


def newest_images(lxdimages: Path) -> dict[str, str]:
    """Return which manifest each published name stands for."""
    catalogue = CatalogueDirectory(lxdimages).read()
    return {one.name: one.newest.source.manifest_digest for one in catalogue.products}


@pytest.mark.tools
@pytest.mark.timeout(1800)
def test_killed_at_any_moment_every_published_image_is_whole_and_a_rerun_finishes(
    tmp_path: Path,
) -> None:
    chance = random.Random(SEED)
    victim = Victim(tmp_path)
    for name in NAMES:
        victim.change(name, 0)
    whole_seconds = victim.run()
    killed = 0
    generation = 0
    while killed < KILLS:
        generation += 1
        for name in NAMES:
            victim.change(name, generation)
        before = newest_images(victim.lxdimages)
        killed += victim.killed_after(chance.uniform(0, whole_seconds * 1.1))
        assert CatalogueDirectory(victim.lxdimages).verify() == ()
        assert set(newest_images(victim.lxdimages)) == set(NAMES)
        if chance.random() < 0.25:
            victim.run()
            after = newest_images(victim.lxdimages)
            assert all(after[name] != before[name] for name in NAMES)
            _assert_nothing_is_left_over(victim)
        for old in victim.specs.glob(f"*-{generation - 2}.layout"):
            shutil.rmtree(old)
    victim.run()
    assert CatalogueDirectory(victim.lxdimages).verify() == ()
    _assert_nothing_is_left_over(victim)


@pytest.mark.tools
def test_an_interrupt_ends_the_run_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    victim = Victim(tmp_path)
    victim.change("one", 0)
    victim.run()
    victim.change("one", 1)
    command = [sys.executable, "-c", _INTERRUPTIBLE, *victim.command[3:]]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        images = CatalogueDirectory(victim.lxdimages).images
        while process.poll() is None and not list(images.glob(".tmp-*")):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, words = process.communicate(timeout=20)
    assert process.returncode == 130, words
    assert CatalogueDirectory(victim.lxdimages).verify() == ()
    _assert_nothing_is_left_over(victim)


# A shell's background job ignores SIGINT and hands that down; a run in a terminal doesn't.
_INTERRUPTIBLE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from lxdocker_lxd.cli import entry
entry()
"""


def _assert_nothing_is_left_over(victim: Victim) -> None:
    """Every file is listed, but for whole ones of a run killed between placing and publishing.

    Those stay for a day, as the files of a lost catalogue would; then the next run removes them.
    """
    directory = CatalogueDirectory(victim.lxdimages)
    unlisted = _unlisted(directory)
    for path in unlisted:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name.partition(".")[0]
        day_ago = time.time() - GRACE.total_seconds() - 1
        os.utime(path, (day_ago, day_ago))
    if unlisted:
        victim.run()
    assert _unlisted(directory) == set()


def _unlisted(directory: CatalogueDirectory) -> set[Path]:
    listed = {directory.path(file) for file in directory.read().servable().values()}
    found = set(directory.images.iterdir())
    assert listed <= found
    return found - listed
