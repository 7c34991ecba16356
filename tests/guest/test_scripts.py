"""The guest's scripts as text: known to the checker, complete, and the same for every image."""

from pathlib import Path

import pytest

from lxdocker_lxd.convert.guest_scripts import guest_digest, load_guest_scripts
from lxdocker_lxd.digest import Digest
from tests.harness.processes import run

DIRECTORY = Path(__file__).parents[2] / "lxdocker_lxd" / "convert" / "guest"
SCRIPTS = sorted(DIRECTORY.glob("*.sh"))


def test_every_script_is_shipped() -> None:
    scripts = load_guest_scripts()
    for file in SCRIPTS:
        assert getattr(scripts, file.stem.replace("-", "_")) == file.read_bytes()


def test_the_digest_follows_the_busybox() -> None:
    one, other = Digest.of(b"one"), Digest.of(b"other")
    assert guest_digest(one) == guest_digest(one) != guest_digest(other)


def test_nothing_is_evaluated() -> None:
    for file in SCRIPTS:
        code = [line for line in file.read_text().splitlines() if not line.lstrip().startswith("#")]
        assert not [line for line in code if "eval" in line.split()], file
        sourced = [line for line in code if line.startswith((". ", "source "))]
        assert all(line.startswith(". /.lxdocker/") for line in sourced), file


@pytest.mark.tools
def test_shellcheck_has_nothing_to_say() -> None:
    run("shellcheck", *SCRIPTS)


@pytest.mark.tools
def test_busybox_can_read_them() -> None:
    for file in SCRIPTS:
        run("/bin/busybox", "sh", "-n", file)
