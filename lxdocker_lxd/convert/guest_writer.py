"""What the guests of LXD and of plain LXC put into an image's tree in the same way.

Parents are resolved inside the image; the last part of a name replaces what the image has there and
is never followed. In the end every name must still lead to what was put there.
"""

import posixpath

from lxdocker_lxd.convert.layer.errors import shown
from lxdocker_lxd.convert.layer.headers import Kind
from lxdocker_lxd.convert.layer.inode import HostFile, Inode
from lxdocker_lxd.convert.layer.tree import Tree
from lxdocker_lxd.errors import VerificationError
from lxdocker_lxd.spec_values import is_reserved

PROGRAM, PLAIN, PRIVATE = 0o755, 0o644, 0o600
_DEFAULT_TMPFS = (b"tmp", b"run")


class GuestNameError(VerificationError):
    """A name the guest or the image needs that something else in the image takes away."""

    def __init__(self, path: bytes) -> None:
        super().__init__(
            f"{shown(path)} doesn't lead to what was put there: each name of the guest and each"
            " volume must have a place of its own, and a link or volume of the image shares one",
            hint="change the image's link, or its volumes with the specification's key volumes",
        )


class GuestWriter:
    """Puts files of one date, owned by root, and remembers where each is."""

    def __init__(self, tree: Tree, mtime_ns: int) -> None:
        self._tree = tree
        self._mtime_ns = mtime_ns
        self._placed: dict[bytes, Inode] = {}

    def file(self, path: bytes, content: bytes | HostFile, mode: int) -> None:
        """Put a file."""
        self._placed[path] = self._tree.put_file(path, content, mode=mode, mtime_ns=self._mtime_ns)

    def directory(self, path: bytes, mode: int = PROGRAM) -> None:
        """Put a directory, or give one that is there this mode."""
        self._placed[path] = self._tree.put_directory(path, mode=mode, mtime_ns=self._mtime_ns)

    def link(self, path: bytes, target: bytes) -> None:
        """Put a symbolic link."""
        self._placed[path] = self._tree.put_symlink(path, target, mtime_ns=self._mtime_ns)

    def move(self, old: bytes, new: bytes) -> None:
        """Give what is at ``old`` another name."""
        inode = self._tree.lookup(old)
        if inode is not None and self._tree.rename(old, new):
            self._placed[new] = inode

    def check(self) -> None:
        """Raise GuestNameError where a later name took an earlier one away."""
        for path, inode in self._placed.items():
            if self._tree.lookup(path) is not inode:
                raise GuestNameError(path)

    def items(self, path: bytes, items: tuple[str, ...], mode: int = PLAIN) -> None:
        """Put a file of items, each ended by NUL; bytes that are no UTF-8 come back as they were."""
        texts = [item.encode("utf-8", "surrogateescape") + b"\0" for item in items]
        self.file(path, b"".join(texts), mode)


def put_volumes(tree: Tree, writer: GuestWriter, volumes: tuple[str, ...]) -> None:
    """Make the directories of volumes that the image lacks, as Docker does.

    Raises GuestNameError for a place of the guest's own, which no volume could ever take.
    """
    for volume in volumes:
        if volume != "/" and is_reserved(volume):
            raise GuestNameError(volume.encode("utf-8", "surrogateescape"))
        text = volume.encode("utf-8", "surrogateescape")
        path = posixpath.normpath(b"/" + text).lstrip(b"/")
        if path and tree.resolve(path) is None and tree.lookup(path) is None:
            writer.directory(path)


def free_tmpfs(tree: Tree) -> tuple[str, ...]:
    """Return where a tmpfs hides nothing: /tmp and /run, if absent or an empty directory."""
    free = []
    for name in _DEFAULT_TMPFS:
        inode = tree.lookup(name)
        if inode is None or (inode.kind is Kind.DIRECTORY and not inode.children):
            free.append("/" + name.decode())
    return tuple(free)


def prepare_etc(tree: Tree, writer: GuestWriter) -> bool:
    """Make the files in /etc that Docker gives every container; say if LXD may render there."""
    names = (b"etc/hostname", b"etc/hosts", b"etc/resolv.conf")
    for name in names:
        if tree.lookup(name) is None:
            writer.file(name, b"", PLAIN)
    etc = tree.lookup(b"etc")
    files = [tree.lookup(name) for name in names[:2]]
    plain = all(inode is not None and inode.kind is Kind.FILE for inode in files)
    return plain and etc is not None and etc.kind is Kind.DIRECTORY
