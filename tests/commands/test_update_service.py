"""``lxdocker-lxd update`` as people start it: settings of strangers refused, metrics and ping there."""

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.harness.http_server import serving
from tests.harness.image_server import free_port
from tests.harness.lxd import PrivateLxd
from tests.harness.processes import eventually
from tests.lxd.update_stage import Stage

COMMAND = (sys.executable, "-m", "lxdocker_lxd", "update")
PROGRAMS = "update: {notify: {mail: {command: [/bin/true]}}}\n"


def test_a_settings_file_that_others_may_write_names_no_programs(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(PROGRAMS)
    config.chmod(0o666)
    done = subprocess.run(
        [*COMMAND, "plan", "--config", config, "--state", tmp_path / "state"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"LXD_DIR": str(tmp_path)},
    )
    assert done.returncode == 2
    assert "others can write to" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.lxd
def test_the_service_pings_and_is_measured(private_lxd: PrivateLxd, tmp_path: Path) -> None:
    pinged = threading.Event()

    class Switch(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            pinged.set()
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its signature
            pass

    port = free_port()
    config = tmp_path / "config.yaml"
    with serving(Switch) as switch:
        config.write_text(
            f"update: {{ping: {{url: 'http://{switch.host}/'}}, metrics: '127.0.0.1:{port}'}}\n"
        )
        words = ("run", "--only-project", "nobodys", "--config", config, "--state", tmp_path / "s")
        with subprocess.Popen(
            [*COMMAND, *words],
            env=os.environ | {"LXD_DIR": str(private_lxd.socket.parent)},
            stderr=subprocess.PIPE,
            text=True,
        ) as service:
            try:
                assert pinged.wait(60)

                def rounds() -> float:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                        text = answer.read().decode()
                    return {
                        tuple(sample.labels.values()): sample.value
                        for family in text_string_to_metric_families(text)
                        for sample in family.samples
                        if sample.name == "lxdocker_lxd_update_rounds_total"
                    }["good",]

                eventually(lambda: rounds() >= 1, timeout_seconds=30, what="a good round")
            finally:
                service.send_signal(signal.SIGTERM)
                _, said = service.communicate(timeout=30)
    assert (service.returncode, said) == (0, "")


class Manager:
    """Hears what systemd would, from a service it starts with a watchdog."""

    def __init__(self, directory: Path) -> None:
        self.heard: list[tuple[float, str]] = []
        self._address = directory / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self._address))
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while text := self._socket.recv(4096).decode():
            self.heard.append((time.monotonic(), text))

    @contextlib.contextmanager
    def service(
        self, lxd: Path, state: Path, *words: str | Path, watchdog_seconds: float = 4.0
    ) -> Iterator["subprocess.Popen[str]"]:
        """A service, ended by SIGTERM; what it wrote is left to be read."""
        with subprocess.Popen(
            [*COMMAND, "run", "--state", state, *words],
            env=os.environ
            | {
                "LXD_DIR": str(lxd),
                "NOTIFY_SOCKET": str(self._address),
                "WATCHDOG_USEC": str(int(watchdog_seconds * 1_000_000)),
                "PYTHONUNBUFFERED": "1",
            },
            stderr=subprocess.PIPE,
            text=True,
        ) as service:
            try:
                yield service
            finally:
                service.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    service.wait(30)
                service.kill()

    def wait(self, text: str, *, timeout_seconds: float = 30) -> float:
        """When a text was heard first."""

        def look() -> float:
            return next((when for when, said in list(self.heard) if text in said), 0.0)

        return eventually(look, timeout_seconds=timeout_seconds, what=f"{text}: {self.heard}")

    def longest_silence(self, begin: float, end: float) -> float:
        """The longest time without a sign of life, between two moments."""
        beats = [when for when, text in self.heard if text == "WATCHDOG=1"]
        times = [begin, *(when for when in beats if begin < when < end), end]
        return max(after - before for before, after in itertools.pairwise(times))


@pytest.fixture
def manager(tmp_path: Path) -> Manager:
    return Manager(tmp_path)


def test_a_service_that_starts_before_lxd_is_up_and_waits(manager: Manager, tmp_path: Path) -> None:
    with manager.service(tmp_path, tmp_path / "state") as service:
        ready = manager.wait("READY=1")
        (said,) = [text for _, text in manager.heard if "READY=1" in text]
        assert "STATUS=tries again, after: LXD_DIR names" in said
        # Longer than the watchdog's time, with waits of 1, 2 and 4 s in it.
        time.sleep(5)
        stopped = time.monotonic()
        assert manager.longest_silence(ready, stopped) < 3
        service.terminate()
        assert service.wait(10) == 0
        assert time.monotonic() - stopped < 3
        assert any(text.startswith("STOPPING=1") for _, text in manager.heard)
        # One line for the outage, not one for each time that it was looked.
        assert service.stderr is not None
        assert service.stderr.read().count("error: ") == 1


def test_a_service_that_hangs_gives_no_sign_of_life(manager: Manager, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "unix.socket"))
        silent.listen()
        with manager.service(tmp_path, tmp_path / "state", watchdog_seconds=1) as service:
            asked, _ = silent.accept()
            with asked:
                time.sleep(2)
                assert manager.heard == []
            service.kill()


def test_only_the_service_speaks_to_systemd(manager: Manager, tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "status", "--state", tmp_path / "state"],
        env=os.environ | {"LXD_DIR": str(tmp_path), "NOTIFY_SOCKET": str(tmp_path / "notify")},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode != 0
    assert manager.heard == []


@pytest.mark.lxd
@pytest.mark.full
def test_the_watchdog_hears_of_a_long_update(
    private_lxd: PrivateLxd, manager: Manager, tmp_path: Path
) -> None:
    stage = Stage(private_lxd, tmp_path, words=("one", "two"))
    try:
        name = stage.launch("one", {"user.lxdocker.update.stable": "4"})
        stage.follow("app", "one")
        stage.update(tmp_path / "state", "enable", name, "--image=local|app")
        # LXD may be away at first.
        away = tmp_path / "lxd"
        with manager.service(away, tmp_path / "state", "--interval=60") as service:
            manager.wait("tries again, after")
            away.symlink_to(private_lxd.socket.parent)
            found = manager.wait("waits for news; looked at")
            stage.follow("app", "two")
            manager.wait(f"STATUS={name}: gate")
            # The start was told before, by the end of waiting.
            assert sum("READY=1" in text for _, text in manager.heard) == 1
            eventually(
                lambda: "committed" in stage.update(tmp_path / "state", "history").stdout,
                timeout_seconds=30,
                what="the update's end",
            )
            done = time.monotonic()
            assert manager.longest_silence(found, done) < 3
            service.terminate()
            assert service.wait(10) == 0
    finally:
        stage.clean()
        stage.remove_images()
