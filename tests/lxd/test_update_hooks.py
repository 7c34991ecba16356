"""Hooks and messages around updates on the real LXD."""

import os
import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lxdocker_lxd.lxd.daemon import LxdDaemon, open_lxd
from lxdocker_lxd.lxd.place import SocketPlace
from lxdocker_lxd.update.gate import HealthGate
from lxdocker_lxd.update.hook import Hook, Point
from lxdocker_lxd.update.hook_run import HookedGate, HookedUpdate, HookRunner
from lxdocker_lxd.update.means import Means
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.transaction import STAMP_KEY
from lxdocker_lxd.update.updater import Updater
from tests.guest.lxd_guest import Guests, image_config, import_guest, small_tree
from tests.harness.lxd import PrivateLxd
from tests.update.memory_journal import MemoryJournal

pytestmark = pytest.mark.lxd

QUICK = {"user.lxdocker.update.interval": "0.2", "user.lxdocker.update.stable": "0.5"}
HOOK = """#!/bin/sh
echo "$LXDOCKER_POINT $LXDOCKER_INSTANCE $(id -u)" >>/data/log
test ! -e "/data/$LXDOCKER_POINT" || { echo because; exit "$(cat "/data/$LXDOCKER_POINT")"; }
"""


@pytest.fixture
def guests(private_lxd: PrivateLxd, tmp_path: Path) -> Iterator[Guests]:
    guests = Guests(private_lxd, tmp_path)
    yield guests
    guests.close()
    for name in private_lxd.instances():
        if STAMP_KEY in private_lxd.query("GET", f"/1.0/instances/{name}")["config"]:
            private_lxd.lxc("delete", "--force", name, check=False)


def image(lxd: PrivateLxd, directory: Path, word: str) -> str:
    """Import an image with a hook of its own and return its fingerprint."""
    tree = small_tree(
        {
            "version": word.encode(),
            "app": b"#!/bin/sh\nexec sleep 1000\n",
            "etc/lxdocker-lxd/hooks/own": HOOK.encode(),
        }
    )
    alias, _ = import_guest(lxd, directory, tree, image_config(entrypoint=["/app"]))
    fingerprint: str = lxd.query("GET", f"/1.0/images/aliases/{alias}")["target"]
    lxd.lxc("image", "alias", "rename", alias, f"h{fingerprint[:12]}")
    return fingerprint


def hooked_updater(daemon: LxdDaemon, complaints: list[str], *defined: Hook) -> Updater:
    runner = HookRunner(daemon.guests, {hook.name: hook for hook in defined}, owner=os.geteuid())
    hooks = HookedUpdate(daemon, runner, complain=complaints.append)
    return Updater(
        daemon,
        MemoryJournal(),
        Means(
            gate=HookedGate(HealthGate(daemon, clock=time.monotonic, pause=time.sleep), hooks),
            before_outage=hooks.before_outage,
            went_back=hooks.went_back,
            clock=lambda: datetime.now(UTC),
            pause=time.sleep,
            draw_id=lambda: secrets.token_hex(4),
        ),
    )


def test_hooks_put_off_turn_back_and_let_through(guests: Guests, tmp_path: Path) -> None:
    lxd = guests.lxd
    daemon = open_lxd(SocketPlace(socket=lxd.socket))
    first, second = image(lxd, tmp_path, "one"), image(lxd, tmp_path, "two")
    program = tmp_path / "note"
    program.write_text(
        f'#!/bin/sh\necho "$LXDOCKER_POINT ${{LXDOCKER_TO%${{LXDOCKER_TO#??????}}}}" >>{tmp_path}/log\n'
    )
    program.chmod(0o755)
    complaints: list[str] = []
    updater = hooked_updater(
        daemon, complaints, Hook(name="note", where="host", words=(str(program),))
    )
    lxd.lxc("storage", "volume", "create", "default", "hooked", check=False)
    name = guests.launch(
        f"h{first[:12]}",
        config=QUICK | {point.key: "note own" for point in Point},
        devices={"data": {"type": "disk", "pool": "default", "source": "hooked", "path": "/data"}},
    )
    process = lxd.query("GET", f"/1.0/instances/{name}/state")["pid"]

    # Put off: the old version was never stopped.
    lxd.shell(name, "echo 75 >/data/before")
    put_off = updater.update(name, second, project="default")
    assert (put_off.act, put_off.reason) == (Act.GIVEN_UP, "the hook own puts it off: because")
    assert lxd.query("GET", f"/1.0/instances/{name}/state")["pid"] == process
    assert [one for one in lxd.instances() if one.startswith(f"{name}-")] == []

    # Turned back, by a hook of the new version.
    lxd.shell(name, "rm /data/before; echo 3 >/data/after; echo 4 >/data/back")
    back = updater.update(name, second, project="default")
    assert (back.act, back.reason) == (Act.ROLLED_BACK, "the hook own ended with 3: because")
    assert lxd.shell(name, "cat /version") == "one"
    assert complaints == [f"{name}: after the rollback: the hook own ended with 4: because"]

    # Let through.
    lxd.shell(name, "rm /data/after")
    third = image(lxd, tmp_path, "three")
    done = updater.update(name, third, project="default")
    assert (done.act, done.reason) == (Act.COMMITTED, "")
    assert lxd.shell(name, "cat /version") == "three"
    points = ["before", "before", "after", "back", "before", "after"]
    assert lxd.shell(name, "cat /data/log").splitlines() == [
        f"{point} {name} 0" for point in points
    ]
    versions = [second, second, second, second, third, third]
    assert (tmp_path / "log").read_text().splitlines() == [
        f"{point} {version[:6]}" for point, version in zip(points, versions, strict=True)
    ]


@pytest.mark.full
def test_a_hook_that_hangs_inside_is_killed_and_forbids(guests: Guests, tmp_path: Path) -> None:
    lxd = guests.lxd
    daemon = open_lxd(SocketPlace(socket=lxd.socket))
    first, second = image(lxd, tmp_path, "four"), image(lxd, tmp_path, "five")
    slow = Hook(name="slow", words=("/bin/sleep", "77"), timeout_seconds=1)
    updater = hooked_updater(daemon, [], slow)
    name = guests.launch(f"h{first[:12]}", config=QUICK | {Point.BEFORE.key: "slow"})
    refused = updater.update(name, second, project="default")
    assert (refused.act, refused.reason) == (
        Act.GIVEN_UP,
        "the hook slow didn't end within 1 s",
    )
    assert "sleep 77" not in lxd.shell(name, "ps")
    # One that isn't there forbids as well, and says so.
    lxd.lxc("config", "set", name, f"{Point.BEFORE.key}=missing")
    missing = updater.update(name, second, project="default")
    assert missing.act is Act.GIVEN_UP
    assert missing.reason.startswith("the hook missing ended with 127 (no such program)")
