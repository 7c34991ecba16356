"""Real applications, from Debian packages to containers: what they find, and how they stop.

Each image went the whole way: built, pushed to docker-registry, converted, imported, launched.
"""

import contextlib
import json
import re
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from lxdocker_lxd.digest import Digest
from tests.harness.images import BUSYBOX, NGINX, RECIPES, STATIC, Recipe
from tests.harness.lxd import PrivateLxd
from tests.harness.oracle import compare_layers
from tests.harness.processes import eventually

pytestmark = [pytest.mark.lxd, pytest.mark.registry, pytest.mark.usefixtures("converted_images")]

LOG, STATE = "/.lxdocker/log", "/.lxdocker/state"
NO_NIC = {"eth0": {"type": "none"}}
# The others of the images are compared in the full run.
COMPARED_ALWAYS = (NGINX, BUSYBOX, STATIC)


@pytest.fixture
def lxd(private_lxd: PrivateLxd) -> Iterator[PrivateLxd]:
    """The private LXD; instances of a test end with it."""
    yield private_lxd
    left = private_lxd.instances()
    if left:
        private_lxd.delete(*left)


def page(url: str) -> str:
    """The body of an HTTP answer, waited for."""

    def look() -> str:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with contextlib.suppress(urllib.error.URLError, ConnectionError), opener.open(url) as got:
            return str(got.read().decode())
        return ""

    return eventually(look, timeout_seconds=20, what=f"an answer from {url}")


def said(text: str) -> dict[str, list[str]]:
    """What the probe printed, by key."""
    words: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        words.setdefault(key, []).append(urllib.parse.unquote(value, errors="surrogateescape"))
    return words


def environment(words: Mapping[str, list[str]]) -> dict[str, str]:
    """The probe's environment."""
    return dict(entry.split("=", 1) for entry in words["env"])


def state(lxd: PrivateLxd, name: str) -> dict[str, object]:
    """The guest's own account of its command."""
    content = lxd.file_pull(name, STATE)
    assert content is not None
    found: dict[str, object] = json.loads(content)
    return found


def process(lxd: PrivateLxd, name: str, command: str) -> dict[str, str]:
    """Fields of /proc/PID/status of the first process named ``command`` inside."""
    script = f'for d in /proc/[0-9]*; do [ "$(cat $d/comm)" = {command} ] && cat $d/status; done'
    fields: dict[str, str] = {}
    for line in lxd.shell(name, script, check=False).splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key, " ".join(value.split()))
    return fields


def layers_of(layout: Path, tag: str) -> list[tuple[Path, Digest]]:
    """Files and diff_ids of an image's layers, lowest first."""

    def blob(digest: str) -> Path:
        return layout / "blobs" / digest.replace(":", "/")

    index = json.loads((layout / "index.json").read_text())
    name = "org.opencontainers.image.ref.name"
    (named,) = (entry for entry in index["manifests"] if entry["annotations"][name] == tag)
    manifest = json.loads(blob(named["digest"]).read_text())
    config = json.loads(blob(manifest["config"]["digest"]).read_text())
    diff_ids = [Digest.parse(text) for text in config["rootfs"]["diff_ids"]]
    files = [blob(layer["digest"]) for layer in manifest["layers"]]
    return list(zip(files, diff_ids, strict=True))


