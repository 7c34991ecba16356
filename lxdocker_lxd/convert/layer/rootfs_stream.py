"""Write a tree as one tar stream that a packer can take without looking back.

Order: all directories in tree order, then per layer the files that survived in the order they lie
in it (each layer is inflated once, from start to end), then files that come from elsewhere, then
symbolic links, devices and fifos, then second names. So parents precede children, no name occurs
twice, and no link precedes its target, which mksquashfs and sqfstar do not survive.

The same tree over the same layers gives the same bytes. Not handled: extended attributes of the root
directory; no packer takes them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lxdocker_lxd import atomic
from lxdocker_lxd.convert.layer import pax, tar_member
from lxdocker_lxd.convert.layer.data_copy import LayerCopy, opened
from lxdocker_lxd.convert.layer.headers import Kind
from lxdocker_lxd.convert.layer.inode import HostFile, Inode, Stored
from lxdocker_lxd.convert.layer.stream_output import Sink, StreamOutput
from lxdocker_lxd.convert.layer.tree import LATEST_SECONDS, Tree, clamped_seconds
from lxdocker_lxd.digest import Digest
from lxdocker_lxd.errors import StorageError

_NANOSECONDS = 1_000_000_000
_READ_BYTES = 1 << 20
_SQUASHFS_XATTRS = (b"user.", b"trusted.", b"security.")
_SPECIAL = {
    Kind.SYMLINK: tar_member.SYMLINK,
    Kind.CHARACTER_DEVICE: tar_member.CHARACTER_DEVICE,
    Kind.BLOCK_DEVICE: tar_member.BLOCK_DEVICE,
    Kind.FIFO: tar_member.FIFO,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TarForm:
    """What a packer takes. The defaults fit squashfs."""

    root_entry: bool = False
    """Begin with an entry ``./``; squashfs takes the root's attributes as options instead."""

    nanoseconds: bool = False
    """Keep fractions of seconds in times; squashfs cuts them off."""

    xattr_prefixes: tuple[bytes, ...] | None = _SQUASHFS_XATTRS
    """Extended attributes to keep; None keeps all. squashfs knows no POSIX ACLs."""


SQUASHFS_FORM = TarForm()
ARCHIVE_FORM = TarForm(root_entry=True, nanoseconds=True, xattr_prefixes=None)


@dataclass(slots=True)
class _Plan:
    """A tree sorted into the order of the stream."""

    directories: list[tuple[bytes, Inode]] = field(default_factory=list)
    stored: dict[int, list[tuple[int, bytes, Inode]]] = field(default_factory=dict)
    loose: list[tuple[bytes, Inode]] = field(default_factory=list)
    special: list[tuple[bytes, Inode]] = field(default_factory=list)
    links: list[tuple[bytes, bytes, Inode]] = field(default_factory=list)

    @classmethod
    def of(cls, tree: Tree) -> "_Plan":
        plan = cls()
        first_names: dict[int, bytes] = {}
        for path, inode in tree.walk():
            if inode.kind is Kind.DIRECTORY:
                plan.directories.append((path, inode))
                continue
            first = first_names.setdefault(id(inode), path)
            if first is not path:
                plan.links.append((path, first, inode))
            elif inode.kind is not Kind.FILE:
                plan.special.append((path, inode))
            elif isinstance(inode.content, Stored) and inode.size_bytes:
                content = inode.content
                plan.stored.setdefault(content.layer, []).append(
                    (content.offset_bytes, path, inode),
                )
            else:
                plan.loose.append((path, inode))
        return plan


