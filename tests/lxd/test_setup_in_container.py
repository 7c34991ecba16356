"""``lxdocker-lxd setup --in-container`` on a real LXD: the server lives in a container of that LXD.

Daemon and client have an /etc of their own, so that the line in hosts is the real way to the server. The
container is a Debian with systemd and Python, and no way out of its network.
"""

import io
import json
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.lxd_apart import LxdApart
from tests.harness.processes import eventually
from tests.harness.small_image import write_layout
from tests.lxd.test_real_images import page
from tests.lxd.test_setup import BUSYBOX, Host

pytestmark = [pytest.mark.lxd, pytest.mark.registry, pytest.mark.tools]

COMMAND = (sys.executable, "-m", "lxdocker_lxd", "setup")
NAME = "lxdocker"


class Apart(Host):
    """A host whose LXD reads the hosts file that setup writes."""

    lxd: LxdApart

    def __init__(self, lxd: LxdApart) -> None:
        self.lxd = lxd
        self.root = lxd.root
        (self.root / "root").mkdir(mode=0o700)

    def command(self, *flags: str) -> tuple[str, ...]:
        container = ("--in-container", NAME, "--container-image", "systemd")
        return (*COMMAND, "--root", str(self.root), *container, *flags)

    def setup(self, *flags: str, check: bool = True) -> Any:
        """Run the command where the daemon lives."""
        return self.lxd.inside(*self.command(*flags), check=check)

    def undo(self) -> str:
        """Take all back; return what was said."""
        said: str = self.lxd.inside(*COMMAND, "--root", str(self.root), "--undo", "--yes").stderr
        return said

    def dump(self) -> dict[str, object]:
        """What a user sees of LXD, and all files."""
        volumes = self.lxd.query("GET", "/1.0/storage-pools/default/volumes/custom?recursion=1")
        found = super().dump() | {"volumes": volumes}
        # It tells of the mounts of who reads it.
        found.pop(str(self.root / "etc/mtab"), None)
        images: Any = found["images"]
        found["images"] = [{**image, "last_used_at": ""} for image in images]
        return found

    def publish(self, work: Path, text: str) -> None:
        """Put a specification into the container, and let the timer's unit convert it."""
        files = {"bin/busybox": BUSYBOX.read_bytes(), "www/index.html": text.encode()}
        entrypoint = ["/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/www"]
        write_layout(work / "layout", tag="1", files=files, entrypoint=entrypoint)
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w") as tar:
            tar.add(work / "layout", "layout")
            content = b"image: oci:layout:1\n"
            member = tarfile.TarInfo("web.yaml")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        self.lxd.file_push(NAME, "/root/specs.tar", made.getvalue())
        self.shell("tar -C /etc/lxdocker-lxd/specs -xf /root/specs.tar; rm /root/specs.tar")
        self.shell("systemctl start lxdocker-lxd-convert.service")

    def shell(self, text: str) -> str:
        """Run a shell's command in the container."""
        return self.lxd.shell(NAME, text)

    def forget(self) -> None:
        """Remove what was published, and what LXD copied of it."""
        self.shell(
            "rm -r /etc/lxdocker-lxd/specs/layout /etc/lxdocker-lxd/specs/web.yaml"
            " /var/lib/lxdocker-lxd/images/*"
        )
        self.drop_copies()

    def drop_copies(self) -> None:
        """Remove LXD's copies of images that it fetched."""
        for image in self.lxd.query("GET", "/1.0/images?recursion=1"):
            if image.get("update_source"):
                self.lxd.lxc("image", "delete", image["fingerprint"])

    def authority(self) -> str:
        """The certificate by which this host trusts the server."""
        return (self.root / f"var/lib/lxdocker-lxd/{NAME}.crt").read_text()

    def pulled(self) -> bool:
        """Whether LXD itself, without a client, fetches the image by name, at a URL new to it."""
        source = {
            "type": "image",
            "mode": "pull",
            "protocol": "simplestreams",
            "server": f"https://{NAME}.lxd/at/{time.monotonic_ns()}",
            "alias": "web",
            "certificate": self.authority(),
        }
        body = json.dumps({"source": source})
        words = ("query", "--wait", "--request", "POST", "--data", body, "/1.0/images")
        return self.lxd.lxc(*words, check=False).returncode == 0


