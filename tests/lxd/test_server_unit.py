"""The systemd units of the image server, under a real systemd in a real container.

`systemd-analyze` judges units by their text. Here the sandbox, the socket, the readiness and the
stop are real: a container boots systemd, and the host is the client.
"""

import contextlib
import io
import ssl
import sys
import sysconfig
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import lxdocker_lxd
from tests.harness.lxd import PrivateLxd
from tests.harness.processes import eventually, run
from tests.serve.shelf import Shelf

pytestmark = [pytest.mark.lxd, pytest.mark.registry, pytest.mark.usefixtures("converted_images")]

ROOTFS = b"a root filesystem" * 10_000
UNITS = Path(lxdocker_lxd.__file__).parent / "setup" / "units"
PACKAGES = Path(sysconfig.get_path("purelib"))
TLS = "/var/lib/lxdocker-lxd/tls"
UNIT = "lxdocker-lxd-serve"
LOADED = """
import sys
import lxdocker_lxd.verbs.serve
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""
PROGRAM = b"""#!/usr/bin/python3
import sys
sys.path.insert(0, "/opt/lxdocker-lxd/lib")
from lxdocker_lxd.cli import entry
entry()
"""


def files(work: Path) -> bytes:
    """A tar of what an installation is: the package, what it imports, units, images."""
    shelf = Shelf(work / "images")
    shelf.publish("web", ROOTFS)
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:

        def add(path: Path, place: str) -> None:
            tar.add(path, place, filter=_plain)

        add(Path(lxdocker_lxd.__file__).parent, "opt/lxdocker-lxd/lib/lxdocker_lxd")
        for name in run(sys.executable, "-c", LOADED).stdout.split():
            for path in (*PACKAGES.glob(f"{name}.*"), *PACKAGES.glob(name)):
                add(path, f"opt/lxdocker-lxd/lib/{path.name}")
        for path in PACKAGES.glob("*.dist-info"):
            add(path, f"opt/lxdocker-lxd/lib/{path.name}")
        for unit in UNITS.glob(f"{UNIT}*"):
            add(unit, f"etc/systemd/system/{unit.name}")
        add(UNITS / "lxdocker-lxd.sysusers", "usr/lib/sysusers.d/lxdocker-lxd.conf")
        add(shelf.directory, "var/lib/lxdocker-lxd/images")
        program = tarfile.TarInfo("opt/lxdocker-lxd/bin/lxdocker-lxd")
        program.size, program.mode = len(PROGRAM), 0o755
        tar.addfile(program, io.BytesIO(PROGRAM))
    return made.getvalue()


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode |= 0o555 if member.isdir() else 0o444
    member.mode &= ~0o022
    return None if "__pycache__" in member.name else member


@pytest.fixture
def host(private_lxd: PrivateLxd, tmp_path: Path) -> Iterator[str]:
    """A container that booted systemd, with the server installed and not yet started."""
    # Mounts of its own, which the sandbox of a unit is made of, need nesting.
    name = private_lxd.launch("systemd", config={"security.nesting": "true"})
    try:
        eventually(
            lambda: _state(private_lxd, name, "is-system-running") in {"running", "degraded"},
            timeout_seconds=60,
            what="systemd to have booted",
        )
        assert private_lxd.address(name)
        private_lxd.file_push(name, "/root/files.tar", files(tmp_path))
        private_lxd.shell(name, "tar -C / -xpf /root/files.tar && systemd-sysusers")
        private_lxd.shell(name, "systemctl daemon-reload")
        yield name
    finally:
        private_lxd.delete(name)


def _state(lxd: PrivateLxd, name: str, *words: str) -> str:
    return lxd.exec(name, "systemctl", *words, check=False).stdout.strip()


class Client:
    """The host, which trusts the authority that the server made."""

    def __init__(self, lxd: PrivateLxd, name: str) -> None:
        authority = lxd.file_pull(name, f"{TLS}/ca.crt")
        assert authority is not None
        self.address = lxd.address(name)
        context = ssl.create_default_context(cadata=authority.decode())
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )

    def get(self, path: str, *, scheme: str = "https") -> tuple[int, bytes]:
        """Status and body."""
        try:
            with self._opener.open(f"{scheme}://{self.address}/{path}", timeout=20) as got:
                return got.status, got.read()
        except urllib.error.HTTPError as error:
            with contextlib.closing(error):
                return error.code, error.read()


def test_the_unit_serves_in_its_sandbox(private_lxd: PrivateLxd, host: str, tmp_path: Path) -> None:
    lxd = private_lxd
    lxd.shell(host, f"systemctl enable --now {UNIT}.socket {UNIT}-http.socket")
    lxd.shell(host, f"systemctl enable --now {UNIT}.service")
    client = Client(lxd, host)
    assert client.get("readyz") == (200, b"ready\n")
    path = Shelf(tmp_path / "images").source.read().products[0].newest.files[1].path
    assert client.get(path) == client.get(path, scheme="http") == (200, ROOTFS)
    assert client.get("", scheme="http") == (404, b"only image files are served here\n")

    # Nothing but the key is its own, and nobody else reads that.
    main = _state(lxd, host, "show", "-P", "MainPID", UNIT)
    status = lxd.shell(host, f"cat /proc/{main}/status")
    assert "CapBnd:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
    listed = lxd.shell(host, f"stat -c '%U %a %n' {TLS}/*.key")
    assert listed.splitlines() == [
        f"lxdocker-lxd-serve 600 {TLS}/ca.key",
        f"lxdocker-lxd-serve 600 {TLS}/server.key",
    ]
    # What is not its business can't be read, whatever modes say.
    lxd.shell(host, "mkdir -p /var/cache/lxdocker-lxd; echo x >/var/cache/lxdocker-lxd/layer")
    lxd.shell(host, f"systemctl restart {UNIT}.service")
    main = _state(lxd, host, "show", "-P", "MainPID", UNIT)
    layer = "/var/cache/lxdocker-lxd/layer"
    said = lxd.shell(host, f"cat {layer}; nsenter -t {main} -m cat {layer} 2>&1 || true")
    assert said.startswith("x\n")
    assert "No such file" in said
    assert "1 products" in _state(lxd, host, "show", "-P", "StatusText", UNIT)

    # A reload changes no process; a restart refuses nobody; a request starts a stopped one.
    lxd.shell(host, f"systemctl reload {UNIT}")
    assert _state(lxd, host, "show", "-P", "MainPID", UNIT) == main
    lxd.shell(host, f"systemctl restart --no-block {UNIT}")
    assert client.get("healthz") == (200, b"ok\n")
    lxd.shell(host, f"systemctl stop {UNIT}.service")
    assert client.get("healthz") == (200, b"ok\n")
    said = lxd.shell(host, f"journalctl --no-pager -u {UNIT}")
    assert "Failed" not in said
    assert "Traceback" not in said


def test_the_capability_of_the_unit_opens_a_low_port(private_lxd: PrivateLxd, host: str) -> None:
    """The lines that the unit itself advises, in a network where low ports are privileged."""
    lxd = private_lxd
    lxd.shell(host, "echo 1024 >/proc/sys/net/ipv4/ip_unprivileged_port_start")
    assert lxd.exec(host, "systemctl", "start", f"{UNIT}.service", check=False).returncode != 0
    said = lxd.shell(host, f"journalctl --no-pager -u {UNIT}")
    assert "listen at :443: Permission denied" in said
    assert "hint: ports below 1024 need root" in said
    unit = (UNITS / f"{UNIT}.service").read_text()
    advised = [line[4:] for line in unit.splitlines() if line.startswith(("#   [", "#   Ambient"))]
    advised += [line[4:] for line in unit.splitlines() if line.startswith(("#   Cap", "#   Priv"))]
    assert len(advised) == 4
    place = f"/etc/systemd/system/{UNIT}.service.d"
    lxd.shell(host, f"mkdir {place}")
    lxd.file_push(host, f"{place}/low.conf", "\n".join(advised).encode())
    lxd.shell(host, f"systemctl daemon-reload; systemctl restart {UNIT}.service")
    assert Client(lxd, host).get("healthz") == (200, b"ok\n")