class TestNginx:
    """A web server whose workers give up root, and that wants SIGQUIT."""

    def test_it_serves_logs_and_stops_gracefully(self, lxd: PrivateLxd) -> None:
        name = lxd.launch("nginx")
        address = lxd.address(name)
        assert page(f"http://{address}/") == "a real nginx\n"
        workers = lxd.shell(name, "/busybox-lxd ps -o user,args | /busybox-lxd grep 'worker proc'")
        assert "www-data" in workers
        # Its access log is a link to /dev/stdout, as in the image of Docker Hub.
        log = lxd.wait_console(name, '"GET / HTTP/1.1" 200')
        assert "entrypoint of root: nginx -g daemon off;" in log
        assert b'"GET / HTTP/1.1" 200' in (lxd.file_pull(name, LOG) or b"")
        begun = time.monotonic()
        lxd.stop(name)
        assert time.monotonic() - begun < 8
        assert "signal 3 (SIGQUIT) received" in lxd.console_log(name)
        assert lxd.status(name) == "Stopped"
        assert b"signal 3 (SIGQUIT)" in (lxd.file_pull(name, LOG) or b"")
        assert state(lxd, name)["exit_code"] == 0

    def test_it_starts_again_and_gets_its_address_back(self, lxd: PrivateLxd) -> None:
        name = lxd.launch("nginx")
        first = lxd.address(name)
        lxd.lxc("restart", name, "--timeout", "20")
        assert lxd.address(name) == first
        assert page(f"http://{first}/") == "a real nginx\n"


class TestRedis:
    """A database that runs as its own user from the start, with a volume."""

    def test_it_answers_as_its_user_with_all_its_groups(self, lxd: PrivateLxd) -> None:
        name = lxd.launch("redis")
        assert self.ask(lxd.address(name), 6379, b"PING\r\n") == b"+PONG\r\n"
        status = process(lxd, name, "redis-server")
        ids = lxd.exec(name, "/usr/bin/id", "redis").stdout
        uid, gid = re.findall(r"[ug]id=(\d+)", ids)
        assert status["Uid"].split() == [uid] * 4
        assert status["Gid"].split() == [gid] * 4
        assert set(status["Groups"].split()) == {gid, "7777"}
        assert "entrypoint of redis:" in lxd.console_log(name)
        # The volume's directory is the user's; what is saved there survives a restart.
        address = lxd.address(name)
        assert self.ask(address, 6379, b"SET key kept\r\nSAVE\r\n") == b"+OK\r\n+OK\r\n"
        lxd.stop(name)
        assert "User requested shutdown" in lxd.console_log(name)
        lxd.start(name)
        assert self.ask(lxd.address(name), 6379, b"GET key\r\n") == b"$4\r\nkept\r\n"

    def test_instance_configuration_gives_it_port_80(self, lxd: PrivateLxd) -> None:
        command = "redis-server --protected-mode no --port 80"
        name = lxd.launch("redis", config={"user.lxdocker.cmd": command})
        assert self.ask(lxd.address(name), 80, b"PING\r\n") == b"+PONG\r\n"
        assert process(lxd, name, "redis-server")["Uid"].split()[0] != "0"

    @staticmethod
    def ask(address: str, port: int, request: bytes) -> bytes:
        def look() -> bytes:
            with (
                contextlib.suppress(OSError),
                socket.create_connection((address, port), timeout=5) as connection,
            ):
                connection.sendall(request)
                time.sleep(0.3)
                return connection.recv(1000)
            return b""

        return eventually(look, timeout_seconds=20, what=f"an answer from {address}:{port}")


