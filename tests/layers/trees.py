"""Turn a merged tree into what the cases and models speak of."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

from lxdocker_lxd.convert.layer.headers import Kind
from lxdocker_lxd.convert.layer.rootfs_stream import ARCHIVE_FORM, TarForm, write_tar
from lxdocker_lxd.convert.layer.tree import Tree
from tests.harness.snapshots import Snapshot, read_tar

SHORT = {
    "directory": "d",
    "fifo": "p",
    "file": "f",
    "symlink": "l",
    "character device": "c",
    "block device": "b",
}


def emitted(tree: Tree, layers: Sequence[Path], form: TarForm = ARCHIVE_FORM) -> bytes:
    pieces: list[bytes] = []
    written = write_tar(tree, layers, lambda piece: pieces.append(bytes(piece)), form=form)
    stream = b"".join(pieces)
    assert len(stream) == written
    return stream


def snapshot(tree: Tree, layers: Sequence[Path], form: TarForm = ARCHIVE_FORM) -> Snapshot:
    """Return the tree as an independent reader sees it in our stream, root included."""
    return read_tar(io.BytesIO(emitted(tree, layers, form)))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def count(tree: Tree, kind: Kind) -> int:
    return sum(inode.kind is kind for _, inode in tree.walk())
