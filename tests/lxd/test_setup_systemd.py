"""``lxdocker-lxd setup`` on a machine with a real systemd, and its units at work.

The machine is a container that booted systemd; the LXD is the one it runs in, reached over HTTPS like a
LXD elsewhere, or by its socket, passed into the container, like one of this machine's package. So
units, socket, timers and sandbox are real, and so is the way of LXD to a server on another machine.
"""

import contextlib
import io
import shutil
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import lxdocker_lxd
from lxdocker_lxd.setup import specimen
from tests.harness.lxd import PrivateLxd
from tests.harness.processes import eventually, run
from tests.harness.small_image import write_layout
from tests.lxd.test_server_unit import PACKAGES, PROGRAM, _plain, _state
from tests.lxd.update_stage import QUICK_GATE
from tests.serve.running import RunningServer

pytestmark = [pytest.mark.lxd, pytest.mark.registry, pytest.mark.usefixtures("converted_images")]

LOADED = """
import sys
import lxdocker_lxd.verbs.setup, lxdocker_lxd.verbs.serve, lxdocker_lxd.verbs.convert
import lxdocker_lxd.verbs.import_image, lxdocker_lxd.verbs.refresh, lxdocker_lxd.verbs.update
import requests_toolbelt
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""
COMMAND = "/opt/lxdocker-lxd/bin/lxdocker-lxd"
UNITS = ("serve.socket", "serve.service", "convert.timer", "certificate.timer")
LXD_UNITS = (*UNITS, "update.service", "refresh.timer")
# Everything but what changes by itself, and the copies useradd and userdel leave.
DUMP = (
    "find /etc /var /usr/local /root /opt /home -xdev"
    r" \( -path /var/log -o -path /var/tmp -o -name __pycache__ -o -path '/etc/*-' \) -prune"
    r" -o -printf '%p %m %U %G\n' | sort; getent passwd; getent group;"
    " systemctl list-unit-files --no-legend | sort; sha256sum /etc/passwd /etc/group"
)


def installation() -> bytes:
    """A tar of the package, all it imports, a command and a static busybox."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        tar.add(
            Path(lxdocker_lxd.__file__).parent, "opt/lxdocker-lxd/lib/lxdocker_lxd", filter=_plain
        )
        for name in run(sys.executable, "-c", LOADED).stdout.split():
            for path in (*PACKAGES.glob(f"{name}.*"), *PACKAGES.glob(name)):
                tar.add(path, f"opt/lxdocker-lxd/lib/{path.name}", filter=_plain)
        for path in PACKAGES.glob("*.dist-info"):
            tar.add(path, f"opt/lxdocker-lxd/lib/{path.name}", filter=_plain)
        tar.add(shutil.which("busybox") or "/bin/busybox", "usr/bin/busybox", filter=_plain)
        program = tarfile.TarInfo(COMMAND[1:])
        program.size, program.mode = len(PROGRAM), 0o755
        tar.addfile(program, io.BytesIO(PROGRAM))
    return made.getvalue()


class Machine:
    """A container with systemd, and what ``setup`` needs to reach the LXD around it."""

    def __init__(
        self, lxd: PrivateLxd, name: str, flags: str, units: tuple[str, ...] = UNITS
    ) -> None:
        self.lxd = lxd
        self.name = name
        self._flags = flags
        self._units = units

    def setup(self, words: str) -> str:
        """Run the command; return all it said."""
        return self.shell(f"{COMMAND} setup {words} {self._flags} 2>&1")

    def shell(self, text: str) -> str:
        """Run a shell's command that must succeed."""
        return self.lxd.shell(self.name, text)

    def booted(self) -> None:
        """Wait for systemd and the network."""
        eventually(
            lambda: _state(self.lxd, self.name, "is-system-running") in {"running", "degraded"},
            timeout_seconds=60,
            what="systemd to have booted",
        )
        assert self.lxd.address(self.name)

    def states(self, *words: str) -> list[str]:
        """What systemctl says of each unit."""
        return [_state(self.lxd, self.name, *words, f"lxdocker-lxd-{unit}") for unit in self._units]

    def all_units(self, state: str) -> bool:
        """Whether all units are ``active`` or ``enabled``."""
        return self.states(f"is-{state}") == [state] * len(self._units)

    def property(self, name: str, unit: str) -> str:
        """A property of one unit."""
        return _state(self.lxd, self.name, "show", "-P", name, f"lxdocker-lxd-{unit}")


