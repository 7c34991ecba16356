"""The updater on the real LXD: everything a name stands for survives, broken versions go back."""

import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lxdocker_lxd.lxd.daemon import LxdDaemon, open_lxd
from lxdocker_lxd.lxd.place import SocketPlace
from lxdocker_lxd.update.gate import HealthGate
from lxdocker_lxd.update.means import Means, Outcome
from lxdocker_lxd.update.procedure import Act
from lxdocker_lxd.update.recovery import parked_copy, reap
from lxdocker_lxd.update.transaction import STAMP_KEY
from lxdocker_lxd.update.updater import Updater
from tests.guest.lxd_guest import Guests, image_config, import_guest, small_tree
from tests.harness.lxd import PrivateLxd
from tests.update.memory_journal import MemoryJournal

pytestmark = pytest.mark.lxd

QUICK_GATE = {
    "user.lxdocker.update.interval": "0.2",
    "user.lxdocker.update.start_period": "5",
    "user.lxdocker.update.stable": "1",
}
VOLATILE = ("volatile.", "image.", "user.lxdocker.transaction", "user.lxdocker.rejected")


@pytest.fixture
def guests(private_lxd: PrivateLxd, tmp_path: Path) -> Iterator[Guests]:
    guests = Guests(private_lxd, tmp_path)
    yield guests
    guests.close()
    for name in private_lxd.instances():
        config = private_lxd.query("GET", f"/1.0/instances/{name}")["config"]
        if STAMP_KEY in config:
            private_lxd.lxc("config", "unset", name, "security.protection.delete", check=False)
            private_lxd.lxc("delete", "--force", name, check=False)


@pytest.fixture
def daemon(private_lxd: PrivateLxd) -> LxdDaemon:
    return open_lxd(SocketPlace(socket=private_lxd.socket))


@pytest.fixture
def updater(daemon: LxdDaemon) -> Updater:
    means = Means(
        gate=HealthGate(daemon, clock=time.monotonic, pause=time.sleep),
        clock=lambda: datetime.now(UTC),
        pause=time.sleep,
        draw_id=lambda: secrets.token_hex(4),
        stop_timeout_seconds=10,
    )
    return Updater(daemon, MemoryJournal(), means)


def version(lxd: PrivateLxd, directory: Path, word: str, program: str = "exec sleep 1000") -> str:
    """Import an image whose /version says ``word`` and return its fingerprint."""
    script = f"#!/bin/sh\n{program}\n".encode()
    tree = small_tree({"version": word.encode(), "app": script})
    alias, _ = import_guest(lxd, directory, tree, image_config(entrypoint=["/app"]))
    fingerprint: str = lxd.query("GET", f"/1.0/images/aliases/{alias}")["target"]
    lxd.lxc("image", "alias", "rename", alias, f"v{fingerprint[:12]}")
    return fingerprint


def story_of(lxd: PrivateLxd, name: str) -> dict[str, Any]:
    """All that an update must preserve."""
    found = lxd.query("GET", f"/1.0/instances/{name}")
    kept = ("devices", "profiles", "description", "ephemeral", "architecture", "expanded_devices")
    config = {key: value for key, value in found["config"].items() if not key.startswith(VOLATILE)}
    macs = {key: value for key, value in found["config"].items() if key.endswith(".hwaddr")}
    return {key: found[key] for key in kept} | {"config": config, "macs": macs}


def launched(
    guests: Guests, fingerprint: str, config: dict[str, str], devices: dict[str, dict[str, str]]
) -> str:
    return guests.launch(f"v{fingerprint[:12]}", config=QUICK_GATE | config, devices=devices)


def update(updater: Updater, name: str, fingerprint: str) -> Outcome:
    return updater.update(name, fingerprint, project="default")