class TestStatic:
    """One static program on an empty root, which says what it was given."""

    def test_it_gets_what_docker_would_give(self, lxd: PrivateLxd) -> None:
        name = lxd.launch("static", config={"environment.FROM_INSTANCE": "in stance"})
        log = lxd.wait_console(name, "ready yes")
        words = said(log)
        # Letter for letter: nothing of it was ever shell code.
        assert words["arg"] == [
            "/probe",
            "one",
            "two words",
            "$(touch /x)`x`\"'",
            "open:/dev/stdout",
            "listen:80",
        ]
        assert environment(words) == {
            "PATH": "/",
            "FROM_IMAGE": "a b  c",
            "WITH.DOT": "kept",
            "ODD": "$HOME `id`\n'\"\\",
            "FROM_SPEC": "spec",
            "FROM_INSTANCE": "in stance",
            "HOME": "/",
            "HOSTNAME": name,
        }
        assert words["cwd"] == ["/made/at/start"]
        assert (words["uid"], words["gid"]) == (["1000"], ["2000"])
        assert words.get("group", []) in ([], ["2000"])
        assert words["pid"] != ["1"]
        assert words["CapEff"] == ["0000000000000000"]
        # A user without rights opens /dev/stdout by its name, and port 80.
        assert "opened /dev/stdout" in log
        assert page(f"http://{lxd.address(name)}/") == "probe\n"
        written = (lxd.file_pull(name, LOG) or b"").decode()
        assert "opened /dev/stdout" in written
        assert "ready yes" in written
        assert lxd.exec(name, "/busybox-lxd", "ls", "/x", check=False).returncode != 0

    def test_its_stop_signal_is_the_one_asked_for(self, lxd: PrivateLxd) -> None:
        name = lxd.launch("static", config={"user.lxdocker.stop_signal": "SIGUSR2"})
        lxd.wait_console(name, "ready yes")
        lxd.stop(name)
        assert said(lxd.console_log(name))["signal"] == ["12"]

    def test_its_end_ends_the_container_and_its_code_is_kept(self, lxd: PrivateLxd) -> None:
        name = lxd.launch("static", config={"user.lxdocker.cmd": "exit:7"})
        lxd.wait_status(name, "Stopped")
        assert state(lxd, name)["exit_code"] == 7
        assert "exit:7" in lxd.console_log(name)

    def test_it_is_started_again_with_growing_pauses(self, lxd: PrivateLxd) -> None:
        name = lxd.launch(
            "static",
            config={"user.lxdocker.cmd": "crash:3", "user.lxdocker.restart": "on-failure:2"},
            devices=NO_NIC,
        )
        begun = time.monotonic()
        lxd.wait_status(name, "Stopped", timeout_seconds=30)
        # Pauses of 1 and 2 seconds before the second and third start.
        assert time.monotonic() - begun > 2.5
        log = lxd.console_log(name)
        assert len(said(log)["arg"]) == 3 * len(["/probe", "crash:3"])
        found = state(lxd, name)
        assert (found["exit_code"], found["restarts"]) == (3, 2)

    def test_a_file_capability_survives(self, lxd: PrivateLxd) -> None:
        entrypoint = {"user.lxdocker.entrypoint": "/probe-with-capability"}
        name = lxd.launch("static", config=entrypoint, devices=NO_NIC)
        words = said(lxd.wait_console(name, "ready yes"))
        assert words["uid"] == ["1000"]
        assert int(words["CapEff"][0], 16) == 1 << 10


class TestBusybox:
    """A small root without /etc/passwd, for what belongs to the container rather than the program."""

    def test_cmd_prelaunch_and_envfile_come_from_the_instance(self, lxd: PrivateLxd) -> None:
        script = (
            "echo before the start > /prelaunch-was-here\n"
            "echo 'FROM_FILE=$(touch /evaluated) kept' > \"$LXDOCKER_ENVFILE\"\n"
        )
        name = lxd.launch(
            "busybox",
            config={
                "user.lxdocker.cmd": "of the 'in stance'",
                "user.lxdocker_init_script": script,
                "environment.FROM_INSTANCE": "instance",
                "environment.LXDOCKER_ENVFILE": "/settings.env",
            },
        )
        log = lxd.wait_console(name, "ready")
        assert "argv: of the in stance" in log
        expected = "FROM_IMAGE=image FROM_INSTANCE=instance FROM_FILE=$(touch /evaluated) kept"
        assert expected in log
        assert "prelaunch left: before the start" in log
        assert lxd.file_pull(name, "/evaluated") is None

    def test_a_tmpfs_covers_only_what_the_image_left_empty(self, lxd: PrivateLxd) -> None:
        name = lxd.launch("busybox", devices=NO_NIC)
        log = lxd.wait_console(name, "ready")
        # The image ships a file below /run and nothing in /tmp.
        assert "tmp: 1 run: 0" in log
        assert "run holds: shipped" in log

    def test_two_interfaces_get_an_address_each(self, lxd: PrivateLxd) -> None:
        second = lxd.add_network()
        lan = {"type": "nic", "network": second, "name": "lan0"}
        name = lxd.launch("busybox", devices={"lan0": lan})
        addresses = {lxd.address(name), lxd.address(name, nic="lan0")}
        assert len(addresses) == 2
        lxd.wait_console(name, "ready")

    def test_without_an_interface_nothing_is_waited_for(self, lxd: PrivateLxd) -> None:
        name = lxd.launch("busybox", devices=NO_NIC, start=False)
        begun = time.monotonic()
        lxd.start(name)
        lxd.wait_console(name, "ready")
        assert time.monotonic() - begun < 5

    def test_without_a_dhcp_server_the_command_starts_all_the_same(self, lxd: PrivateLxd) -> None:
        silent = lxd.add_network(dhcp=False)
        nic = {"type": "nic", "network": silent, "name": "eth0"}
        name = lxd.launch(
            "busybox", devices={"eth0": nic}, config={"user.lxdocker.network_wait": "3"}
        )
        log = lxd.wait_console(name, "ready", timeout_seconds=30)
        assert "no address" in log
        # One network without a server holds up nobody else: eth0 has its address at once.
        both = lxd.launch("busybox", devices={"lan0": {**nic, "name": "lan0"}})
        assert lxd.address(both, timeout_seconds=10)