@contextlib.contextmanager
def machine_in(lxd: PrivateLxd) -> Iterator[str]:
    """A container that booted systemd, with the program installed."""
    name = lxd.launch("systemd", config={"security.nesting": "true"})
    try:
        Machine(lxd, name, "").booted()
        lxd.file_push(name, "/root/files.tar", installation())
        lxd.shell(name, "tar -C / -xpf /root/files.tar; rm /root/files.tar")
        yield name
    finally:
        lxd.delete(name)


@pytest.fixture
def machine_beside(private_lxd: PrivateLxd) -> Iterator[Machine]:
    """A machine whose own LXD is, by its socket, the one around it."""
    lxd = private_lxd
    with machine_in(lxd) as name:
        lxd.shell(name, "mkdir -p /var/lib/lxd")
        lxd.lxc(
            *("config", "device", "add", name, "lxd", "proxy", "bind=container", "mode=0660"),
            *(f"connect=unix:{lxd.socket}", "listen=unix:/var/lib/lxd/unix.socket"),
        )
        address = lxd.address(name)
        flags = f"--address {address}:443 --address 127.0.0.1:443 --url https://{address}"
        yield Machine(lxd, name, flags, LXD_UNITS)


@pytest.fixture
def machine(private_lxd: PrivateLxd, tmp_path: Path) -> Iterator[Machine]:
    lxd = private_lxd
    with RunningServer.free_port() as free:
        port = free
    place = f"{lxd.subnet[1]}:{port}"
    key, certificate = tmp_path / "client.key", tmp_path / "client.crt"
    run(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
        *("-nodes", "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=machine"),
    )
    lxd.lxc("config", "set", "core.https_address", place)
    lxd.lxc("config", "trust", "add", certificate)
    try:
        with machine_in(lxd) as name:
            flags = f"--lxd https://{place} --lxd-cert /srv/c.crt --lxd-key /srv/c.key"
            lxd.file_push(name, "/srv/c.crt", certificate.read_bytes())
            lxd.file_push(name, "/srv/c.key", key.read_bytes())
            lxd.file_push(name, "/srv/s.crt", (lxd.directory / "server.crt").read_bytes())
            yield Machine(lxd, name, f"{flags} --lxd-server-cert /srv/s.crt")
    finally:
        for one in lxd.query("GET", "/1.0/certificates?recursion=1"):
            lxd.lxc("config", "trust", "remove", one["fingerprint"])
        lxd.lxc("config", "unset", "core.https_address")


def publish(machine: Machine) -> None:
    """Let the timer's unit convert an image in its sandbox, and LXD fetch it from the server."""
    specs = "/etc/lxdocker-lxd/specs"
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        files = {f"layout/{path}": text for path, text in specimen.layout("amd64").items()}
        files["web.yaml"] = b"image: oci:layout:here\nentrypoint: [/bin/true]\n"
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    machine.lxd.file_push(machine.name, "/root/specs.tar", made.getvalue())
    # Without mksquashfs, which the container lacks.
    machine.shell("echo 'imageformat: gzip' >>/etc/lxdocker-lxd/config.yaml")
    machine.shell(f"tar -C {specs} -xf /root/specs.tar && rm /root/specs.tar")
    machine.shell("systemctl start lxdocker-lxd-convert.service")
    authority = machine.lxd.file_pull(machine.name, "/var/lib/lxdocker-lxd/tls/ca.crt")
    assert authority is not None
    source = {
        "type": "image",
        "mode": "pull",
        "protocol": "simplestreams",
        "server": f"https://{machine.lxd.address(machine.name)}/at/test",
        "alias": "web",
        "certificate": authority.decode(),
    }
    done = machine.lxd.query("POST", "/1.0/images", {"source": source})
    machine.lxd.lxc("image", "delete", done["metadata"]["fingerprint"])
    machine.shell(f"rm -r {specs}/layout {specs}/web.yaml /var/lib/lxdocker-lxd/images/*")
    machine.shell("sed -i '/imageformat/d' /etc/lxdocker-lxd/config.yaml")


