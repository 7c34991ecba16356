"""The final stream: its order, its bytes, and what happens when its sources are not as promised."""

import io
import tarfile
from pathlib import Path

import pytest

from lxdocker_lxd.convert.layer.errors import CorruptStreamError
from lxdocker_lxd.convert.layer.inode import HostFile
from lxdocker_lxd.convert.layer.limits import LayerLimits
from lxdocker_lxd.convert.layer.merge import merge
from lxdocker_lxd.convert.layer.rootfs_stream import SQUASHFS_FORM, write_tar
from lxdocker_lxd.convert.layer.tree import Tree
from lxdocker_lxd.digest import DigestMismatchError
from lxdocker_lxd.errors import StorageError
from tests.layers.tar_builder import archive, d, f, fifo, hard, link, scanned, store_layers
from tests.layers.trees import emitted


def order(stream: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(stream)) as reader:
        return reader.getnames()


def test_order_of_the_stream(tmp_path: Path) -> None:
    lower = archive(
        f("z-first-in-its-layer"), link("b-link", "z"), f("gone"), d("d/"), f("d/a"), f("e", "")
    )
    upper = archive(
        hard("a-hard", "d/a"), f(".wh.gone"), f("c-upper"), d("a-directory/"), fifo("p")
    )
    paths = store_layers(tmp_path, [lower, upper])
    tree = merge([scanned(path) for path in paths], LayerLimits())
    tree.put_file(b"guest", b"g", mode=0o644)
    assert order(emitted(tree, paths, SQUASHFS_FORM)) == [
        "a-directory",
        "d",
        "z-first-in-its-layer",
        # The first of several names in tree order has the data.
        "a-hard",
        "c-upper",
        "e",
        "guest",
        "b-link",
        "p",
        "d/a",
    ]


def test_headers_are_canonical_whatever_the_layer_said(tmp_path: Path) -> None:
    plain = store_layers(tmp_path, [archive(f("a", "same"))])
    (tmp_path / "other").mkdir()
    fancy = store_layers(
        tmp_path / "other",
        [archive(f("./a", "same", records={"comment": "x", "atime": "5"}), tar_format=2)],
    )
    streams = [
        emitted(merge([scanned(path) for path in paths], LayerLimits()), paths)
        for paths in (plain, fancy)
    ]
    assert streams[0] == streams[1]


def test_files_of_every_size_around_the_buffers(tmp_path: Path) -> None:
    sizes = [0, 1, 511, 512, 513, (1 << 17) - 1, 1 << 17, (1 << 20) - 1, 1 << 20, (1 << 20) + 1]
    parts = [f(f"f{size}", chr(97 + index) * size) for index, size in enumerate(sizes)]
    paths = store_layers(tmp_path, [archive(*parts)])
    tree = merge([scanned(paths[0])], LayerLimits())
    seen: list[int] = []
    pieces: list[bytes] = []
    written = write_tar(
        tree, paths, lambda piece: pieces.append(bytes(piece)), on_bytes=seen.append
    )
    assert sum(seen) == written == sum(map(len, pieces))
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as reader:
        for index, size in enumerate(sizes):
            member = reader.extractfile(f"f{size}")
            assert member is not None
            assert member.read() == bytes([97 + index]) * size


def test_layers_without_surviving_data_are_not_opened(tmp_path: Path) -> None:
    paths = store_layers(tmp_path, [archive(f("a", "old"), d("d/")), archive(f("a", "new"))])
    tree = merge([scanned(path) for path in paths], LayerLimits())
    paths[0].unlink()
    assert order(emitted(tree, paths, SQUASHFS_FORM)) == ["d", "a"]


def test_missing_layer_is_a_storage_error(tmp_path: Path) -> None:
    paths = store_layers(tmp_path, [archive(f("a"))])
    tree = merge([scanned(paths[0])], LayerLimits())
    paths[0].unlink()
    with pytest.raises(StorageError, match="read layer"):
        emitted(tree, paths)


def test_layer_shorter_than_scanned_is_named(tmp_path: Path) -> None:
    paths = store_layers(tmp_path, [archive(f("a", "x" * 5000))])
    tree = merge([scanned(paths[0])], LayerLimits())
    paths[0].write_bytes(paths[0].read_bytes()[:2000])
    with pytest.raises(CorruptStreamError, match=r"layer0: the stored layer is shorter"):
        emitted(tree, paths)


def test_damage_since_the_scan_is_noticed_when_asked(tmp_path: Path) -> None:
    paths = store_layers(tmp_path, [archive(f("a", "x" * 5000))])
    headers = scanned(paths[0])
    tree = merge([headers], LayerLimits())
    assert write_tar(tree, paths, len, diff_ids=[headers.diff_id]) > 5000
    damaged = bytearray(paths[0].read_bytes())
    damaged[1000] ^= 1
    paths[0].write_bytes(damaged)
    with pytest.raises(DigestMismatchError, match="layer0: expected diff_id"):
        write_tar(tree, paths, len, diff_ids=[headers.diff_id])


@pytest.mark.parametrize("size_bytes", [4, 6])
def test_host_file_that_changed_its_size_is_named(tmp_path: Path, size_bytes: int) -> None:
    program = tmp_path / "busybox"
    program.write_bytes(b"12345")
    tree = Tree()
    tree.put_file(b"busybox-lxd", HostFile(program, size_bytes), mode=0o755)
    with pytest.raises(StorageError, match="its size has changed"):
        emitted(tree, [])
    program.unlink()
    with pytest.raises(StorageError, match="busybox"):
        emitted(tree, [])


def test_a_failing_sink_ends_the_threads(tmp_path: Path) -> None:
    paths = store_layers(tmp_path, [archive(*[f(f"f{n}", "x" * 300_000) for n in range(40)])])
    tree = merge([scanned(paths[0])], LayerLimits())

    def broken(_: object) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        write_tar(tree, paths, broken)
