"""The content of one small file of a tree, read out of its layer."""

from collections.abc import Sequence
from pathlib import Path

from lxdocker_lxd import atomic
from lxdocker_lxd.convert.layer.data_copy import LayerCopy, opened
from lxdocker_lxd.convert.layer.errors import LayerLimitError, shown
from lxdocker_lxd.convert.layer.headers import Kind
from lxdocker_lxd.convert.layer.inode import HostFile, Inode, Stored
from lxdocker_lxd.convert.layer.stream_output import StreamOutput
from lxdocker_lxd.convert.layer.tree import Tree


def file_content(tree: Tree, layers: Sequence[Path], path: bytes, *, most_bytes: int) -> bytes:
    """Return what the file ``path`` leads to holds; nothing where there is no plain file.

    ``layers`` are the stored layers in the order they were merged in; the file's own is inflated
    up to its end. Raises LayerLimitError for a file of more than ``most_bytes``, and
    CorruptStreamError or StorageError.
    """
    inode = tree.resolve(path)
    if inode is None or inode.kind is not Kind.FILE:
        return b""
    if inode.size_bytes > most_bytes:
        raise LayerLimitError(
            f"{shown(path)} has {inode.size_bytes} bytes, more than {most_bytes} to be read"
        )
    content = inode.content
    if isinstance(content, HostFile):
        try:
            return content.path.read_bytes()
        except OSError as error:
            raise atomic.storage_error("read", content.path, error) from error
    if isinstance(content, Stored) and inode.size_bytes:
        return _stored(layers[content.layer], content, inode)
    return content if isinstance(content, bytes) else b""


def _stored(layer: Path, content: Stored, inode: Inode) -> bytes:
    found = bytearray()
    output = StreamOutput(found.extend, None)
    at, offset_bytes = 0, content.offset_bytes
    pieces = ((0, inode.size_bytes),) if content.sparse is None else content.sparse
    with opened(layer, None) as blocks:
        copy = LayerCopy(blocks, output)
        for start, length in pieces:
            output.zeros(start - at)
            copy.copy(offset_bytes, length)
            offset_bytes += length
            at = start + length
        output.zeros(inode.size_bytes - at)
    output.flush()
    return bytes(found)
