"""One file, directory, link or device of a root filesystem, and where its data comes from."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lxdocker_lxd.convert.layer.headers import Attributes, Header, Kind
from lxdocker_lxd.convert.layer.sparse_map import SparseMap

IMPLIED_MODE = 0o755


class Stored(NamedTuple):
    """Data inside a layer. A tuple, not a dataclass: one per file is kept in memory."""

    layer: int
    """Index of the layer, lowest first."""

    offset_bytes: int
    """Where the data begins in the inflated layer."""

    sparse: SparseMap | None


@dataclass(frozen=True, slots=True)
class HostFile:
    """Data in a file of this machine; it must still have this size when it is read."""

    path: Path
    size_bytes: int


class Inode:
    """What one or several names of a tree stand for; hard links share one.

    Mutable, unlike the records around it: a merge changes directories as layers pass. Only
    directories have ``children``, ``parent`` and ``name``; a file may have several of each.
    """

    __slots__ = (
        "children",
        "content",
        "device",
        "gid",
        "kind",
        "layer",
        "mode",
        "mtime_ns",
        "name",
        "parent",
        "size_bytes",
        "target",
        "uid",
        "xattrs",
    )

    kind: Kind
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    xattrs: Attributes
    size_bytes: int
    target: bytes
    device: tuple[int, int]
    content: "Stored | HostFile | bytes | None"
    layer: int
    children: "dict[bytes, Inode] | None"
    parent: "Inode | None"
    name: bytes

    def __init__(  # noqa: PLR0913 - the attributes of an inode
        self,
        kind: Kind,
        *,
        mode: int,
        uid: int = 0,
        gid: int = 0,
        mtime_ns: int = 0,
        xattrs: Attributes = (),
        size_bytes: int = 0,
        target: bytes = b"",
        device: tuple[int, int] = (0, 0),
        content: "Stored | HostFile | bytes | None" = None,
        layer: int = -1,
    ) -> None:
        self.kind = kind
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.mtime_ns = mtime_ns
        self.xattrs = xattrs
        self.size_bytes = size_bytes
        self.target = target
        self.device = device
        self.content = content
        self.layer = layer
        self.children = {} if kind is Kind.DIRECTORY else None
        self.parent = None
        self.name = b""

    @classmethod
    def of(cls, header: Header, layer: int) -> "Inode":
        """Return a new inode for an entry of the layer with this index."""
        kind = header.kind
        return cls(
            kind,
            mode=header.mode,
            uid=header.uid,
            gid=header.gid,
            mtime_ns=header.mtime_ns,
            xattrs=header.xattrs,
            size_bytes=header.size_bytes,
            target=header.target,
            device=header.device,
            content=(
                Stored(layer, header.offset_bytes, header.sparse) if kind is Kind.FILE else None
            ),
            layer=layer,
        )

    @classmethod
    def implied(cls, layer: int = -1) -> "Inode":
        """Return a directory that no entry describes, only names below it: 0755, root, 1970."""
        return cls(Kind.DIRECTORY, mode=IMPLIED_MODE, layer=layer)

    def describe(self, header: Header) -> None:
        """Take the metadata of another entry for the same directory; children stay."""
        self.mode = header.mode
        self.uid = header.uid
        self.gid = header.gid
        self.mtime_ns = header.mtime_ns
        self.xattrs = header.xattrs

    def put_child(self, name: bytes, child: "Inode") -> None:
        """Make ``name`` in this directory stand for ``child``, whatever it stood for before."""
        assert self.children is not None  # noqa: S101 - callers hold directories only
        self.children[name] = child
        if child.children is not None:
            child.parent = self
            child.name = name
