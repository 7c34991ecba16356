"""Merge layers into one tree, lowest first, as the image specification orders them.

Rules (image-spec, layer.md; where it is silent, what appliers do that unpack layer by layer):

1. Within a layer entries count in archive order; the last of several with one name wins.
2. A directory over a directory replaces the metadata, xattrs included, and keeps what is below.
   Anything else replaces what had the name, with all below it.
3. A whiteout hides what lower layers put there, never what its own layer put there before or after
   it. A directory that holds something of the whiteout's own layer stays. The same for each
   name in an opaque directory, which itself stays.
4. A hard link is a second name for the same inode: it survives whatever happens to the first. Its
   own metadata does not count (as in GNU tar and umoci); producers repeat the target's anyway. A
   link to a name that comes later in its layer waits for the end of that layer.
5. Parents that no entry describes are directories 0755 root:root of 1970. A lower file in their
   place gives way. Symbolic links on the way are followed inside the root, but must lead to a
   directory that the image has: writing through a link to nowhere is refused.

Refused are also links in a circle, hard links to directories or to nothing, and sizes over the
limits. Pure: headers in, tree out.
"""

from collections.abc import Callable, Sequence

from lxdocker_lxd.convert.layer.errors import LayerError, LayerLimitError, UnsafeLinkError
from lxdocker_lxd.convert.layer.headers import Header, Kind, LayerHeaders
from lxdocker_lxd.convert.layer.inode import Inode
from lxdocker_lxd.convert.layer.limits import LayerLimits
from lxdocker_lxd.convert.layer.tree import Tree, find_directory

_BATCH = 1024


class _Waiting:
    """A hard link whose target may still come, and what had its name when it came."""

    __slots__ = ("before", "header", "name", "parent")

    def __init__(self, header: Header, parent: Inode, name: bytes) -> None:
        self.header = header
        self.parent = parent
        self.name = name
        self.before = (parent.children or {}).get(name)


