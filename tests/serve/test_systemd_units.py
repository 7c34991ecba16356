"""The units: systemd accepts them, they give nothing away, and socket activation works."""

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.harness.processes import eventually, run
from tests.serve.running import RunningServer
from tests.serve.shelf import Shelf

UNITS = Path(__file__).parents[2] / "packaging" / "systemd"
SERVICE = UNITS / "lxdocker-lxd-serve.service"
MOST_EXPOSURE = 1.5


SERVICES = sorted(UNITS.glob("*.service"))
REASON = re.compile(r"^# - (\S+): \S.*$", re.MULTILINE)


def exposure(unit: Path) -> float:
    said = run("systemd-analyze", "security", "--offline=true", "--no-pager", unit).stdout
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found, said
    return float(found[1])


def left_open(unit: Path) -> set[str]:
    """What systemd-analyze holds against a unit, by its names."""
    words = ("security", "--offline=true", "--json=short", unit)
    found = json.loads(run("systemd-analyze", *words).stdout)
    return {one["name"] for one in found if one["exposure"] is not None}


@pytest.mark.tools
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    for unit in (path for path in UNITS.iterdir() if path.suffix != ".sysusers"):
        # The program is somewhere else on this machine.
        text = unit.read_text().replace("/opt/lxdocker-lxd/bin/lxdocker-lxd", "/bin/true")
        (tmp_path / unit.name).write_text(text)
    units = list(tmp_path.glob("*.*"))
    assert len(units) == 10
    done = run("systemd-analyze", "verify", *units)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.tools
@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.stem)
def test_a_service_exposes_little_or_says_why_at_each_line(unit: Path) -> None:
    reasons = REASON.findall(unit.read_text())
    assert len(reasons) == len(set(reasons))
    if exposure(unit) > MOST_EXPOSURE:
        assert set(reasons) == left_open(unit)
    else:
        assert reasons == []


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.stem)
def test_a_service_is_bounded_in_memory_processor_and_time(unit: Path) -> None:
    keys = {line.partition("=")[0] for line in unit.read_text().splitlines()}
    assert {"MemoryMax", "TasksMax", "TimeoutStartSec", "LimitCORE"} <= keys
    assert keys & {"CPUQuota", "CPUWeight"}


def test_only_services_of_what_needs_root_are_roots() -> None:
    users = {
        unit.stem: re.findall("^User=(.*)$", unit.read_text(), re.MULTILINE) for unit in SERVICES
    }
    assert users == {
        "lxdocker-lxd-certificate": ["root"],
        "lxdocker-lxd-convert": ["lxdocker-lxd"],
        "lxdocker-lxd-refresh": ["root"],
        "lxdocker-lxd-serve": ["lxdocker-lxd-serve"],
        "lxdocker-lxd-update": ["root"],
    }


def test_the_server_sees_neither_logins_nor_layers_nor_the_authority() -> None:
    found = re.findall("^InaccessiblePaths=(.*)$", SERVICE.read_text(), re.MULTILINE)
    assert set(" ".join(found).split()) >= {
        "-/var/cache/lxdocker-lxd",
        "-/var/lib/lxdocker-lxd/.docker",
        "-/var/lib/lxdocker-lxd/.config",
        "-/var/lib/lxdocker-lxd/authority",
    }


@pytest.mark.tools
def test_the_capability_for_low_ports_adds_little(tmp_path: Path) -> None:
    """The lines that the unit itself advises."""
    text = SERVICE.read_text()
    advised = re.findall(r"^#   (\w+=.*)$", text, flags=re.MULTILINE)
    assert "AmbientCapabilities=CAP_NET_BIND_SERVICE" in advised
    for line in advised:
        key = line.partition("=")[0]
        text = re.sub(rf"^{key}=.*\n", "", text, flags=re.MULTILINE)
        text = text.replace("\nType=notify", f"\n{line}\nType=notify")
    changed = tmp_path / SERVICE.name
    changed.write_text(text)
    assert exposure(changed) <= MOST_EXPOSURE


@pytest.mark.tools
def test_systemd_creates_the_user() -> None:
    said = run("systemd-sysusers", "--dry-run", UNITS / "lxdocker-lxd.sysusers", check=False)
    assert said.returncode == 0 or "--dry-run" in said.stderr


def test_the_unit_waits_longer_than_the_server_does() -> None:
    text = SERVICE.read_text()
    found = re.search(r"TimeoutStopSec=(\d+)", text)
    assert found
    assert int(found[1]) > 30 + 5


@pytest.mark.tools
def test_a_socket_of_systemd_is_served(tmp_path: Path) -> None:
    """Opened by systemd's own program for that, which hands it over with the first connection."""
    shelf = Shelf(tmp_path / "images")
    server = RunningServer(shelf, tmp_path, "--stop-timeout", "1")
    with RunningServer.free_port() as port:
        server.port = port
    with (tmp_path / "out").open("w") as out:
        activator = subprocess.Popen(
            [
                *("systemd-socket-activate", "--listen", f"127.0.0.1:{server.port}"),
                *("--fdname", "https", *server.command(address=":1")),
            ],
            stdout=out,
            stderr=out,
        )
    try:
        said = tmp_path / "out"
        eventually(lambda: "Listening on" in said.read_text(), timeout_seconds=10, what="a socket")
        assert server.get("/healthz").body == b"ok\n"
        assert f":{server.port}/" in said.read_text()
    finally:
        activator.send_signal(signal.SIGTERM)
        assert activator.wait(10) == 0