@pytest.fixture
def host(converted_images: dict[str, dict[str, str]]) -> Iterator[Apart]:
    files = converted_images["systemd"]
    with LxdApart() as lxd:
        lxd.import_split(Path(files["metadata"]), Path(files["rootfs"]), "systemd")
        yield Apart(lxd)


def test_a_container_serves_the_lxd_around_it(host: Apart, tmp_path: Path) -> None:
    lxd, before = host.lxd, host.dump()
    planned = json.loads(host.setup("--dry-run", "--format", "json").stdout)
    assert host.dump() == before
    assert {step["action"] for step in planned["steps"]} == {"create"}
    assert planned["url"] == f"https://{NAME}.lxd"
    said = host.setup("--yes").stderr
    assert f"test: LXD itself reaches https://{NAME}.lxd and trusts its certificate" in said
    after = host.dump()
    assert "nothing to do" in host.setup("--yes").stderr
    assert host.dump() == after

    host.publish(tmp_path, "from the container")
    assert host.pulled()
    lxd.inside("lxc", "launch", f"{NAME}:web", "w1")
    assert page(f"http://{lxd.address('w1')}/") == "from the container"
    lxd.delete("w1")
    host.drop_copies()

    lxd.lxc("restart", NAME)
    eventually(host.pulled, timeout_seconds=60, what="the server to answer after a reboot")
    timers = ("lxdocker-lxd-convert.timer", "lxdocker-lxd-certificate.timer")
    assert host.shell(f"systemctl is-active {' '.join(timers)}").split() == ["active"] * 2
    assert "nothing to do" in host.setup("--yes").stderr

    host.forget()
    host.undo()
    assert host.dump() == before


@pytest.mark.full
@pytest.mark.timeout(600)
def test_images_and_keys_outlive_the_container(host: Apart, tmp_path: Path) -> None:
    host.setup("--yes")
    host.publish(tmp_path, "kept")
    authority = host.authority()
    host.lxd.delete(NAME)
    said = host.setup("--yes").stderr
    assert f"done: container {NAME}" in said
    assert host.authority() == authority
    assert host.pulled()
    place = "/var/lib/lxdocker-lxd"
    owners = host.shell(f"stat -c %U:%G {place}/images {place}/tls {place}/tls/server.key")
    readers = "root:lxdocker-lxd-serve"
    assert owners.split() == ["lxdocker-lxd:lxdocker-lxd", readers, readers]

    # What somebody put there stays when all else goes, and is taken up again.
    said = host.undo()
    assert f"left: volume {NAME}-data in pool default" in said
    assert NAME not in host.lxd.instances()
    host.drop_copies()
    host.setup("--yes")
    assert host.authority() == authority
    assert host.pulled()
    host.forget()
    host.undo()


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("lines", "seconds"), [(1, 0), (2, 2), (3, 1), (4, 6), (5, 3), (8, 0)])
def test_killed_anywhere_it_is_completed_and_taken_back(
    host: Apart, lines: int, seconds: float
) -> None:
    before = host.dump()
    process = subprocess.Popen(
        [*host.lxd.inside_words, *host.command("--yes")],
        env=host.lxd.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for _ in range(lines):
        assert process.stderr.readline()
    time.sleep(seconds)
    process.kill()
    process.communicate()
    host.setup("--yes")
    assert "nothing to do" in host.setup("--yes").stderr
    host.undo()
    assert host.dump() == before


@pytest.mark.full
def test_what_is_in_the_way_stops_it_before_anything_changes(host: Apart) -> None:
    lxd = host.lxd
    lxd.launch("systemd", NAME, start=False)
    before = host.dump()
    failed = host.setup("--yes", check=False)
    assert failed.returncode == 2
    assert f"container {NAME}: {NAME} is there already" in failed.stderr
    assert host.dump() == before
    lxd.delete(NAME)
    with (host.root / "etc/hosts").open("a") as hosts:
        hosts.write(f"192.0.2.7 other {NAME}.lxd\n")
    before = host.dump()
    failed = host.setup("--yes", check=False)
    assert failed.returncode == 2
    assert "address 192.0.2.7" in failed.stderr
    missing = host.lxd.inside(
        *COMMAND,
        *("--root", host.root, "--in-container", NAME, "--container-image", "none", "--yes"),
        check=False,
    )
    assert missing.returncode == 3
    assert "no image of that alias" in missing.stderr
    assert host.dump() == before
