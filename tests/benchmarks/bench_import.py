"""Measures the way of a large image into a LXD and to a running container, beside two other ways.

    python -m tests.benchmarks.bench_import --work DIR [--root-tar FILE] [--rounds N] [--beside DIR]

``DIR`` keeps the image between calls (that of ``bench_convert``). The ways, in turn in each round, each
from an empty cache and an empty LXD:

* ``import``: ours, one command, from a registry into LXD;
* ``convert`` and ``lxc image import`` of the two files it published;
* skopeo copy, umoci unpack, tar, ``lxc image import``, as people do it by hand;
* with ``--beside`` also ``import`` of another checkout of this program, for instance an earlier one.

After each, ``lxc launch`` starts a container of the image. Printed are times, ratios, the most memory
that our own process had, and what it left on disk outside LXD (layers and images).
"""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.benchmarks.bench_convert import _peak_bytes
from tests.benchmarks.bench_image import make_image
from tests.harness.lxd import PrivateLxd
from tests.harness.processes import run
from tests.harness.registry import real_registry

_MIB = 1 << 20
OURS = (sys.executable, "-m", "lxdocker_lxd")
METADATA = b"architecture: x86_64\ncreation_date: 1767225600\nproperties: {os: bench}\n"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--root-tar", type=Path, help="a root file system instead of mmdebstrap's")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--beside", type=Path, help="another checkout, measured too")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    image = make_image(options.work, options.root_tar)
    size = f"{image.rootfs_bytes / _MIB:.0f} MiB ({image.layer_bytes / _MIB:.0f} MiB gzip)"
    print(f"image: {image.entries} entries, {size}; {os.cpu_count()} processors", flush=True)
    scratch = options.work / "scratch-import"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        with real_registry(scratch / "registry") as registry, PrivateLxd() as lxd:
            registry.push_layout(image.layout, "latest", "bench/large:latest")
            compare(f"{registry.host}/bench/large:latest", lxd, scratch, options)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def compare(name: str, lxd: PrivateLxd, scratch: Path, options: argparse.Namespace) -> None:
    """Go all ways in turn and print the best of each."""
    ways: dict[str, Callable[[], str]] = {
        "import (squashfs)": lambda: imported(name, lxd, scratch, "squashfs"),
        "import (tar)": lambda: imported(name, lxd, scratch, "tar"),
        "convert + lxc image import": lambda: converted(name, lxd, scratch),
        "skopeo + umoci + tar + lxc image import": lambda: by_hand(name, lxd, scratch),
    }
    beside: Path | None = options.beside
    if beside is not None:
        for form in ("squashfs", "tar"):
            ways[f"the other's import ({form})"] = partial(
                imported, name, lxd, scratch, form, checkout=beside
            )
    best: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        for title, way in ways.items():
            os.sync()
            started = time.monotonic()
            words = way()
            there = time.monotonic() - started
            lxd.lxc("launch", "bench", "bench", timeout_seconds=600)
            running = time.monotonic() - started
            lxd.delete("bench")
            lxd.lxc("image", "delete", "bench")
            for left in ("home", "work"):
                shutil.rmtree(scratch / left, ignore_errors=True)
            print(f"  {title:42} {there:7.2f} s, running {running:7.2f} s  {words}", flush=True)
            known = best.setdefault(title, [there, running])
            best[title] = [min(known[0], there), min(known[1], running)]
    squashfs, tar, convert, hand, *others = best.values()
    for form, ours in (("squashfs", squashfs), ("tar", tar)):
        print(
            f"import ({form}) / convert + lxc image import  {ours[0] / convert[0]:.2f}  (at most 1)"
        )
        print(
            f"running: import ({form}) / by hand            {ours[1] / hand[1]:.2f}  (at most 0.6)"
        )
    for form, ours, other in zip(("squashfs", "tar"), (squashfs, tar), others, strict=False):
        print(f"import ({form}) / the other's                 {ours[0] / other[0]:.2f}")


def _environment(lxd: PrivateLxd, scratch: Path, image_format: str) -> dict[str, str]:
    return {
        **lxd.environment,
        "LXDOCKER_LXD_CONFIG": "",
        "LXDOCKER_LXD_IMPORTS": str(scratch / "home"),
        "LXDOCKER_LXD_LXDIMAGES": str(scratch / "home" / "none"),
        "LXDOCKER_LXD_IMAGEFORMAT": image_format,
    }


def imported(
    name: str, lxd: PrivateLxd, scratch: Path, image_format: str, *, checkout: Path | None = None
) -> str:
    """Import with our command."""
    environment = _environment(lxd, scratch, image_format)
    if checkout is not None:
        environment["PYTHONPATH"] = str(checkout)
    command = [*OURS, "import", name, "--alias", "bench"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, cwd=checkout
    ) as process:
        peak_bytes = _peak_bytes(process)
    assert process.returncode == 0, command
    kept = [
        sum(file.stat().st_size for file in (scratch / "home" / part).rglob("*") if file.is_file())
        for part in ("cache", "images")
    ]
    return (
        f"our process at most {peak_bytes / _MIB:.0f} MiB,"
        f" left {kept[0] / _MIB:.0f} MiB of layers and {kept[1] / _MIB:.0f} MiB of images"
    )


def converted(name: str, lxd: PrivateLxd, scratch: Path) -> str:
    """Convert, then import the files with lxc."""
    home = scratch / "home"
    (home / "specs").mkdir(parents=True)
    (home / "specs" / "large.yaml").write_text(f"image: {name}\n")
    places = ("--specs", home / "specs", "--cache", home / "cache", "--lxdimages", home / "images")
    run(*OURS, "convert", "--config", os.devnull, *places, timeout_seconds=900)
    listed = run(*OURS, "images", "--lxdimages", home / "images", "--format", "json").stdout
    files = json.loads(listed)["images"][0]["files"]
    lxd.import_split(Path(files["metadata"]), Path(files["rootfs"]), "bench")
    return ""


def by_hand(name: str, lxd: PrivateLxd, scratch: Path) -> str:
    """Unpack with the common tools, pack and import with lxc."""
    work = scratch / "work"
    work.mkdir()
    parts = []
    (work / "metadata.yaml").write_bytes(METADATA)
    with tarfile.open(work / "meta.tar", "w") as archive:
        archive.add(work / "metadata.yaml", "metadata.yaml")
    for command in (
        (
            *("skopeo", "--insecure-policy", "copy", "--src-tls-verify=false"),
            *(f"docker://{name}", f"oci:{work}/layout:latest"),
        ),
        ("umoci", "unpack", "--image", f"{work}/layout:latest", str(work / "bundle")),
        ("tar", "-C", f"{work}/bundle/rootfs", "-cf", f"{work}/rootfs.tar", "."),
    ):
        started = time.monotonic()
        run(*command, timeout_seconds=900)
        parts.append(f"{command[0]} {time.monotonic() - started:.1f} s")
    started = time.monotonic()
    # A root without an init doesn't start; a shell that waits is the least there is.
    with tarfile.open(work / "rootfs.tar", "a") as archive:
        _add_init(archive)
    lxd.import_split(work / "meta.tar", work / "rootfs.tar", "bench")
    parts.append(f"lxc {time.monotonic() - started:.1f} s")
    return ", ".join(parts)


def _add_init(archive: tarfile.TarFile) -> None:
    script = b"#!/bin/sh\nwhile :; do sleep 1000; done\n"
    member = tarfile.TarInfo("./usr/sbin/init")
    member.size, member.mode = len(script), 0o755
    archive.addfile(member, io.BytesIO(script))


if __name__ == "__main__":
    main()