def test_an_update_keeps_addresses_volumes_and_every_key(
    guests: Guests, daemon: LxdDaemon, updater: Updater, tmp_path: Path
) -> None:
    lxd = guests.lxd
    first, second = version(lxd, tmp_path, "one"), version(lxd, tmp_path, "two")
    lxd.lxc("storage", "volume", "create", "default", "data", check=False)
    fixed = str(lxd.subnet[77])
    name = launched(
        guests,
        first,
        {"environment.SECRET": "a=b c", "limits.memory": "128MiB", "boot.autostart": "true"},
        {
            "eth0": {
                "type": "nic",
                "network": lxd.network,
                "name": "eth0",
                "ipv4.address": fixed,
                "security.port_isolation": "false",
            },
            "data": {"type": "disk", "pool": "default", "source": "data", "path": "/data"},
        },
    )
    assert lxd.address(name) == fixed
    lxd.shell(name, "echo precious >/data/file")
    lxd.lxc("snapshot", name, "before")
    before = story_of(lxd, name)

    outcome = update(updater, name, second)

    assert (outcome.act, outcome.reason) == (Act.COMMITTED, "")
    assert story_of(lxd, name) == before
    assert lxd.shell(name, "cat /version /data/file") == "twoprecious\n"
    assert lxd.address(name) == fixed
    # The parked copy holds no address and no volume, and its snapshots keep it from being removed.
    transaction = parked_copy(daemon.instances.list(), name, "default")
    assert transaction is not None
    assert reap(daemon, datetime.now(UTC)) == ()

    # Somebody goes back, after changing something.
    lxd.lxc("config", "set", name, "limits.memory=256MiB")
    returned = updater.turn_back(transaction)
    assert returned.act is Act.ROLLED_BACK
    assert lxd.shell(name, "cat /version /data/file") == "oneprecious\n"
    after = story_of(lxd, name)
    assert after["config"].pop("limits.memory") == "256MiB"
    assert before["config"].pop("limits.memory") == "128MiB"
    assert after == before
    assert lxd.address(name) == fixed
    assert [snapshot.name for snapshot in daemon.instances.snapshots(name)] == ["before"]


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("exit 3", "it ended by itself"),
        ("sleep 2", "it ended by itself"),
    ],
)
def test_a_broken_version_goes_back_to_the_parked_root(
    guests: Guests, daemon: LxdDaemon, updater: Updater, tmp_path: Path, program: str, reason: str
) -> None:
    lxd = guests.lxd
    first, broken = version(lxd, tmp_path, "one"), version(lxd, tmp_path, "bad", program)
    name = launched(guests, first, {"user.lxdocker.update.stable": "5"}, {})
    address = lxd.address(name)
    lxd.shell(name, "echo mine >/root-data")
    before = story_of(lxd, name)

    outcome = update(updater, name, broken)

    assert (outcome.act, outcome.blame, outcome.reason) == (Act.ROLLED_BACK, True, reason)
    assert lxd.shell(name, "cat /version /root-data") == "onemine\n"
    assert story_of(lxd, name) == before
    assert lxd.address(name) == address
    assert daemon.instances.get(name).config["user.lxdocker.rejected"] == broken
    (removed,) = reap(daemon, datetime.now(UTC))
    assert removed.startswith(name)
    # The next good version goes through, and the rejection is forgotten.
    lxd.lxc("config", "set", name, "user.lxdocker.update.stable=1")
    good = version(lxd, tmp_path, "good")
    assert update(updater, name, good).act is Act.COMMITTED
    assert "user.lxdocker.rejected" not in daemon.instances.get(name).config


def test_a_stopped_instance_is_updated_and_stays_stopped(
    guests: Guests, updater: Updater, tmp_path: Path
) -> None:
    lxd = guests.lxd
    first, second = version(lxd, tmp_path, "one"), version(lxd, tmp_path, "two")
    name = guests.launch(f"v{first[:12]}", config=QUICK_GATE, start=False)
    before = story_of(lxd, name)
    assert update(updater, name, second).act is Act.COMMITTED
    assert lxd.status(name) == "Stopped"
    assert story_of(lxd, name) == before
    assert lxd.file_pull(name, "/version") == b"two"


def test_an_image_that_isnt_there_costs_no_outage(
    guests: Guests, daemon: LxdDaemon, updater: Updater, tmp_path: Path
) -> None:
    lxd = guests.lxd
    name = launched(guests, version(lxd, tmp_path, "one"), {}, {})
    process = lxd.state(name)["pid"]
    outcome = update(updater, name, "f" * 64)
    assert outcome.act is Act.GIVEN_UP
    assert lxd.state(name)["pid"] == process
    assert STAMP_KEY not in daemon.instances.get(name).config