class _Writer:
    """Renders inodes into the output, in one form."""

    def __init__(self, output: StreamOutput, form: TarForm) -> None:
        self.output = output
        self._form = form

    def header(self, path: bytes, typeflag: bytes, inode: Inode, target: bytes = b"") -> None:
        records: pax.Records = ()
        if inode.xattrs or self._form.nanoseconds:
            records = self._records(inode, typeflag)
        self.output.small(
            tar_member.render(
                path,
                typeflag,
                mode=inode.mode,
                uid=inode.uid,
                gid=inode.gid,
                mtime_seconds=clamped_seconds(inode.mtime_ns),
                size_bytes=inode.size_bytes if typeflag == tar_member.FILE else 0,
                target=target,
                device=inode.device,
                records=records,
            ),
        )

    def _records(self, inode: Inode, typeflag: bytes) -> pax.Records:
        records = []
        time_ns = inode.mtime_ns
        fits = 0 <= time_ns <= LATEST_SECONDS * _NANOSECONDS
        if self._form.nanoseconds and fits and time_ns % _NANOSECONDS:
            records.append((b"mtime", pax.render_time(time_ns)))
        if typeflag != tar_member.HARD_LINK:
            prefixes = self._form.xattr_prefixes
            records += [
                pax.attribute_record(name, value)
                for name, value in inode.xattrs
                if prefixes is None or name.startswith(prefixes)
            ]
        return tuple(records)

    def loose_file(self, path: bytes, inode: Inode) -> None:
        """Write a file whose data is in memory, on this machine, or nothing but holes."""
        self.header(path, tar_member.FILE, inode)
        content = inode.content
        if isinstance(content, bytes):
            self.output.data(memoryview(content))
        elif isinstance(content, HostFile):
            self._host_file(content)
        self.output.zeros(tar_member.padding(inode.size_bytes))

    def _host_file(self, content: HostFile) -> None:
        left_bytes = content.size_bytes
        try:
            with content.path.open("rb", buffering=0) as file:
                while left_bytes and (data := file.read(min(_READ_BYTES, left_bytes))):
                    self.output.data(memoryview(data))
                    left_bytes -= len(data)
                grown = not left_bytes and file.read(1)
        except OSError as error:
            raise atomic.storage_error("read", content.path, error) from error
        if left_bytes or grown:
            raise StorageError(
                f"read {content.path}: expected {content.size_bytes} bytes, its size has changed",
                hint="run again",
            )


def write_tar(
    tree: Tree,
    layers: Sequence[Path],
    sink: Sink,
    *,
    on_bytes: Callable[[int], None] | None = None,
    form: TarForm = SQUASHFS_FORM,
    diff_ids: Sequence[Digest] | None = None,
) -> int:
    """Write ``tree`` as a tar stream to ``sink``; return how many bytes that were.

    ``layers`` are the stored layers in the order they were merged in. ``sink`` must take all it is
    given before it returns (``write`` of a buffered file does); ``on_bytes`` hears the
    size of each piece. Layers without surviving data are not opened. With ``diff_ids`` (of the
    layers) what is read is hashed again: for layers whose headers came from a stored index, so that
    damage since then can't pass. Raises CorruptStreamError or DigestMismatchError when a layer
    is not what was scanned, StorageError when a file can't be read or has changed,
    and whatever ``sink`` raises.
    """
    output = StreamOutput(sink, on_bytes)
    writer = _Writer(output, form)
    plan = _Plan.of(tree)
    if form.root_entry:
        writer.header(b"./", tar_member.DIRECTORY, tree.root)
    for path, inode in plan.directories:
        writer.header(path + b"/", tar_member.DIRECTORY, inode)
    for index, files in sorted(plan.stored.items()):
        _write_stored(writer, layers[index], files, diff_ids[index] if diff_ids else None)
    for path, inode in plan.loose:
        writer.loose_file(path, inode)
    for path, inode in plan.special:
        writer.header(path, _SPECIAL[inode.kind], inode, inode.target)
    for path, first, inode in plan.links:
        writer.header(path, tar_member.HARD_LINK, inode, first)
    output.small(tar_member.END)
    output.flush()
    return output.written_bytes


def _write_stored(
    writer: _Writer,
    layer: Path,
    files: list[tuple[int, bytes, Inode]],
    diff_id: Digest | None,
) -> None:
    """Write the surviving files of one layer, in the order their data lies in it."""
    files.sort(key=lambda item: item[0])
    with opened(layer, diff_id) as blocks:
        copy = LayerCopy(blocks, writer.output)
        for offset_bytes, path, inode in files:
            writer.header(path, tar_member.FILE, inode)
            content = inode.content
            if isinstance(content, Stored) and content.sparse is not None:
                _expand(writer.output, copy, inode.size_bytes, content)
            else:
                copy.copy(offset_bytes, inode.size_bytes)
            writer.output.zeros(tar_member.padding(inode.size_bytes))
        copy.finish()


def _expand(output: StreamOutput, copy: LayerCopy, size_bytes: int, content: Stored) -> None:
    """Write a sparse file with its holes as zero bytes; packers find zero blocks themselves."""
    at = 0
    offset_bytes = content.offset_bytes
    for start, length in content.sparse or ():
        output.zeros(start - at)
        copy.copy(offset_bytes, length)
        offset_bytes += length
        at = start + length
    output.zeros(size_bytes - at)