class TestOwnInit:
    """Images that bring an init: it is PID 1, and `lxc stop` ends it cleanly or says what would."""

    def test_s6_runs_its_services_and_ends_them(self, lxd: PrivateLxd) -> None:
        name = lxd.launch("s6")
        log = lxd.wait_console(name, "web runs as")
        assert "under s6-svscan" in log
        assert lxd.address(name)
        # Until its directory is watched, a stop would come too early.
        eventually(
            lambda: lxd.shell(
                name, "/busybox-lxd test -x /srv/services/.s6-svscan/SIGPWR && echo yes"
            ),
            timeout_seconds=20,
            what="the handler of SIGPWR",
        )
        lxd.stop(name)
        assert lxd.status(name) == "Stopped"
        assert "web ends cleanly" in lxd.console_log(name)

    def test_systemd_boots_and_shuts_down(self, lxd: PrivateLxd) -> None:
        name = lxd.launch("systemd")
        booted = ("running", "degraded")

        def look() -> bool:
            asked = lxd.exec(name, "systemctl", "is-system-running", check=False)
            return asked.stdout.strip() in booted

        eventually(look, timeout_seconds=60, what="systemd to have booted")
        assert process(lxd, name, "systemd")["Pid"] == "1"
        assert lxd.address(name)
        lxd.stop(name, timeout_seconds=60)
        assert lxd.file_pull(name, "/var/story") == b"began\nended\n"

    def test_tini_is_pid_1_and_passes_the_signal_on(self, lxd: PrivateLxd) -> None:
        name = lxd.launch("tini")
        log = lxd.wait_console(name, "ready yes")
        assert process(lxd, name, "tini-static")["Pid"] == "1"
        hint = re.search(r"raw\.lxc=(\S+)", log)
        assert hint, log
        # What the start-up log names makes the stop clean.
        lxd.stop(name, force=True)
        lxd.set_config(name, {"raw.lxc": hint[1]})
        lxd.start(name)
        eventually(
            lambda: lxd.console_log(name).count("ready yes") == 2,
            timeout_seconds=20,
            what="the second start",
        )
        lxd.stop(name)
        assert said(lxd.console_log(name))["signal"] == ["15"]


@pytest.mark.oracle
@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(one, id=one.name, marks=() if one in COMPARED_ALWAYS else pytest.mark.full)
        for one in RECIPES
    ],
)
def test_the_merged_layers_are_what_umoci_unpacks(image_layout: Path, recipe: Recipe) -> None:
    theirs = recipe.name if recipe.compression == "gzip" else f"{recipe.name}-gzip"
    ours = layers_of(image_layout, recipe.name)
    assert compare_layers(image_layout, theirs, ours, directory_times=False) == []
