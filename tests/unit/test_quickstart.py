"""The quick start's parts that need neither root nor LXD."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lxdocker_lxd.convert.inspection import inspect
from lxdocker_lxd.convert.layout import open_layout
from lxdocker_lxd.platform import Platform
from lxdocker_lxd.reference import LayoutSource

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPT = EXAMPLES / "quickstart.sh"


def call(function: str, *, look_in: Path, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Run one function of the script with another root directory to look in."""
    done = subprocess.run(
        ["bash", "-c", f'. "$1"; LOOK_IN=$2; {function}', "bash", SCRIPT, look_in],
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"} | (env or {}),
    )
    return done.returncode, done.stdout.strip()


def ask(question: str, *arguments: str, document: object = None) -> list[str]:
    """Ask the script's helper, as the script does."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / "quickstart" / "answers.py", question, *arguments],
        check=True,
        capture_output=True,
        text=True,
        input=json.dumps(document),
    )
    return done.stdout.splitlines()


def program(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)


class TestWhereLxdIs:
    def test_debians_package(self, tmp_path: Path) -> None:
        program(tmp_path / "usr/bin/lxc")
        program(tmp_path / "usr/bin/lxd")
        expected = f"{tmp_path}/usr/bin/lxc {tmp_path}/var/lib/lxd"
        assert call("locate_lxd", look_in=tmp_path) == (0, expected)

    def test_the_snap_with_ubuntus_placeholder_beside_it(self, tmp_path: Path) -> None:
        program(tmp_path / "snap/bin/lxc")
        # Ubuntu ships /usr/sbin/lxc, which only offers to install the snap.
        program(tmp_path / "usr/sbin/lxc")
        expected = f"{tmp_path}/snap/bin/lxc {tmp_path}/var/snap/lxd/common/lxd"
        assert call("locate_lxd", look_in=tmp_path) == (0, expected)

    def test_a_client_alone_is_no_lxd(self, tmp_path: Path) -> None:
        program(tmp_path / "usr/bin/lxc")
        assert call("locate_lxd", look_in=tmp_path) == (1, "")

    def test_lxd_dir_decides(self, tmp_path: Path) -> None:
        program(tmp_path / "bin/lxc")
        program(tmp_path / "snap/bin/lxc")
        env = {"LXD_DIR": "/elsewhere", "PATH": f"{tmp_path}/bin:/usr/bin:/bin"}
        code, found = call("locate_lxd", look_in=tmp_path, env=env)
        assert (code, found) == (0, f"{tmp_path}/bin/lxc /elsewhere")


class TestAnswers:
    @pytest.mark.parametrize(
        ("image", "name"),
        [
            ("nginx", "nginx"),
            ("nginx:1.27", "nginx"),
            ("ghcr.io/owner/Web_App:v2", "web-app"),
            ("host:5000/group/name@sha256:" + "a" * 64, "name"),
            ("oci:/srv/layouts/shop:latest", "shop"),
            ("oci-archive:/tmp/shop.tar", "shop"),
            ("specs/shop.yaml", "shop"),
            ("./layout", "layout"),
            ("---", "image"),
            ("x" * 100, "x" * 40),
        ],
    )
    def test_a_name_for_an_instance(self, image: str, name: str) -> None:
        assert ask("name", image) == [name]
        assert re.fullmatch(r"[a-z0-9][a-z0-9-]*", name)

    def test_the_files_of_the_newest_version_for_this_machine(self) -> None:
        def entry(architecture: str, mark: str, *, newest: bool) -> dict[str, object]:
            files = {"metadata": f"{mark}.tar", "rootfs": f"{mark}.squashfs"}
            fields = {"name": "web", "architecture": architecture, "newest": newest}
            return {**fields, "fingerprint": mark, "files": files}

        document = {
            "images": [
                entry("arm64", "other", newest=True),
                entry("amd64", "new", newest=True),
                entry("amd64", "old", newest=False),
            ]
        }
        found = ask("files", "web", "amd64", document=document)
        assert found == ["new", "new.tar", "new.squashfs"]
        assert ask("files", "shop", "amd64", document=document) == []

    @pytest.mark.parametrize(
        ("exposed", "expected"),
        [
            ({"80/tcp": {}, "443/tcp": {}}, ["80"]),
            ({"53/udp": {}, "8053": {}}, ["8053"]),
            ({"53/udp": {}}, []),
            (None, []),
        ],
    )
    def test_the_port_to_ask(self, exposed: object, expected: list[str]) -> None:
        config = {"ExposedPorts": exposed} if exposed else {}
        document = {"products": [{"name": "web", "versions": [{"config": config}]}]}
        assert ask("port", "web", document=document) == expected

    def test_the_address_is_a_global_one(self) -> None:
        def address(family: str, scope: str, text: str) -> dict[str, str]:
            return {"family": family, "scope": scope, "address": text}

        local = {"addresses": [address("inet", "local", "127.0.0.1")]}
        both = [address("inet6", "global", "fd00::2"), address("inet", "global", "10.1.2.3")]
        network = {"lo": local, "eth0": {"addresses": both}}
        assert ask("address", document={"network": network}) == ["10.1.2.3"]
        assert ask("address", document={"network": None}) == []

    def test_what_the_default_profile_has(self) -> None:
        devices = {
            "eth0": {"type": "nic"},
            "data": {"type": "disk", "path": "/data"},
            "root": {"type": "disk", "path": "/"},
        }
        assert ask("devices", "root", document={"devices": devices}) == ["root"]
        assert ask("devices", "nic", document={"devices": devices}) == ["eth0"]
        assert ask("devices", "nic", document={"devices": {}}) == []

    def test_a_bridge_overlaps_no_route(self) -> None:
        # All of the private range is taken, but for one /24.
        routes = [{"dst": "default"}, {"dst": "10.64.0.0/11"}, {"dst": "10.96.1.0/24"}]
        routes += [{"dst": f"10.96.{third}.0/24"} for third in range(2, 256)]
        routes += [{"dst": f"10.{second}.0.0/16"} for second in range(97, 128)]
        assert ask("subnet", document=routes) == ["10.96.0.1/24"]

    def test_a_scalar_that_yaml_reads_back(self) -> None:
        assert ask("quoted", "oci:/a dir/#1: x") == ['"oci:/a dir/#1: x"']


def test_the_default_image_is_made_at_once_and_is_a_sound_one(tmp_path: Path) -> None:
    busybox = tmp_path / "busybox"
    # An ELF header is all that is looked at.
    busybox.write_bytes(b"\x7fELF\x02\x01\x01".ljust(18, b"\0") + b"\x3e\x00" + bytes(2_000_000))
    begun = time.monotonic()
    script = EXAMPLES / "quickstart" / "layout.py"
    subprocess.run([sys.executable, script, tmp_path / "page", busybox], check=True)
    assert time.monotonic() - begun < 2
    source = open_layout(LayoutSource(directory=str(tmp_path / "page"), tag="latest"))
    found = inspect(source, Platform(os="linux", architecture="amd64"), image="page")
    assert found.config.entrypoint[:2] == ("/bin/busybox", "httpd")
    assert found.config.exposed_ports == ("80/tcp",)


def test_a_mistake_is_one_line_with_the_next_step(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", '. "$1"; fail "the page is gone" "make it again"', "bash", SCRIPT],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == "error: the page is gone\nhint: make it again\n"
