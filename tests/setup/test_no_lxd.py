"""``setup --no-lxd``: a machine that only serves, as the one inside the container does."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.setup.wish import Wish
from lxdocker_lxd.verbs.setup_jobs import job
from tests.setup.hosts import wish

COMMAND = (sys.executable, "-m", "lxdocker_lxd", "setup", "--no-lxd")
SERVER = ("--address", ":443", "--url", "https://images.lxd", "--name", "images.lxd")


def setup(root: Path, *flags: str) -> "subprocess.CompletedProcess[str]":
    """Run the command; there is no LXD that it could find."""
    return subprocess.run(
        (*COMMAND, "--root", str(root), *SERVER, *flags),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"LXD_DIR": str(root / "none")},
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
    (tmp_path / "etc/group").write_text("root:x:0:\n")
    return tmp_path


@pytest.mark.root
def test_it_is_made_and_taken_back_without_a_lxd(root: Path) -> None:
    made = setup(root, "--yes", "--format", "json")
    assert made.returncode == 0, made.stderr
    assert "no self-test: there is no LXD" in made.stderr
    kinds = {step["kind"] for step in json.loads(made.stdout)["steps"]}
    assert kinds == {"user", "directory", "authority", "file"}
    assert (root / "var/lib/lxdocker-lxd/tls/ca.crt").exists()
    assert "https://images.lxd" in (root / "etc/lxdocker-lxd/config.yaml").read_text()
    again = json.loads(setup(root, "--dry-run", "--format", "json").stdout)
    assert {step["action"] for step in again["steps"]} == {"already"}
    assert setup(root, "--undo", "--yes").returncode == 0
    assert sorted(path.name for path in root.iterdir()) == ["etc"]
    assert not (root / "etc/lxdocker-lxd").exists()


@pytest.mark.parametrize(
    ("flag", "asked", "lxd"),
    [
        ("--in-container", wish(lxd=False, container="x"), ""),
        ("--lxd", wish(lxd=False), "https://h:8443"),
        ("--auto-update-interval", wish(lxd=False, update_hours=3), ""),
    ],
)
def test_flags_that_need_a_lxd_are_refused(flag: str, asked: Wish, lxd: str) -> None:
    with pytest.raises(UsageError, match=f"--no-lxd and {flag} contradict each other"):
        job(argparse.Namespace(lxd=lxd), asked)


@pytest.mark.parametrize(
    ("flag", "asked"),
    [
        ("--address", wish(container="x", addresses=(":8443",))),
        ("--url", wish(container="x", url="https://x")),
        ("--name", wish(container="x", names=("x",))),
    ],
)
def test_what_the_container_decides_is_not_asked_for(flag: str, asked: Wish) -> None:
    with pytest.raises(UsageError, match=f"--in-container and {flag} contradict each other"):
        job(argparse.Namespace(lxd=""), asked)
