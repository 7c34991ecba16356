"""Packing: the same bytes every time, on any number of processors, and clear failures."""

import gzip
import hashlib
import io
import lzma
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.convert.packing.settings import ImageFormat, PackSettings, pack_settings
from lxdocker_lxd.convert.packing.split_image import PackJob, packed
from lxdocker_lxd.convert.packing.squashfs import Mksquashfs, PackerFailedError, PackerMissingError
from lxdocker_lxd.convert.packing.squashfs_root import RootAttributes
from lxdocker_lxd.convert.packing.tarball import TarSink, open_sink
from lxdocker_lxd.errors import StorageError, UsageError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ROOT = RootAttributes(mode=0o1750, uid=123456, gid=8, mtime_seconds=1_000_000_000)
READERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "xz": lzma.decompress,
    "zstd": zstd.decompress,
    "none": bytes,
}


def compressed(algorithm: str, data: bytes, *, piece_bytes: int = 70_001) -> bytes:
    output: list[bytes] = []
    with ExitStack() as stack:
        sink = open_sink(algorithm, 0 if algorithm == "none" else 1, output.append, stack)
        for place in range(0, len(data), piece_bytes):
            sink.write(bytearray(data[place : place + piece_bytes]))
        sink.close()
    return b"".join(output)


def sample_tar(files: int = 40) -> bytes:
    """A tar whose every directory has an entry, as the real stream has."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for number in range(files):
            directory = tarfile.TarInfo(f"d{number}/")
            directory.type, directory.mode, directory.mtime = tarfile.DIRTYPE, 0o755, number
            archive.addfile(directory)
        for number in range(files):
            member = tarfile.TarInfo(f"d{number}/file")
            content = hashlib.sha256(bytes([number])).digest() * number * 100
            member.size, member.mtime, member.uid = len(content), 1_500_000_000, number
            member.pax_headers = {"SCHILY.xattr.user.n": str(number)} if number % 3 == 0 else {}
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def feeding(content: bytes) -> Callable[[TarSink], None]:
    def feed(sink: TarSink) -> None:
        for place in range(0, len(content), 50_000):
            sink.write(content[place : place + 50_000])

    return feed


def job(
    content: bytes,
    image_format: ImageFormat,
    compression: str | None = None,
    *,
    lxc: bool = False,
    memory_bytes: int = 64 << 20,
) -> PackJob:
    settings = pack_settings(image_format, compression)
    return PackJob(
        feed=feeding(content),
        metadata=b"the metadata",
        metadata_suffix=".meta.tar",
        root=ROOT,
        created_seconds=1_600_000_000,
        settings=settings,
        lxc_feed=feeding(content) if lxc else None,
        packer=Mksquashfs.find() if image_format == "squashfs" else None,
        memory_bytes=memory_bytes,
    )


@pytest.mark.parametrize("algorithm", READERS)
@given(data=st.binary(max_size=300_000), pieces=st.integers(1, 100_000))
def test_what_is_compressed_comes_back(algorithm: str, data: bytes, pieces: int) -> None:
    piece_bytes = max(pieces, len(data) // 50 + 1)
    assert READERS[algorithm](compressed(algorithm, data, piece_bytes=piece_bytes)) == data


@pytest.mark.parametrize("algorithm", ["gzip", "xz", "zstd"])
def test_the_number_of_processors_and_the_pieces_change_no_byte(
    algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = b"".join(bytes([n % 251]) * (n % 5000) for n in range(4000))
    found = set()
    for processors in (1, 3, 8):
        monkeypatch.setattr(os, "cpu_count", lambda count=processors: count)
        found.add(compressed(algorithm, data, piece_bytes=processors * 12_345))
    assert len(found) == 1
    assert READERS[algorithm](found.pop()) == data


def test_gzip_has_no_time_and_no_name() -> None:
    assert compressed("gzip", b"x")[:10] == bytes((31, 139, 8, 0, 0, 0, 0, 0, 0, 255))


@pytest.mark.parametrize("image_format", ["tar", "gzip"])
def test_sums_are_those_of_the_files_and_nothing_is_left(
    tmp_path: Path, image_format: ImageFormat
) -> None:
    content = sample_tar()
    with packed(job(content, image_format, lxc=True), tmp_path) as image:
        metadata, rootfs, lxc = image.files
        raw = rootfs.temporary.read_bytes()
        assert READERS["gzip" if image_format == "gzip" else "none"](raw) == content
        assert lzma.decompress(lxc.temporary.read_bytes()) == content
        assert image.fingerprint == hashlib.sha256(b"the metadata" + raw).hexdigest()
        for one in image.files:
            raw = one.temporary.read_bytes()
            assert one.file.sha256 == hashlib.sha256(raw).hexdigest()
            assert one.file.size_bytes == len(raw)
            assert one.file.sha256 in one.file.path
            assert stat.S_IMODE(one.temporary.stat().st_mode) == 0o644
        assert metadata.file.path.endswith(".meta.tar")
        assert lxc.file.path.endswith(".tar.xz")
        rootfs.temporary.rename(tmp_path / "published")
    assert [path.name for path in tmp_path.iterdir()] == ["published"]


def test_a_failing_feed_leaves_nothing_behind(tmp_path: Path) -> None:
    def feed(sink: TarSink) -> None:
        sink.write(b"x" * 100_000)
        raise StorageError("a layer can't be read")

    broken = replace(job(b"", "gzip"), feed=feed)
    with pytest.raises(StorageError, match="a layer"), packed(broken, tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("image_format", "compression", "expected"),
    [
        ("squashfs", None, ("zstd", 7, "zstd:7", ".squashfs")),
        ("squashfs", "zstd:19", ("zstd", 19, "zstd:19", ".squashfs")),
        ("squashfs", "gzip", ("gzip", 9, "gzip:9", ".squashfs")),
        ("squashfs", "xz", ("xz", 0, "xz", ".squashfs")),
        ("squashfs", "none", ("none", 0, "none", ".squashfs")),
        ("gzip", None, ("gzip", 6, "gzip:6", ".tar.gz")),
        ("gzip", "gzip:9", ("gzip", 9, "gzip:9", ".tar.gz")),
        ("gzip", "zstd:3", ("zstd", 3, "zstd:3", ".tar.zst")),
        ("tar", None, ("none", 0, "none", ".tar")),
        ("tar", "xz:2", ("xz", 2, "xz:2", ".tar.xz")),
    ],
)
def test_format_and_specification_choose_the_compression(
    image_format: ImageFormat, compression: str | None, expected: tuple[str, int, str, str]
) -> None:
    found = pack_settings(image_format, compression)
    assert (found.algorithm, found.level, found.compression, found.suffix) == expected


@pytest.mark.parametrize(
    ("image_format", "compression"), [("gzip", "lz4"), ("tar", "lzo:3"), ("squashfs", "xz:3")]
)
def test_a_compression_the_format_has_not_got_is_refused(
    image_format: ImageFormat, compression: str
) -> None:
    with pytest.raises(UsageError, match=f"compression {compression}"):
        pack_settings(image_format, compression)


def test_without_mksquashfs_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(PackerMissingError, match="mksquashfs is not installed") as caught:
        Mksquashfs.find()
    assert "apt-get install squashfs-tools" in caught.value.hint


@pytest.mark.parametrize("version", ["4.4", "4.²"])
def test_a_mksquashfs_too_old_for_tar_files_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    program = tmp_path / "mksquashfs"
    program.write_text(f"#!/bin/sh\necho 'mksquashfs version {version} (2019/08/29)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(PackerMissingError, match=f"is version {version}; reading tar files needs"):
        Mksquashfs.find()


@pytest.mark.tools
class TestSquashfs:
    """mksquashfs as it is installed."""

    @pytest.mark.parametrize(
        "compression", ["zstd", "zstd:1", "gzip:1", "xz", "lz4", "lzo:1", "none"]
    )
    def test_tree_and_root_come_out_whatever_the_compression(
        self, tmp_path: Path, compression: str
    ) -> None:
        with packed(job(sample_tar(), "squashfs", compression), tmp_path) as image:
            path = image.files[1].temporary
            raw = path.read_bytes()
            assert image.fingerprint == hashlib.sha256(b"the metadata" + raw).hexdigest()
            listing = _unsquashfs("-lln", "-UTC", path).splitlines()
            assert listing[0].split()[:2] == ["drwxr-x--T", "123456/8"]
            assert "2001-09-09 01:46" in listing[0]
            _unsquashfs("-q", "-n", "-d", tmp_path / "out", path)
        for number in range(40):
            file = tmp_path / f"out/d{number}/file"
            content = hashlib.sha256(bytes([number])).digest() * number * 100
            assert file.read_bytes() == content
            assert file.stat().st_uid == number
            expected = [str(number).encode()] if number % 3 == 0 else []
            assert [os.getxattr(file, name) for name in os.listxattr(file)] == expected

    def test_memory_and_time_change_no_byte(self, tmp_path: Path) -> None:
        found = set()
        for memory_bytes in (1, 64 << 20, 256 << 20):
            os.environ["SOURCE_DATE_EPOCH"] = str(memory_bytes)
            try:
                running = job(sample_tar(90), "squashfs", memory_bytes=memory_bytes)
                with packed(running, tmp_path) as image:
                    found.add(image.fingerprint)
            finally:
                del os.environ["SOURCE_DATE_EPOCH"]
        assert len(found) == 1

    def test_what_mksquashfs_says_is_shown_with_a_command(self, tmp_path: Path) -> None:
        broken = job(b"\x01" * 10_000, "squashfs")
        with pytest.raises(PackerFailedError) as caught, packed(broken, tmp_path):
            pass
        assert "mksquashfs ended with exit code 1" in caught.value.message
        assert "-tar -noappend -comp zstd" in caught.value.message
        assert list(tmp_path.iterdir()) == []

    def test_a_packer_that_is_killed_is_told(self, tmp_path: Path) -> None:
        def feed(sink: TarSink) -> None:
            sink.write(sample_tar()[:20_000])
            subprocess.run(["pkill", "-KILL", "-P", str(os.getpid()), "mksquashfs"], check=True)
            while True:
                sink.write(bytes(1 << 20))

        killed = replace(job(b"", "squashfs"), feed=feed)
        with pytest.raises(PackerFailedError, match="ended by signal 9"), packed(killed, tmp_path):
            pass
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.root
    @pytest.mark.parametrize("image_format", ["squashfs", "tar"])
    def test_a_full_disk_is_told_and_leaves_nothing(
        self, tmp_path: Path, image_format: ImageFormat
    ) -> None:
        small = tmp_path / "small"
        small.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", small], check=True)
        try:
            full = job(_incompressible(2_000_000), image_format)
            with pytest.raises(StorageError, match="No space left on device"), packed(full, small):
                pass
            assert list(small.iterdir()) == []
        finally:
            subprocess.run(["umount", small], check=True)


def _incompressible(size_bytes: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("random")
        member.size = size_bytes
        archive.addfile(member, io.BytesIO(os.urandom(size_bytes)))
    return buffer.getvalue()


def _unsquashfs(*arguments: str | Path) -> str:
    program = shutil.which("unsquashfs")
    assert program is not None
    done = subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_settings_are_values() -> None:
    first = PackSettings(image_format="tar", algorithm="none", level=0)
    assert first == pack_settings("tar", None)
