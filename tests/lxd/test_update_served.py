"""Must show 1: a real server publishes, LXD or the updater's own polling sees it, the instance moves.

The images are converted, the server is the one users run, with an authority of its own that LXD was
given; nothing else is trusted.
"""

import contextlib
import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lxdocker_lxd.lxd.daemon import open_lxd
from lxdocker_lxd.lxd.place import SocketPlace
from lxdocker_lxd.lxd.server_records import LifecycleEvent
from lxdocker_lxd.update.source import AGAIN_PATH, SOURCE_KEY
from tests.harness.image_server import ImageServer, image_server
from tests.harness.lxd import PrivateLxd
from tests.harness.processes import eventually, run
from tests.lxd.test_served_images import SERVE_PAGE, files
from tests.lxd.update_stage import CHECKOUT, QUICK_GATE

pytestmark = [pytest.mark.lxd, pytest.mark.tools]
NAME = "shopweb"
VOLUME = f"{NAME}-data"


@dataclass
class Visitor:
    """Asks the instance's web server all the time, and knows when it said what."""

    address: str
    heard: dict[str, list[float]] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while not self._stop.wait(0.02):
            with (
                contextlib.suppress(urllib.error.URLError, OSError),
                opener.open(f"http://{self.address}/", timeout=0.5) as got,
            ):
                self.heard.setdefault(got.read().decode(), []).append(time.monotonic())

    def outage_seconds(self, old: str, new: str) -> float:
        """From the old version's last answer to the new one's first."""
        return self.heard[new][0] - self.heard[old][-1]


@contextlib.contextmanager
def visiting(address: str) -> Iterator[Visitor]:
    visitor = Visitor(address)
    thread = threading.Thread(target=visitor.run)
    thread.start()
    try:
        yield visitor
    finally:
        visitor._stop.set()
        thread.join()


@contextlib.contextmanager
def listening(lxd: PrivateLxd) -> Iterator[list[LifecycleEvent]]:
    """A second listener's events, with LXD's own times."""
    found: list[LifecycleEvent] = []
    ended = threading.Event()
    with open_lxd(SocketPlace(socket=lxd.socket)).events.subscribe() as stream:

        def listen() -> None:
            while not ended.is_set():
                event = stream.take(0.2)
                if event is not None:
                    found.append(event)

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield found
        finally:
            ended.set()
            thread.join()


