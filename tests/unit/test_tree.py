"""The tree: every name is resolved inside it, whatever links say."""

from pathlib import Path

import pytest

from lxdocker_lxd.convert.layer.errors import (
    BlockedNameError,
    LayerLimitError,
    UnsafeLinkError,
    UnsafeNameError,
)
from lxdocker_lxd.convert.layer.headers import Kind
from lxdocker_lxd.convert.layer.inode import HostFile
from lxdocker_lxd.convert.layer.limits import LayerLimits
from lxdocker_lxd.convert.layer.tree import Tree, clamped_seconds


def names(tree: Tree) -> list[bytes]:
    return [path for path, _ in tree.walk()]


def test_put_makes_missing_parents() -> None:
    tree = Tree()
    tree.put_file(b"/etc/app/conf", b"x", mode=0o600, uid=5, gid=6, mtime_ns=7)
    assert names(tree) == [b"etc", b"etc/app", b"etc/app/conf"]
    parent = tree.lookup(b"etc/app")
    assert parent is not None
    assert (parent.mode, parent.uid, parent.gid, parent.mtime_ns) == (0o755, 0, 0, 0)
    file = tree.lookup(b"etc/app/conf")
    assert file is not None
    assert (file.kind, file.mode, file.uid, file.gid, file.mtime_ns) == (Kind.FILE, 0o600, 5, 6, 7)
    assert file.size_bytes == 1


@pytest.mark.parametrize(
    "target", [b"usr/sbin", b"/usr/sbin", b"/usr/../usr/./sbin/", b"../../usr/sbin"]
)
def test_put_goes_through_a_linked_parent(target: bytes) -> None:
    """usr-merged images: /sbin is a link, and /sbin/init must land in /usr/sbin."""
    tree = Tree()
    tree.put_directory(b"usr/sbin", mode=0o755)
    tree.put_symlink(b"sbin", target)
    tree.put_file(b"/sbin/init", b"#!", mode=0o755)
    assert names(tree) == [b"sbin", b"usr", b"usr/sbin", b"usr/sbin/init"]


def test_put_makes_what_a_linked_parent_lacks() -> None:
    tree = Tree()
    tree.put_symlink(b"sbin", b"usr/sbin")
    tree.put_file(b"sbin/init", b"#!", mode=0o755)
    assert names(tree) == [b"sbin", b"usr", b"usr/sbin", b"usr/sbin/init"]


def test_put_never_follows_the_last_name() -> None:
    tree = Tree()
    tree.put_file(b"passwd", b"secret", mode=0o600)
    tree.put_symlink(b"link", b"passwd")
    tree.put_file(b"link", b"new", mode=0o644)
    replaced, kept = tree.lookup(b"link"), tree.lookup(b"passwd")
    assert replaced is not None
    assert replaced.content == b"new"
    assert kept is not None
    assert kept.content == b"secret"


def test_put_cannot_leave_through_links() -> None:
    tree = Tree()
    tree.put_symlink(b"dev", b"/../../../dev")
    tree.put_symlink(b"etc", b"../../../etc")
    # A link to itself by its own name leads in a circle, not to the machine.
    with pytest.raises(UnsafeLinkError, match="circle"):
        tree.put_file(b"dev/null", b"", mode=0o644)
    with pytest.raises(UnsafeLinkError, match="circle"):
        tree.put_file(b"etc/passwd", b"", mode=0o644)
    with pytest.raises(UnsafeNameError, match="leaves the root"):
        tree.put_file(b"../etc/passwd", b"", mode=0o644)


@pytest.mark.parametrize("way", [b"opt/etc", b"link"])
def test_put_never_turns_a_file_in_the_way_into_a_directory(way: bytes) -> None:
    """It did, and what the file held was gone without a word."""
    tree = Tree()
    tree.put_file(b"opt/etc", b"a file", mode=0o644)
    tree.put_symlink(b"link", b"/opt/etc")
    with pytest.raises(BlockedNameError, match=r"/hosts': '/opt/etc' is in the way"):
        tree.put_file(way + b"/hosts", b"", mode=0o644)
    assert names(tree) == [b"link", b"opt", b"opt/etc"]


def test_put_directory_keeps_children_and_replaces_files() -> None:
    tree = Tree()
    tree.put_file(b"d/f", b"", mode=0o644)
    tree.put_directory(b"d", mode=0o700, uid=3)
    tree.put_directory(b"d/f", mode=0o711)
    directory = tree.lookup(b"d")
    assert directory is not None
    assert (directory.mode, directory.uid) == (0o700, 3)
    assert names(tree) == [b"d", b"d/f"]
    assert tree.resolve(b"d/f") is not None


