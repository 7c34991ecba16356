"""Measures a conversion of a large image beside other ways to the same result, in one run.

    python -m tests.benchmarks.bench_convert --work DIR [--root-tar FILE] [--only PART…]

``DIR`` keeps the image between calls. What it prints:

* ``whole``: ours from a registry to a published image with an empty cache; the floor (a fast inflate
  piped into mksquashfs, with sha256 of what is read, inflated and written, and nothing else); skopeo
  copy + umoci unpack + mksquashfs. All with the same compressor. Ratios, and our process's memory;
* ``formats``: size and time of zstd levels, gzip, lz4 and tar, from a tar stream that costs nothing;
* ``idle``: a run with nothing to do on 50 specifications of a registry on loopback.
"""

import argparse
import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from isal import igzip_lib

from lxdocker_lxd.convert.packing.settings import ImageFormat, pack_settings
from lxdocker_lxd.convert.packing.split_image import PackJob, packed
from lxdocker_lxd.convert.packing.squashfs import Mksquashfs
from lxdocker_lxd.convert.packing.squashfs_root import RootAttributes
from lxdocker_lxd.convert.packing.tarball import TarSink
from tests.benchmarks.bench_image import BenchImage, make_image
from tests.harness.registry import RealRegistry, real_registry
from tests.harness.tiny_image import tiny_image

