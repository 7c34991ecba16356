"""A root filesystem in memory: find, put, rename and remove, always inside its root.

Symbolic links are followed as the kernel would after ``chroot``: an absolute target starts again at
the root, ``..`` stops there, and after too many links the name leads nowhere. So nothing done here
can reach the machine's own files, whatever links an image holds. What following them costs is bounded
for the image as a whole.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lxdocker_lxd.convert.layer.entry_name import clean
from lxdocker_lxd.convert.layer.errors import (
    BlockedNameError,
    LayerLimitError,
    UnsafeLinkError,
    shown,
)
from lxdocker_lxd.convert.layer.headers import Attributes, Kind
from lxdocker_lxd.convert.layer.inode import HostFile, Inode
from lxdocker_lxd.convert.layer.limits import LayerLimits

_NANOSECONDS = 1_000_000_000
LATEST_SECONDS = (1 << 32) - 1
"""The last time squashfs can hold."""

LINK_MODE = 0o777
# Parts of links' targets to be walked through in one image: so many, and some more for each name.
_FREE_PARTS = 250_000
_PARTS_PER_NAME = 64

Missing = Callable[[Inode, bytes, bool], Inode]
"""Makes a directory for a name that is missing or no directory; the flag says whether that name
came out of a symbolic link's target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RootMetadata:
    """The root directory's own attributes, which packers take as options, not as an entry."""

    mode: int
    uid: int
    gid: int
    mtime_seconds: int