@pytest.mark.full
def test_units_start_listen_survive_a_reboot_stop_and_go(machine: Machine) -> None:
    before = machine.shell(DUMP)
    said = machine.setup("--yes")
    assert "test: its page answers" in said
    assert machine.all_units("active")
    assert machine.states("is-enabled") == ["enabled"] * 4
    tls = "/var/lib/lxdocker-lxd/tls"
    assert machine.shell(f"stat -c '%U:%G %a' {tls} {tls}/server.key").split("\n")[:2] == [
        "root:lxdocker-lxd-serve 750",
        "root:lxdocker-lxd-serve 640",
    ]
    publish(machine)
    machine.shell("systemctl start lxdocker-lxd-certificate.service")
    assert "nothing to do" in machine.setup("")

    machine.lxd.lxc("restart", machine.name)
    machine.booted()
    eventually(
        lambda: machine.all_units("active"),
        timeout_seconds=30,
        what="the units to run again",
    )
    assert "nothing to do" in machine.setup("")

    # An edited settings file moves socket and remote, at the next run.
    settings = "/etc/lxdocker-lxd/config.yaml"
    address = machine.lxd.address(machine.name)
    text = machine.shell(f"cat {settings}").replace(":443", ":8443")
    text = text.replace(f'"https://{address}"', f'"https://{address}:8443"')
    machine.lxd.file_push(machine.name, settings, text.encode())
    assert "test: its page answers" in machine.setup("--yes")
    assert "8443" in machine.shell("grep -A1 lxdocker: /root/.config/lxc/config.yml")
    assert machine.all_units("active")

    machine.shell("systemctl stop lxdocker-lxd-serve.socket lxdocker-lxd-serve.service")
    assert machine.shell("systemctl show -P Result lxdocker-lxd-serve.service") == "success\n"
    machine.setup("--undo --yes")
    assert machine.shell(DUMP) == before
    assert "lxdocker" not in machine.shell("systemctl --failed --no-legend; echo")


def refuse_a_users_program(machine: Machine) -> None:
    """A program that a user owns is written into no unit of root's."""
    machine.shell(
        "mkdir -p /home/alice; cp -a /opt/lxdocker-lxd /home/alice/; chown -R 4321 /home/alice"
    )
    machine.shell("sed -i 's,/opt/,/home/alice/,' /home/alice/lxdocker-lxd/bin/lxdocker-lxd")
    said = machine.shell(
        "/home/alice/lxdocker-lxd/bin/lxdocker-lxd setup --yes --no-lxd 2>&1; echo $?"
    )
    assert "write units in which root starts /home/alice/lxdocker-lxd/bin/lxdocker-lxd" in said
    assert "sudo /opt/lxdocker-lxd/bin/lxdocker-lxd setup" in said
    assert said.endswith("2\n")
    machine.shell("rm -r /home/alice")


def renew_in_the_sandbox(machine: Machine) -> None:
    """What is lost or due is made again by the timer's unit, with the rights that its sandbox leaves it."""
    tls = "/var/lib/lxdocker-lxd/tls"
    copy = "/root/.config/lxc/servercerts/lxdocker.crt"
    machine.shell(f"rm /var/lib/lxdocker-lxd/authority/server.crt {tls}/server.key {copy}")
    machine.shell("systemctl start lxdocker-lxd-certificate.service")
    assert machine.shell(f"stat -c '%U:%G %a' {tls}/server.key") == "root:lxdocker-lxd-serve 640\n"
    assert machine.shell(f"cmp {copy} {tls}/ca.crt; echo $?") == "0\n"


def push_image(machine: Machine, directory: Path, version: str) -> None:
    """Put an image into a layout on the machine, in place of the one before."""
    layout = directory / version
    write_layout(
        layout,
        tag="here",
        files={"bin/busybox": Path("/bin/busybox").read_bytes(), "version": version.encode()},
        entrypoint=["/bin/busybox", "sleep", "100000"],
    )
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        tar.add(layout, "layout", filter=_plain)
    machine.lxd.file_push(machine.name, "/root/layout.tar", made.getvalue())
    machine.shell("rm -rf /srv/layout; tar -C /srv -xf /root/layout.tar; rm /root/layout.tar")


