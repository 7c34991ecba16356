"""``lxdocker-lxd update`` as people start it: settings of strangers refused, metrics and ping there."""

import os
import signal
import subprocess
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.harness.http_server import serving
from tests.harness.lxd import PrivateLxd
from tests.harness.processes import eventually

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
    assert "is writable by others" in done.stderr
    assert "Traceback" not in done.stderr


def free_port() -> int:
    with serving(BaseHTTPRequestHandler) as server:
        return int(server.server_address[1])


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
