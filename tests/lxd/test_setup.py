"""``lxdocker-lxd setup`` on a real, bare LXD: what it makes, that it works, and that it goes again."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.lxd import PrivateLxd
from tests.harness.processes import run

pytestmark = [pytest.mark.lxd, pytest.mark.tools]

COMMAND = (sys.executable, "-m", "lxdocker_lxd")


class BareLxd(PrivateLxd):
    """A daemon as a package leaves it: no storage, no network, an empty profile."""

    def _start(self) -> None:
        self._run_daemon()


class Host:
    """A root directory for the machine's files, and a bare LXD."""

    def __init__(self, lxd: BareLxd) -> None:
        self.lxd = lxd
        self.root = lxd.home / "root"
        self.bridge = lxd.reserve_bridge()
        (self.root / "etc").mkdir(parents=True)
        (self.root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
        (self.root / "etc/group").write_text("root:x:0:\n")
        (self.root / "root").mkdir(mode=0o700)

    def setup(self, *flags: str, check: bool = True) -> Any:
        """Run the command as a user does."""
        return run(
            *COMMAND,
            *("setup", "--root", str(self.root), "--bridge", self.bridge, *flags),
            env=self.lxd.environment,
            check=check,
        )

    def dump(self) -> dict[str, object]:
        """All of LXD's state that a user sees, and all files with mode, owner and time of change."""
        query = self.lxd.query
        found: dict[str, object] = {
            path: query("GET", f"/1.0/{path}?recursion=1")
            for path in ("storage-pools", "profiles", "images", "instances", "certificates")
        }
        networks = query("GET", "/1.0/networks?recursion=1")
        found["networks"] = [network for network in networks if network["managed"]]
        found["config"] = query("GET", "/1.0")["config"]
        for top in (self.root, self.lxd.home / "client"):
            for directory, names, files in os.walk(top):
                for name in (*names, *files):
                    if directory.endswith("/etc") and name.endswith("-"):
                        continue  # copies that useradd and userdel leave of the old tables
                    path = Path(directory, name)
                    status = path.lstat()
                    content = path.read_bytes() if path.is_file() else b""
                    found[str(path)] = (status.st_mode, status.st_uid, status.st_gid, content)
        return found

    def times(self) -> dict[str, int]:
        """When each file was last changed."""
        return {str(path): path.stat().st_mtime_ns for path in self.root.rglob("*")}


@pytest.fixture
def host() -> Iterator[Host]:
    with BareLxd() as lxd:
        yield Host(lxd)


def test_a_bare_host_is_made_ready_and_taken_back(host: Host) -> None:
    before = host.dump()
    planned = json.loads(host.setup("--dry-run", "--format", "json").stdout)
    assert host.dump() == before
    assert {step["action"] for step in planned["steps"]} == {"create"}
    done = json.loads(host.setup("--yes", "--format", "json").stdout)
    assert len(done["self_test"]) == 6
    after, times = host.dump(), host.times()
    again = host.setup()
    assert "nothing to do" in again.stderr
    assert (host.dump(), host.times()) == (after, times)
    host.setup("--undo", "--yes")
    assert host.dump() == before
