"""The same input gives the same image: in another directory, on another day, in another zone."""

import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from lxdocker_lxd.catalogue import Catalogue
from lxdocker_lxd.catalogue_directory import CatalogueDirectory
from lxdocker_lxd.convert.run import ImageFormat
from tests.convert.workshop import Workshop
from tests.harness.tiny_image import tiny_image

SPEC = """\
image: oci:web.layout
env: {B: 2}
files: [{path: /etc/app.conf, source: app.conf}, {path: /etc/motd, content: hello}]
"""


def prepare(specs: Path) -> None:
    """Make the same layout, source file and specification, whenever and wherever."""
    image = tiny_image(
        {f"data/{number}": bytes([number]) * number * 700 for number in range(60)},
        {"bin/app": b"program", "etc/empty": b""},
        config={"Cmd": ["/bin/app"]},
    )
    image.write_layout(specs / "web.layout")
    (specs / "app.conf").write_text("configuration")
    (specs / "app.conf").chmod(0o644)
    (specs / "web.yaml").write_text(SPEC)


def bytes_of(catalogue: Catalogue, directory: CatalogueDirectory) -> dict[str, bytes]:
    (product,) = catalogue.products
    return {file.role: directory.path(file).read_bytes() for file in product.newest.files}


def both_runs(tmp_path: Path, image_format: ImageFormat) -> list[dict[str, bytes]]:
    found = []
    for name, days in (("here", 0), ("some/where/else", 400)):
        workshop = Workshop(tmp_path / name)
        prepare(workshop.specs)
        for path in workshop.specs.rglob("*"):
            os.utime(path, (days * 86400, days * 86400))
        workshop.now += timedelta(days=days)
        workshop.run(image_format=image_format)
        found.append(bytes_of(workshop.catalogue, workshop.directory))
    return found


@pytest.mark.parametrize("image_format", ["tar", "gzip"])
def test_another_directory_and_another_day_change_no_byte(
    tmp_path: Path, image_format: ImageFormat
) -> None:
    here, elsewhere = both_runs(tmp_path, image_format)
    assert here == elsewhere


@pytest.mark.tools
def test_the_whole_command_with_a_shifted_clock_gives_the_same_squashfs(tmp_path: Path) -> None:
    """The clock of the second run, mksquashfs included, is days ahead, its zone another."""
    (clock,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")  # Debian: libfaketime
    found = []
    years = set()
    for name, days in (("here", 0), ("some/where/else", 400)):
        root = tmp_path / name
        (root / "specs").mkdir(parents=True)
        prepare(root / "specs")
        environment = {
            **os.environ,
            "TZ": "UTC" if days == 0 else "Asia/Kathmandu",
            "LD_PRELOAD": str(clock),
            "FAKETIME": f"+{days}d",
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        done = subprocess.run(
            [
                *(sys.executable, "-m", "lxdocker_lxd", "convert", "--config", os.devnull),
                *("--specs", "specs", "--cache", "cache", "--lxdimages", "lxdimages"),
            ],
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        directory = CatalogueDirectory(root / "lxdimages")
        catalogue = directory.read()
        years.add(catalogue.updated_at.year)
        found.append(bytes_of(catalogue, directory))
        shutil.rmtree(root / "cache")
    assert found[0] == found[1]
    assert len(years) == 2, "the clock was not shifted"