def test_root_cannot_be_replaced() -> None:
    with pytest.raises(UnsafeLinkError, match="root"):
        Tree().put_file(b"/", b"", mode=0o644)
    assert not Tree().rename(b"/", b"a")
    assert not Tree().remove(b"/")


def test_lookup_stays_at_links_and_resolve_follows_them() -> None:
    tree = Tree()
    tree.put_file(b"usr/bin/sh", b"", mode=0o755)
    tree.put_symlink(b"bin", b"usr/bin")
    tree.put_symlink(b"usr/bin/bash", b"sh")
    tree.put_symlink(b"usr/bin/ash", b"/bin/bash")
    shell = tree.lookup(b"usr/bin/sh")
    tree.put_symlink(b"far", b"../../../../bin/../bin/./ash")
    for name in (b"/bin/sh", b"bin/bash", b"/bin/ash", b"bin/../bin/ash", b"//bin//ash", b"far"):
        assert tree.resolve(name) is shell
    found = tree.lookup(b"bin/ash")
    assert found is not None
    assert found.kind is Kind.SYMLINK
    assert tree.resolve(b"/") is tree.lookup(b"/") is tree.root


def test_names_that_lead_nowhere() -> None:
    tree = Tree()
    tree.put_symlink(b"a", b"b")
    tree.put_symlink(b"b", b"a")
    tree.put_symlink(b"out", b"/etc/passwd")
    tree.put_file(b"file", b"", mode=0o644)
    for name in (b"a", b"a/x", b"out", b"none", b"none/x", b"file/x", b"file/"):
        assert tree.resolve(name) is None
    assert tree.lookup(b"a/x") is None
    assert not tree.remove(b"none/x")


def test_rename_moves_the_name_itself() -> None:
    tree = Tree()
    tree.put_symlink(b"usr/sbin/init", b"/lib/systemd/systemd")
    tree.put_symlink(b"sbin", b"usr/sbin")
    assert tree.rename(b"/sbin/init", b"/lxd-realinit")
    assert names(tree) == [b"lxd-realinit", b"sbin", b"usr", b"usr/sbin"]
    assert not tree.rename(b"/sbin/init", b"/x")


def test_rename_moves_directories_but_not_into_themselves() -> None:
    tree = Tree()
    tree.put_file(b"d/e/f", b"", mode=0o644)
    with pytest.raises(UnsafeLinkError, match="into itself"):
        tree.rename(b"d", b"d/e/d")
    assert tree.rename(b"d/e", b"g")
    tree.put_symlink(b"g/up", b"../d/x")
    tree.put_file(b"d/x/y", b"", mode=0o644)
    assert tree.resolve(b"g/up/y") is not None


def test_counts_and_sizes_count_an_inode_once() -> None:
    tree = Tree()
    file = tree.put_file(b"d/a", HostFile(Path("/anywhere"), 1000), mode=0o755)
    directory = tree.lookup(b"d")
    assert directory is not None
    directory.put_child(b"b", file)
    tree.put_file(b"c", b"12345", mode=0o644)
    assert tree.inode_count == 4
    assert tree.total_bytes == 1005


def test_times_are_clamped_to_what_packers_take() -> None:
    assert [clamped_seconds(time) for time in (-1, 0, 10**9 - 1, 10**9, 2**70)] == [
        0, 0, 0, 1, 2**32 - 1,
    ]  # fmt: skip
    tree = Tree()
    tree.root.mtime_ns = -5
    assert tree.root_metadata.mtime_seconds == 0
    assert tree.root_metadata.mode == 0o755


def test_only_so_many_directories_are_made_for_names() -> None:
    """Four megabytes of volumes named /a/b/c/... are two million directories."""
    tree = Tree(LayerLimits(entries=3))
    tree.put_file(b"a/b/c/f", b"", mode=0o644)
    with pytest.raises(LayerLimitError, match="more than 3 directories"):
        tree.put_file(b"a/b/d/f", b"", mode=0o644)


def test_following_links_is_bounded_for_the_whole_image() -> None:
    tree = Tree()
    tree.put_directory(b"d", mode=0o755)
    tree.put_symlink(b"l", b"d/../" * 800 + b"d")

    def found() -> bool:
        return any(tree.resolve(b"l/%d" % number) for number in range(100))

    assert not found()
    with pytest.raises(LayerLimitError, match="through too many directories"):
        found()