@dataclass
class Shop:
    """A private LXD with the instance ``shopweb`` of the server's image ``web``."""

    lxd: PrivateLxd
    server: ImageServer
    state: Path

    def publish(self, text: str) -> str:
        newest = self.server.publish("web", files=files(text), entrypoint=SERVE_PAGE).newest
        return newest.fingerprint

    def launch(self) -> str:
        """Launch with a volume, a fixed address and a key of the user's; return the address."""
        lxd = self.lxd
        config = [f"--config={key}={value}" for key, value in QUICK_GATE.items()]
        lxd.lxc("launch", "shop:web", NAME, *config, "--config=user.mine=kept")
        lxd.lxc("storage", "volume", "create", "default", VOLUME)
        lxd.lxc(
            "config",
            "device",
            "add",
            NAME,
            "data",
            "disk",
            "pool=default",
            f"source={VOLUME}",
            "path=/data",
        )
        lxd.file_push(NAME, "/data/kept", b"of before")
        address = lxd.address(NAME)
        lxd.lxc("config", "device", "override", NAME, "eth0", f"ipv4.address={address}")
        return address

    def config(self) -> dict[str, str]:
        config: dict[str, str] = self.lxd.query("GET", f"/1.0/instances/{NAME}")["config"]
        return config

    def kept(self) -> dict[str, object]:
        """What an update must not change."""
        found = self.lxd.query("GET", f"/1.0/instances/{NAME}")
        config = {
            key: value
            for key, value in found["config"].items()
            if key.endswith(".hwaddr") or not key.startswith(("volatile.", "image."))
        }
        config.pop("user.lxdocker.transaction", None)
        return {"config": config, "devices": found["devices"], "profiles": found["profiles"]}

    def has(self, fingerprint: str) -> bool:
        found = self.lxd.lxc("config", "get", NAME, "volatile.base_image", check=False)
        return found.stdout.strip() == fingerprint

    def update(self, action: str, *words: str) -> list[str]:
        return [
            *(sys.executable, "-m", "lxdocker_lxd", "update", action, f"--state={self.state}"),
            *(f"--config={self.server.settings}", *words),
        ]

    def run(self, action: str, *words: str) -> str:
        done = subprocess.run(
            self.update(action, *words),
            cwd=CHECKOUT,
            env=self.lxd.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextlib.contextmanager
    def service(self) -> Iterator[None]:
        with subprocess.Popen(
            self.update("run", "--interval=600"),
            cwd=CHECKOUT,
            env=self.lxd.environment | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as service:
            told = ""
            try:
                yield
            finally:
                service.terminate()
                _, told = service.communicate(timeout=60)
                sys.stderr.write(told)
            assert service.returncode == 0, told
            assert "problem" not in told

    def wait_for(self, fingerprint: str) -> None:
        eventually(lambda: self.has(fingerprint), timeout_seconds=90, what="the new version")
        eventually(
            lambda: fingerprint[:12] in self.run("history"),
            timeout_seconds=60,
            what="its end",
        )


@pytest.fixture
def shop(private_lxd: PrivateLxd, tmp_path: Path) -> Iterator[Shop]:
    """The instance runs its version one, and is enrolled."""
    lxd = private_lxd
    with image_server(tmp_path) as server:
        server.add_remote(lxd, "shop")
        yield Shop(lxd=lxd, server=server, state=tmp_path / "state")
    for name in lxd.instances():
        if name.startswith(NAME):
            lxd.delete(name)
    lxd.lxc("storage", "volume", "delete", "default", VOLUME, check=False)
    for image in json.loads(lxd.lxc("image", "list", "--format", "json").stdout):
        if server.url in str(image.get("update_source")):
            lxd.lxc("image", "delete", image["fingerprint"])
    lxd.lxc("remote", "remove", "shop")


def check_moved(shop: Shop, before: dict[str, object], address: str) -> None:
    assert shop.kept() == before
    assert shop.lxd.address(NAME) == address
    assert shop.lxd.file_pull(NAME, "/data/kept") == b"of before"


def seconds_to_successor(events: list[LifecycleEvent], since: datetime) -> float:
    """From a moment to LXD's own event about the successor that was made."""
    (made,) = (
        one.at
        for one in events
        if one.action == "instance-created" and one.name.startswith(f"{NAME}-new-")
    )
    assert made is not None
    return (made - since).total_seconds()


@pytest.mark.full
def test_a_refreshed_image_moves_its_instance_within_seconds_of_lxds_event(shop: Shop) -> None:
    shop.publish("one")
    address = shop.launch()
    shop.run("enable", NAME)
    source = shop.config()[SOURCE_KEY]
    assert source == f"{shop.server.url}|simplestreams|web"
    before = shop.kept()
    with listening(shop.lxd) as events, visiting(address) as visitor, shop.service():
        time.sleep(5)
        second = shop.publish("two")
        shop.server.forget_listings(shop.lxd)
        events.clear()
        old = shop.lxd.query("GET", f"/1.0/instances/{NAME}")["config"]["volatile.base_image"]
        shop.lxd.lxc("image", "refresh", old)
        shop.wait_for(second)
    check_moved(shop, before, address)
    refreshed = next(one.at for one in events if one.action == "image-created")
    assert refreshed is not None
    noticed = seconds_to_successor(events, refreshed)
    outage = visitor.outage_seconds("one", "two")
    sys.stderr.write(
        f"\nsuccessor {noticed:.2f} s after LXD's event; outage {outage:.2f} s for the visitor\n"
    )
    # The debounce is half a second; the rest is a busy machine, and unpacking the image.
    assert noticed < 5


def test_polling_finds_a_version_that_lxd_wont_see_for_an_hour(shop: Shop) -> None:
    shop.publish("one")
    shop.server.settings.write_text("update: {poll: remote, poll_interval: 5}\n")
    address = shop.launch()
    shop.run("enable", NAME)
    before = shop.kept()
    with listening(shop.lxd) as events, visiting(address) as visitor, shop.service():
        time.sleep(5)
        second = shop.publish("two")
        published = datetime.now(UTC)
        shop.wait_for(second)
        third = shop.publish("three")
        shop.wait_for(third)
        first_noticed = [one for one in events if one.at is not None and one.at > published]
    check_moved(shop, before, address)
    created = [
        one.at
        for one in first_noticed
        if one.action == "instance-created" and one.name.startswith(f"{NAME}-new-") and one.at
    ]
    assert len(created) == 2
    noticed = (created[0] - published).total_seconds()
    sys.stderr.write(
        f"\nsuccessor {noticed:.2f} s after the publication, polling each 5 s;"
        f" outages {visitor.outage_seconds('one', 'two'):.2f} s"
        f" and {visitor.outage_seconds('two', 'three'):.2f} s for the visitor\n"
    )
    assert noticed < 15
    # LXD itself is still blind: its hour isn't over.
    plain = shop.lxd.lxc("image", "info", "shop:web").stdout
    assert third in plain
    images = json.loads(shop.lxd.lxc("image", "list", "--format", "json").stdout)
    (newest,) = (one for one in images if one["fingerprint"] == third)
    assert AGAIN_PATH in newest["update_source"]["server"]
    assert (newest["auto_update"], newest["cached"]) == (True, False)
    # What another one took the place of goes when no instance, and no parked copy, is made of it.
    held = {one["fingerprint"] for one in images}
    assert second in held
    # The next round, and one of another process, know the image as the one that is followed.
    plan = json.loads(shop.run("plan", "--format=json"))
    assert "current" in json.dumps(plan)
    # LXD follows the URL by itself: its own update moves on from what was fetched anew.
    fourth = shop.publish("four")
    shop.server.forget_listings(shop.lxd)
    shop.lxd.lxc("image", "refresh", third)
    shop.run("now", "--no-refresh")
    assert shop.has(fourth)
    check_moved(shop, before, address)


def test_an_image_that_lxd_removes_after_its_days_is_fetched_again_and_kept(shop: Shop) -> None:
    """LXD keeps what it fetched for an instance some days only, whatever it is asked."""
    lxd = shop.lxd
    first = shop.publish("one")
    shop.launch()
    shop.run("enable", NAME)

    def held() -> dict[str, object]:
        images = json.loads(lxd.lxc("image", "list", "--format", "json").stdout)
        return next((one for one in images if one["fingerprint"] == first), {})

    assert held()["cached"]
    with listening(lxd) as events, shop.service():
        time.sleep(5)
        # No round after each event of its own.
        assert [one.action for one in events if one.kind == "image"] == []
        long_ago = "UPDATE images SET last_use_date='2020-01-01 00:00:00+00:00'"
        for statement in (long_ago, long_ago.replace("last_use", "upload")):
            run("lxd", "sql", "global", statement, env=lxd.environment)
        lxd.lxc("config", "set", "images.remote_cache_expiry", "1")
        try:
            eventually(lambda: held().get("cached") is False, timeout_seconds=60, what="the image")
            time.sleep(3)
        finally:
            lxd.lxc("config", "unset", "images.remote_cache_expiry")
    actions = [one.action for one in events if one.kind == "image"]
    # LXD tells twice of an image that it was asked for; and that is all.
    assert actions == ["image-deleted", "image-created", "image-created"]
    source = held()["update_source"]
    assert isinstance(source, dict)
    assert source["certificate"].strip() == shop.server.authority.read_text().strip()
    assert source["server"] == shop.server.url