class _Merge:
    """The tree so far, and what has to be known about the layer being applied."""

    def __init__(self, limits: LayerLimits) -> None:
        self.tree = Tree(limits)
        self._limits = limits
        self._inodes = 1
        self._layer = -1
        # Parents found before, by the path they were found with. Valid as long as no directory
        # or symbolic link goes away.
        self._parents: dict[bytes, Inode] = {}
        # Names this layer gave to inodes of lower layers; an inode's own `layer` can't tell.
        self._linked: set[tuple[Inode, bytes]] = set()
        self._waiting: list[_Waiting] = []
        # Directories in which nothing of lower layers is left: none comes back within a layer.
        self._pruned: set[Inode] = set()

    def apply(self, index: int, layer: LayerHeaders, pause: Callable[[], None]) -> None:
        """Apply one layer; errors name it and the entry. ``pause`` is called now and then."""
        self._layer = index
        self._linked.clear()
        self._pruned.clear()
        entry = b""
        try:
            for number, header in enumerate(layer.headers):
                entry = header.path
                self._apply(header)
                if number % _BATCH == 0:
                    pause()
            for waiting in self._waiting:
                entry = waiting.header.path
                self._settle(waiting)
        except LayerError as error:
            raise error.at(layer=layer.layer, entry=entry) from error
        self._waiting.clear()

    def _apply(self, header: Header) -> None:
        kind = header.kind
        if kind is Kind.WHITEOUT:
            self._hide(header.path)
        elif kind is Kind.OPAQUE:
            self._hide_all(header.path)
        elif not header.path:
            self.tree.root.describe(header)
        elif kind is Kind.HARD_LINK:
            self._link(header)
        else:
            parent, name = self._parent(header.path)
            assert parent.children is not None  # noqa: S101 - parents are directories
            existing = parent.children.get(name)
            if kind is Kind.DIRECTORY and existing is not None and existing.children is not None:
                existing.describe(header)
                self._touch(existing)
            else:
                self._place(parent, name, Inode.of(header, self._layer), new=True)

    def _place(self, parent: Inode, name: bytes, inode: Inode, *, new: bool) -> None:
        assert parent.children is not None  # noqa: S101 - parents are directories
        self._forget(parent.children.get(name))
        parent.put_child(name, inode)
        if new:
            self._inodes += 1
            if self._inodes > self._limits.entries:
                raise LayerLimitError(
                    f"the image has more than {self._limits.entries} files and directories,"
                    " those counted that only names imply (entries)",
                )

    def _parent(self, path: bytes) -> tuple[Inode, bytes]:
        """Return the directory for an entry's name, made if need be, and mark it as touched."""
        directory, _, name = path.rpartition(b"/")
        parent = self._parents.get(directory)
        if parent is None:
            parent = find_directory(
                self.tree.root,
                directory,
                links=self.tree.links,
                missing=self._make_directory,
            )
            assert parent is not None  # noqa: S101 - a maker was given
            self._parents[directory] = parent
        self._touch(parent)
        return parent, name

    def _make_directory(self, parent: Inode, name: bytes, linked: bool) -> Inode:
        if linked:
            raise UnsafeLinkError(
                "a symbolic link on its way leads to no directory inside the image",
            )
        # The new directory counts as touched, so `_touch` would not look above it.
        self._touch(parent)
        directory = Inode.implied(self._layer)
        self._place(parent, name, directory, new=True)
        return directory

    def _touch(self, directory: Inode | None) -> None:
        """Mark a directory and those above it as holding something of this layer."""
        while directory is not None and directory.layer != self._layer:
            directory.layer = self._layer
            directory = directory.parent

    def _forget(self, inode: Inode | None) -> None:
        """Drop remembered parents when ``inode``, which goes away, may have led to them."""
        if inode is not None and (inode.children is not None or inode.kind is Kind.SYMLINK):
            self._parents.clear()

    def _find(self, path: bytes) -> tuple[Inode, bytes] | None:
        """Return directory and last part of a path without making anything."""
        directory, _, name = path.rpartition(b"/")
        parent = self._parents.get(directory)
        if parent is None:
            parent = find_directory(self.tree.root, directory, links=self.tree.links)
        return None if parent is None else (parent, name)

    def _hide(self, path: bytes) -> None:
        found = self._find(path)
        if found is None:
            return
        parent, name = found
        assert parent.children is not None  # noqa: S101 - parents are directories
        inode = parent.children.get(name)
        if inode is None:
            return
        if not self._is_own(parent, name, inode):
            self._forget(inode)
            del parent.children[name]
        elif inode.children is not None:
            self._prune(inode)

    def _hide_all(self, path: bytes) -> None:
        directory = find_directory(self.tree.root, path, links=self.tree.links)
        if directory is not None:
            self._prune(directory)

    def _prune(self, top: Inode) -> None:
        """Remove what this layer has not touched below ``top``."""
        pending = [top]
        while pending:
            directory = pending.pop()
            if directory in self._pruned:
                continue
            self._pruned.add(directory)
            assert directory.children is not None  # noqa: S101 - only directories are pending
            for name, inode in list(directory.children.items()):
                if not self._is_own(directory, name, inode):
                    self._forget(inode)
                    del directory.children[name]
                elif inode.children is not None:
                    pending.append(inode)

    def _is_own(self, parent: Inode, name: bytes, inode: Inode) -> bool:
        return inode.layer == self._layer or (parent, name) in self._linked

    def _link(self, header: Header) -> None:
        target = self._target(header)
        parent, name = self._parent(header.path)
        if target is None:
            self._waiting.append(_Waiting(header, parent, name))
        else:
            self._give_name(parent, name, target)

    def _settle(self, waiting: _Waiting) -> None:
        """Give a waiting link its target, unless a later entry took the name."""
        target = self._target(waiting.header)
        if target is None:
            raise UnsafeLinkError(f"hard link to {waiting.header.target[:200]!r}, which is nowhere")
        parent, name = self._parent(waiting.header.path)
        if (parent.children or {}).get(name) is waiting.before:
            self._give_name(parent, name, target)

    def _target(self, header: Header) -> Inode | None:
        if not header.target:
            raise UnsafeLinkError("hard link to the root directory")
        found = self._find(header.target)
        target = None if found is None else (found[0].children or {}).get(found[1])
        if target is not None and target.children is not None:
            raise UnsafeLinkError(f"hard link to the directory {header.target[:200]!r}")
        return target

    def _give_name(self, parent: Inode, name: bytes, inode: Inode) -> None:
        assert parent.children is not None  # noqa: S101 - parents are directories
        if parent.children.get(name) is not inode:
            self._place(parent, name, inode, new=False)
        if inode.layer != self._layer:
            self._linked.add((parent, name))


def _no_pause() -> None:
    pass


def merge(
    layers: Sequence[LayerHeaders], limits: LayerLimits, *, pause: Callable[[], None] = _no_pause
) -> Tree:
    """Return the tree that ``layers``, lowest first, make.

    Data stays where it is: files point into the layers by index. ``pause`` is called now and then; what
    it raises ends the merge. Raises UnsafeLinkError and
    LayerLimitError, each naming layer and entry.
    """
    work = _Merge(limits)
    for index, layer in enumerate(layers):
        work.apply(index, layer, pause)
    _check_sizes(work.tree, limits)
    return work.tree


def _check_sizes(tree: Tree, limits: LayerLimits) -> None:
    """Links to directories can make real paths longer than any name in a layer."""
    seen: set[int] = set()
    total_bytes = paths_bytes = 0
    for path, inode in tree.walk():
        if len(path) >= limits.path_bytes:
            raise LayerLimitError(
                f"a path of the merged image is longer than {limits.path_bytes} bytes (path_bytes)",
                layer="(all layers)",
                entry=path,
            )
        paths_bytes += len(path)
        if paths_bytes > limits.metadata_bytes:
            raise LayerLimitError(
                f"the paths of the image exceed {limits.metadata_bytes} bytes (metadata_bytes)",
                layer="(all layers)",
                entry=path,
            )
        if inode.size_bytes and id(inode) not in seen:
            seen.add(id(inode))
            total_bytes += inode.size_bytes
            if total_bytes > limits.content_bytes:
                raise LayerLimitError(
                    f"the files of the image exceed {limits.content_bytes} bytes (content_bytes)",
                    layer="(all layers)",
                    entry=path,
                )