PARTS = ("whole", "formats", "idle")
IDLE_SPECS = 50
ROUNDS = 2
_MIB = 1 << 20
ROOT = RootAttributes(mode=0o755, uid=0, gid=0, mtime_seconds=0)
FORMATS: tuple[tuple[ImageFormat, str], ...] = (
    ("squashfs", "zstd:1"),
    ("squashfs", "zstd:3"),
    ("squashfs", "zstd:5"),
    ("squashfs", "zstd:7"),
    ("squashfs", "zstd:9"),
    ("squashfs", "lz4"),
    ("squashfs", "none"),
    ("gzip", "gzip:1"),
    ("gzip", "gzip:4"),
    ("gzip", "gzip:6"),
    ("gzip", "zstd:3"),
    ("tar", "none"),
    ("squashfs", "gzip:9"),
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--root-tar", type=Path, help="a root file system instead of mmdebstrap's")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    image = make_image(options.work, options.root_tar)
    print(
        f"image: {image.entries} entries, {image.rootfs_bytes / _MIB:.0f} MiB in 4 layers"
        f" ({image.layer_bytes / _MIB:.0f} MiB gzip); {os.cpu_count()} processors",
        flush=True,
    )
    scratch = options.work / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        with real_registry(scratch / "registry") as registry:
            if "whole" in options.only:
                whole(image, registry, scratch)
            if "formats" in options.only:
                formats(image, scratch)
            if "idle" in options.only:
                idle(registry, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def whole(image: BenchImage, registry: RealRegistry, scratch: Path) -> None:
    """Compare whole conversions."""
    registry.push_layout(image.layout, "latest", "bench/large:latest")
    name = f"{registry.host}/bench/large:latest"
    level = pack_settings("squashfs", None)
    print(
        f"\nwhole conversion, squashfs {level.compression}, 1 MiB blocks, best of {ROUNDS} rounds"
    )
    best: dict[str, float] = {}
    works: dict[str, Callable[[], str]] = {
        "floor: inflate | mksquashfs + sums": lambda: floor(image, scratch),
        "ours: registry to published image": lambda: ours(name, scratch),
        "ours: layers in the cache, other spec": lambda: ours(name, scratch, again=True),
        "skopeo copy + umoci unpack + mksquashfs": lambda: theirs(name, scratch),
    }
    # In turn, so that a busy minute of the machine meets all of them.
    for _ in range(ROUNDS):
        for directory in ("cache", "lxdimages"):
            shutil.rmtree(scratch / directory, ignore_errors=True)
        for title, work in works.items():
            best[title] = min(measured(title, work), best.get(title, float("inf")))
    floor_seconds, ours_seconds, cached_seconds, theirs_seconds = best.values()
    print(f"ours / floor   {ours_seconds / floor_seconds:.2f}  (wanted: at most 1.3)")
    print(f"ours / theirs  {ours_seconds / theirs_seconds:.2f}  (wanted: at most 0.5)")
    print(f"cached / floor {cached_seconds / floor_seconds:.2f}")


def measured(title: str, work: Callable[[], str]) -> float:
    """Run ``work``, print its time and what it says, return the seconds."""
    os.sync()
    started = time.monotonic()
    words = work()
    seconds = time.monotonic() - started
    print(f"  {title:42} {seconds:7.2f} s  {words}", flush=True)
    return seconds


def ours(name: str, scratch: Path, *, again: bool = False) -> str:
    """Run the command from the registry to the catalogue."""
    specs = scratch / "specs"
    specs.mkdir(exist_ok=True)
    marker = "env: {AGAIN: 1}\n" if again else ""
    (specs / "large.yaml").write_text(f"image: {name}\n{marker}")
    command = _command(scratch)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        peak_bytes = _peak_bytes(process)
    assert process.returncode == 0, command
    sizes = [path.stat().st_size for path in (scratch / "lxdimages/images").glob("*.squashfs")]
    return f"{max(sizes) / _MIB:.1f} MiB; our process at most {peak_bytes / _MIB:.0f} MiB"


def _command(scratch: Path) -> list[str | Path]:
    return [
        *(sys.executable, "-m", "lxdocker_lxd", "convert", "--config", os.devnull),
        *("--specs", scratch / "specs", "--cache", scratch / "cache"),
        *("--lxdimages", scratch / "lxdimages"),
    ]


def _peak_bytes(process: subprocess.Popen[bytes]) -> int:
    """Return the most memory the process itself ever had; its children are not in it."""
    peak_bytes = 0
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        with contextlib.suppress(OSError):
            for line in status.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    peak_bytes = max(peak_bytes, int(line.split()[1]) * 1024)
        time.sleep(0.05)
    return peak_bytes


def floor(image: BenchImage, scratch: Path) -> str:
    """Do the least that has to be done to the same bytes, each part as fast as we know."""
    output = scratch / "floor.squashfs"
    packer = Mksquashfs.find()
    settings = pack_settings("squashfs", None)
    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
        read, inflated = hashlib.sha256(), hashlib.sha256()

        def feed(sink: TarSink) -> None:
            waiting = threading.BoundedSemaphore(8)

            def add(threads: ThreadPoolExecutor, hash_: object, block: bytes) -> None:
                waiting.acquire()
                future = threads.submit(hash_.update, block)  # type: ignore[attr-defined]  # hashlib
                future.add_done_callback(lambda _: waiting.release())

            decompressor = igzip_lib.IgzipDecompressor(igzip_lib.DECOMP_GZIP)
            with image.flat.open("rb", buffering=0) as flat:
                while block := flat.read(256 << 10):
                    add(first, read, block)
                    data = decompressor.decompress(block)
                    add(second, inflated, data)
                    sink.write(data)

        with output.open("w+b") as packed_file:
            packer.pack(
                *(feed, output, packed_file, settings),
                root=ROOT,
                created_seconds=0,
                memory_bytes=512 * _MIB,
            )
    with output.open("rb") as file:
        hashlib.file_digest(file, "sha256")
        os.fsync(file.fileno())
    size_bytes = output.stat().st_size
    output.unlink()
    return f"{size_bytes / _MIB:.1f} MiB"


def theirs(name: str, scratch: Path) -> str:
    """Do it with the common tools, unpacking on disk."""
    layout, bundle, output = scratch / "their-layout", scratch / "bundle", scratch / "their.sq"
    settings = pack_settings("squashfs", None)
    parts = []
    for command in (
        [
            *("skopeo", "--insecure-policy", "copy", "--src-tls-verify=false"),
            *(f"docker://{name}", f"oci:{layout}:latest"),
        ],
        ["umoci", "unpack", "--image", f"{layout}:latest", str(bundle)],
        [
            *("mksquashfs", f"{bundle}/rootfs", str(output), "-no-progress", "-b", "1M"),
            *("-comp", settings.algorithm, "-Xcompression-level", str(settings.level)),
        ],
    ):
        started = time.monotonic()
        subprocess.run(command, check=True, capture_output=True)
        parts.append(f"{command[0]} {time.monotonic() - started:.1f} s")
    size_bytes = output.stat().st_size
    shutil.rmtree(bundle)
    shutil.rmtree(layout)
    output.unlink()
    return f"{size_bytes / _MIB:.1f} MiB ({', '.join(parts)})"


def formats(image: BenchImage, scratch: Path) -> None:
    """Print size and time of every format and level, for the tree as one archive."""
    tar = scratch / "flat.tar"
    with tar.open("wb") as file:
        subprocess.run(["pigz", "-d", "-c", image.flat], stdout=file, check=True)
    print("\npacking alone, from a tar file in memory, sums included")
    for image_format, compression in FORMATS:
        settings = pack_settings(image_format, compression)
        job = PackJob(
            feed=lambda sink: _copy(tar, sink),
            metadata=b"",
            metadata_suffix=".meta.tar",
            root=ROOT,
            created_seconds=0,
            settings=settings,
            lxc_feed=None,
            packer=Mksquashfs.find() if image_format == "squashfs" else None,
            memory_bytes=512 * _MIB,
        )
        measured(f"{settings.suffix} {compression}", lambda job=job: _packed(job, scratch))  # type: ignore[misc]  # bound default
    tar.unlink()


def _packed(job: PackJob, scratch: Path) -> str:
    with packed(job, scratch) as image:
        return f"{image.files[1].file.size_bytes / _MIB:.1f} MiB"


def _copy(tar: Path, sink: TarSink) -> None:
    for block in _blocks(tar):
        sink.write(block)


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while block := file.read(_MIB):
            yield block


def idle(registry: RealRegistry, scratch: Path) -> None:
    """Time a run that finds nothing to do."""
    for name in ("specs", "cache", "lxdimages"):
        shutil.rmtree(scratch / name, ignore_errors=True)
    (scratch / "specs").mkdir()
    busybox = shutil.which("busybox")
    assert busybox is not None
    for number in range(IDLE_SPECS):
        layout = scratch / "small"
        shutil.rmtree(layout, ignore_errors=True)
        tiny_image({"bin/app": b"app", "number": str(number).encode()}).write_layout(layout)
        registry.push_layout(layout, "latest", f"bench/small{number}:latest")
        text = f"image: {registry.host}/bench/small{number}:latest\n"
        (scratch / "specs" / f"small{number}.yaml").write_text(text)
    print(f"\n{IDLE_SPECS} specifications")
    command = _command(scratch)
    for title in ("first run, all built", "nothing to do", "nothing to do, once more"):
        measured(title, lambda: _quiet(command))


def _quiet(command: list[str | Path]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()[1:]
    return f"{sum(' unchanged ' in line for line in lines)} unchanged"


if __name__ == "__main__":
    main()
