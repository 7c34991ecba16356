"""Every format and compression is an image that LXD takes under our fingerprint and runs."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lxdocker_lxd.convert.packing.settings import ImageFormat
from tests.convert.workshop import Workshop
from tests.harness.lxd import PrivateLxd

pytestmark = [pytest.mark.lxd, pytest.mark.tools]

SPEC = """\
cmd: [/busybox-lxd, sleep, "1000"]
files: [{path: /etc/owned, content: hello, mode: 0640, owner: 1000:1001}]
compression: COMPRESSION
"""


@pytest.fixture
def lxd(private_lxd: PrivateLxd) -> Iterator[PrivateLxd]:
    before = set(private_lxd.instances())
    yield private_lxd
    private_lxd.delete(*(set(private_lxd.instances()) - before))


@pytest.mark.parametrize(
    ("image_format", "compression"),
    [
        ("squashfs", "zstd"),
        ("squashfs", "gzip:1"),
        ("squashfs", "xz"),
        ("squashfs", "lz4"),
        ("squashfs", "lzo:1"),
        ("squashfs", "none"),
        ("gzip", "gzip:6"),
        ("gzip", "zstd:3"),
        ("tar", "xz:1"),
        ("tar", "none"),
    ],
)
def test_lxd_runs_it(
    lxd: PrivateLxd, tmp_path: Path, image_format: ImageFormat, compression: str
) -> None:
    busybox = shutil.which("busybox")
    assert busybox is not None
    workshop = Workshop(tmp_path / "workshop")
    workshop.options = replace(workshop.options, busybox={"amd64": Path(busybox)})
    workshop.both("web", b"content of the image", SPEC.replace("COMPRESSION", compression))
    workshop.run(image_format=image_format)
    fingerprint = lxd.import_split(workshop.file("web", "metadata"), workshop.file("web"), "format")
    assert fingerprint == workshop.product("web").newest.fingerprint
    name = lxd.launch("format", devices={"eth0": {"type": "none"}})
    assert lxd.shell(name, "/busybox-lxd cat /etc/content") == "content of the image"
    owned = lxd.shell(name, "/busybox-lxd stat -c '%a %u %g' /etc/owned / /busybox-lxd")
    assert owned.splitlines() == ["640 1000 1001", "755 0 0", "755 0 0"]