def clamped_seconds(time_ns: int) -> int:
    """Return a time in whole seconds, moved into what every packer takes (1970 to 2106)."""
    return min(max(time_ns // _NANOSECONDS, 0), LATEST_SECONDS)


class LinkBudget:
    """What following symbolic links may cost: for one name, and for all names of an image."""

    def __init__(self, most_links: int) -> None:
        self.most_links = most_links
        self._parts = _FREE_PARTS

    def begin_name(self) -> None:
        """Count one more name that is looked up."""
        self._parts += _PARTS_PER_NAME

    def follow(self, parts: int) -> None:
        """Count a link whose target has so many parts; raise LayerLimitError."""
        self._parts -= parts
        if self._parts < 0:
            raise LayerLimitError(
                "the image's symbolic links lead through too many directories: on average more than"
                f" {_PARTS_PER_NAME} for each name"
            )


def find_directory(
    root: Inode,
    path: bytes,
    *,
    links: LinkBudget,
    missing: Missing | None = None,
    or_file: bool = False,
) -> Inode | None:
    """Return the directory ``path`` leads to, following links inside ``root``.

    Where a part is missing or is no directory, ``missing`` supplies one; without it the answer is
    None. With ``or_file`` the last part may be anything. Raises UnsafeLinkError after too many
    symbolic links, LayerLimitError when the image's ``links`` have cost too much.
    """
    links.begin_name()
    node = root
    pending = path.split(b"/")
    pending.reverse()
    # The last so many of `pending` come from a link's target, not from the given path.
    from_links = 0
    followed = 0
    while pending:
        part = pending.pop()
        linked = from_links > 0
        from_links -= linked
        if part in (b"", b"."):
            continue
        if part == b"..":
            node = node.parent or node
            continue
        assert node.children is not None  # noqa: S101 - only directories are ever entered
        child = node.children.get(part)
        if child is not None and child.kind is Kind.SYMLINK:
            followed += 1
            if followed > links.most_links:
                raise UnsafeLinkError(
                    f"more than {links.most_links} symbolic links, or a circle of them"
                )
            parts = child.target.split(b"/")
            links.follow(len(parts))
            parts.reverse()
            if child.target.startswith(b"/"):
                node = root
            pending.extend(parts)
            from_links += len(parts)
            continue
        if child is None or child.children is None:
            if or_file and not pending:
                return child
            if missing is None:
                return None
            child = missing(node, part, linked)
        node = child
    return node


def _by_name(directory: Inode) -> Iterator[tuple[bytes, Inode]]:
    return iter(sorted((directory.children or {}).items()))


def _path_of(parent: Inode, name: bytes) -> bytes:
    parts = [name]
    above: Inode | None = parent
    while above is not None:
        parts.append(above.name)
        above = above.parent
    return b"/".join(reversed(parts))


class Tree:
    """A root filesystem. Paths are bytes, with or without a leading slash.

    Names are cleaned as text first (``..`` takes back the part before it, and is an error at the
    root), except by ``resolve`` and ``lookup_as_kernel``. Every ``put`` and ``rename`` resolves the
    parent of a name inside the root, makes missing parents (0755, root:root) and replaces the last
    part, never following it if it is a link. What else is in the way of a parent stays there:
    BlockedNameError.
    """

    def __init__(self, limits: LayerLimits | None = None) -> None:
        self.limits = limits or LayerLimits()
        self.root = Inode.implied()
        self.links = LinkBudget(self.limits.links)
        self._directories = 0

    @property
    def root_metadata(self) -> RootMetadata:
        """The root directory's attributes, its time clamped to whole seconds."""
        root = self.root
        return RootMetadata(
            mode=root.mode,
            uid=root.uid,
            gid=root.gid,
            mtime_seconds=clamped_seconds(root.mtime_ns),
        )

    @property
    def inode_count(self) -> int:
        """How many inodes the tree has, the root included; hard links count once."""
        return 1 + len({id(inode) for _, inode in self.walk()})

    @property
    def total_bytes(self) -> int:
        """The size of all files together, holes included; hard links count once."""
        return sum({id(inode): inode.size_bytes for _, inode in self.walk()}.values())

    def walk(self) -> Iterator[tuple[bytes, Inode]]:
        """Yield every name and its inode, without the root; a directory before what is in it,
        names of one directory in byte order.
        """
        # A name's path is made when its turn comes: all of a directory at once could be large.
        pending = [(b"", _by_name(self.root))]
        while pending:
            prefix, names = pending[-1]
            for name, inode in names:
                path = prefix + name
                yield path, inode
                if inode.children:
                    pending.append((path + b"/", _by_name(inode)))
                    break
            else:
                pending.pop()

    def lookup(self, path: bytes) -> Inode | None:
        """Return what ``path`` names, a symbolic link itself included; None if there is nothing."""
        found = self._parent(path)
        if found is None:
            return None
        parent, name = found
        return self.root if not name else (parent.children or {}).get(name)

    def lookup_as_kernel(self, path: bytes) -> Inode | None:
        """Return what ``path`` names as ``lstat`` would after ``chroot``: ``..`` stops at the root.

        Raises nothing: what can't be a name leads nowhere.
        """
        directory, _, name = path.rpartition(b"/")
        if name in (b"", b".", b".."):
            return self.resolve(path)
        try:
            parent = find_directory(self.root, directory, links=self.links)
        except UnsafeLinkError:
            return None
        return None if parent is None else (parent.children or {}).get(name)

    def resolve(self, path: bytes) -> Inode | None:
        """Return what ``path`` leads to, links followed; None if it leads nowhere in the root."""
        try:
            return find_directory(self.root, path, links=self.links, or_file=True)
        except UnsafeLinkError:
            return None

    def put_file(
        self,
        path: bytes,
        content: bytes | HostFile,
        *,
        mode: int,
        uid: int = 0,
        gid: int = 0,
        mtime_ns: int = 0,
        xattrs: Attributes = (),
    ) -> Inode:
        """Put a regular file; raise UnsafeNameError, UnsafeLinkError, BlockedNameError."""
        size_bytes = len(content) if isinstance(content, bytes) else content.size_bytes
        inode = Inode(
            Kind.FILE,
            mode=mode,
            uid=uid,
            gid=gid,
            mtime_ns=mtime_ns,
            xattrs=xattrs,
            size_bytes=size_bytes,
            content=content,
        )
        return self._put(path, inode)

    def put_directory(
        self,
        path: bytes,
        *,
        mode: int,
        uid: int = 0,
        gid: int = 0,
        mtime_ns: int = 0,
    ) -> Inode:
        """Put a directory; one that is there keeps its children and takes these attributes.

        Raises UnsafeNameError, UnsafeLinkError or BlockedNameError.
        """
        existing = self.lookup(path)
        if existing is None or existing.children is None:
            return self._put(
                path, Inode(Kind.DIRECTORY, mode=mode, uid=uid, gid=gid, mtime_ns=mtime_ns)
            )
        existing.mode, existing.uid, existing.gid = mode, uid, gid
        existing.mtime_ns = mtime_ns
        return existing

    def put_symlink(
        self,
        path: bytes,
        target: bytes,
        *,
        uid: int = 0,
        gid: int = 0,
        mtime_ns: int = 0,
    ) -> Inode:
        """Put a symbolic link; raise UnsafeNameError, UnsafeLinkError, BlockedNameError."""
        inode = Inode(
            Kind.SYMLINK, mode=LINK_MODE, uid=uid, gid=gid, mtime_ns=mtime_ns, target=target
        )
        return self._put(path, inode)

    def rename(self, old: bytes, new: bytes) -> bool:
        """Give what ``old`` names the name ``new``; say whether there was anything.

        A symbolic link moves itself; one with a relative target may then lead elsewhere. Raises
        UnsafeLinkError when a directory would end up inside itself.
        """
        inode = self.lookup(old)
        if inode is None or inode is self.root:
            return False
        parent, name = self._made_parent(new)
        above: Inode | None = parent
        while above is not None:
            if above is inode:
                raise UnsafeLinkError("a directory can't move into itself", entry=old)
            above = above.parent
        self.remove(old)
        parent.put_child(name, inode)
        return True

    def remove(self, path: bytes) -> bool:
        """Remove what ``path`` names with all below it; say whether there was anything."""
        found = self._parent(path)
        if found is None:
            return False
        parent, name = found
        return (parent.children or {}).pop(name, None) is not None

    def _put(self, path: bytes, inode: Inode) -> Inode:
        parent, name = self._made_parent(path)
        parent.put_child(name, inode)
        return inode

    def _made_parent(self, path: bytes) -> tuple[Inode, bytes]:
        directory, _, name = clean(path, self.limits).rpartition(b"/")
        if not name:
            raise UnsafeLinkError("the root directory can't be replaced", entry=path)
        try:
            parent = find_directory(
                self.root, directory, links=self.links, missing=self._make_directory
            )
        except BlockedNameError as error:
            raise BlockedNameError(error.reason, entry=path) from error
        assert parent is not None  # noqa: S101 - a maker was given
        return parent, name

    def _make_directory(self, parent: Inode, name: bytes, linked: bool) -> Inode:
        del linked
        if parent.children and name in parent.children:
            raise BlockedNameError(
                f"{shown(_path_of(parent, name))} is in the way: it is no directory",
            )
        self._directories += 1
        if self._directories > self.limits.entries:
            raise LayerLimitError(
                f"more than {self.limits.entries} directories are to be made (entries)"
            )
        directory = Inode.implied()
        parent.put_child(name, directory)
        return directory

    def _parent(self, path: bytes) -> tuple[Inode, bytes] | None:
        directory, _, name = clean(path, self.limits).rpartition(b"/")
        try:
            parent = find_directory(self.root, directory, links=self.links)
        except UnsafeLinkError:
            return None
        return None if parent is None else (parent, name)