def hang_the_updater(machine: Machine) -> None:
    """Let systemd's watchdog find a process that does nothing any more, and start another."""
    unit = "/run/systemd/system/lxdocker-lxd-update.service.d"
    text = "[Service]\\nWatchdogSec=3\\nTimeoutAbortSec=1\\nRestartSec=1\\n"
    machine.shell(f"mkdir -p {unit} && printf '{text}' >{unit}/hurry.conf")
    machine.shell("systemctl daemon-reload && systemctl restart lxdocker-lxd-update.service")
    hung = machine.property("MainPID", "update.service")
    machine.shell(f"kill -STOP {hung}")
    eventually(
        lambda: (
            machine.property("NRestarts", "update.service") == "1"
            and machine.all_units("active")
            and machine.property("MainPID", "update.service") not in (hung, "0")
        ),
        timeout_seconds=30,
        what="systemd to start another updater",
    )
    assert "Watchdog timeout" in machine.shell(
        "journalctl --no-pager -u lxdocker-lxd-update.service"
    )
    machine.shell(f"rm -r {unit} && systemctl daemon-reload")


def test_imports_are_refreshed_and_instances_follow_by_units_alone(
    machine_beside: Machine, tmp_path: Path
) -> None:
    machine, lxd = machine_beside, machine_beside.lxd
    before = machine.shell(DUMP)
    refuse_a_users_program(machine)
    assert machine.shell(DUMP) == before
    assert "test: its page answers" in machine.setup("--yes")
    assert machine.all_units("active")
    assert machine.all_units("enabled")
    publish(machine)
    assert "nothing to do" in machine.setup("")
    assert "waits for news" in machine.property("StatusText", "update.service")
    assert machine.property("WatchdogUSec", "update.service") == "5min 30s"
    main = machine.property("MainPID", "update.service")
    assert "Seccomp:\t2" in machine.shell(f"cat /proc/{main}/status")

    machine.shell("echo 'imageformat: gzip' >>/etc/lxdocker-lxd/config.yaml")
    push_image(machine, tmp_path, "one")
    machine.shell(f"{COMMAND} import oci:/srv/layout:here --alias app 2>&1")
    followed = lxd.launch("app", config=QUICK_GATE)
    try:
        machine.shell(f"{COMMAND} update enable {followed} --image 'local|app' 2>&1")
        push_image(machine, tmp_path, "two")
        machine.shell("systemctl start lxdocker-lxd-refresh.service")
        assert machine.property("Result", "refresh.service") == "success"
        eventually(
            lambda: "committed" in machine.shell(f"{COMMAND} update history"),
            timeout_seconds=60,
            what="the update",
        )
        assert lxd.file_pull(followed, "/version") == b"two"

        # After a reboot LXD may come later than the updater.
        lxd.lxc("restart", machine.name)
        machine.booted()
        eventually(
            lambda: (
                machine.all_units("active")
                and "waits for news" in machine.property("StatusText", "update.service")
            ),
            timeout_seconds=60,
            what="the units to run again",
        )
        machine.shell("systemctl start lxdocker-lxd-refresh.service")
        assert "nothing to do" in machine.setup("")

        hang_the_updater(machine)

        # A directory that the sandbox keeps closed is named, and nothing breaks.
        machine.shell("cp -a /etc/lxdocker-lxd/config.yaml /root/config")
        machine.shell("mkdir /home/imports; cp -a /var/lib/lxdocker-lxd/imports/* /home/imports")
        machine.shell("echo 'imports: /home/imports' >>/etc/lxdocker-lxd/config.yaml")
        machine.shell("systemctl start lxdocker-lxd-refresh.service || true")
        said = machine.shell("journalctl --no-pager -u lxdocker-lxd-refresh.service | tail -5")
        assert "error: " in said
        assert "read-only" in said
        assert "Traceback" not in said
    finally:
        for name in lxd.instances():
            if name.startswith(followed):
                lxd.delete(name)
        for one in lxd.query("GET", "/1.0/images?recursion=1"):
            if one["properties"].get("requirements.lxdocker.image") == "oci:/srv/layout:here":
                lxd.lxc("image", "delete", one["fingerprint"])

    machine.shell("systemctl stop lxdocker-lxd-update.service")
    assert machine.property("Result", "update.service") == "success"
    machine.shell("mv /root/config /etc/lxdocker-lxd/config.yaml")
    machine.shell("rm -r /home/imports /srv/layout /var/lib/lxdocker-lxd/imports")
    machine.shell("rm -rf /var/lib/lxdocker-lxd/update/* /var/cache/lxdocker-lxd/*")
    machine.shell("sed -i '/imageformat/d' /etc/lxdocker-lxd/config.yaml")
    renew_in_the_sandbox(machine)
    machine.setup("--undo --yes")
    assert machine.shell(DUMP) == before
    assert "lxdocker" not in machine.shell("systemctl --failed --no-legend; echo")
