"""The final stream through the real packers: what comes out is the tree that went in."""

import os
from pathlib import Path

import pytest
from hypothesis import given

from lxdocker_lxd.convert.layer.inode import HostFile
from lxdocker_lxd.convert.layer.limits import LayerLimits
from lxdocker_lxd.convert.layer.merge import merge
from lxdocker_lxd.convert.layer.rootfs_stream import ARCHIVE_FORM, SQUASHFS_FORM
from lxdocker_lxd.convert.layer.tree import Tree
from tests.harness.oracle import Unpacker, throw_away, unpack_ours
from tests.harness.snapshots import differences
from tests.layers.cases import CAPABILITY
from tests.layers.model import Stack, acceptable
from tests.layers.stacks import stacks
from tests.layers.tar_builder import (
    Member,
    Raw,
    archive,
    block,
    char,
    d,
    f,
    fifo,
    hard,
    link,
    pax_member,
    raw_header,
    scanned,
    store_layers,
    xattr_records,
)
from tests.layers.trees import snapshot

pytestmark = [pytest.mark.tools, pytest.mark.root]

LATEST = 2**32 - 1


def sparse_file() -> Raw:
    pairs = "0,512,1048576,1024,5000000,0"
    records = f"GNU.sparse.map={pairs}", "GNU.sparse.size=5000000"
    payload = b""
    for text in records:
        size = len(text) + 2
        size += len(str(size + len(str(size))))
        payload += f"{size} {text}\n".encode()
    data = b"s" * 512 + b"t" * 1024
    return Raw(pax_member(payload) + raw_header(b"sparse", size=len(data)) + data)


def everything(directory: Path) -> tuple[Tree, list[Path]]:
    """A tree with all that a packer may stumble over."""
    long = "/".join(["long" * 25] * 4)
    lower: tuple[Member | Raw, ...] = (
        d("./", mode=0o751, uid=1, gid=2, mtime=1600000000),
        d("etc/", mode=0o1777, uid=3, records=xattr_records({"user.dir": b"\0\xff"})),
        f("etc/empty", ""),
        f("etc/passwd", "root:x:0:0::/:/bin/sh\n"),
        f("big", "0123456789abcdef" * 200_000),
        f(f"{long}/f", "long"),
        link("long-link", long, mtime=1500000000),
        f("caf\udce9"),
        f("ping", mode=0o4755, records=xattr_records({"security.capability": CAPABILITY})),
        f("ids", uid=4294967294, gid=2097152),
        f("before", records={"mtime": "-5.5"}),
        f("after", records={"mtime": "99999999999"}),
        f("between", records={"mtime": "1000000000.999999999"}),
        f("acl", records=xattr_records({"system.posix_acl_access": b"\2\0\0\0"})),
        char("null", 1, 3, mode=0o666),
        block("disk", 259, 1048575, mode=0o660),
        fifo("pipe"),
        sparse_file(),
        hard("ping-too", "ping"),
        hard("link-too", "long-link"),
        hard(f"{long}/{'h' * 120}", f"{long}/f"),
        hard("pipe-too", "pipe"),
    )
    upper = (f("etc/.wh.passwd", ""), f("aaa/first-name", "u"), hard("zzz", "big"))
    paths = store_layers(directory, [archive(*lower), archive(*upper)])
    tree = merge([scanned(path) for path in paths], LayerLimits())
    program = directory / "busybox"
    program.write_bytes(os.urandom(300_000))
    tree.put_file(b"busybox-lxd", HostFile(program, 300_000), mode=0o755, mtime_ns=10**18)
    tree.put_file(b"sbin/init", b"#!/busybox-lxd sh\n", mode=0o755)
    tree.put_symlink(b"dev/stdout", b"/proc/self/fd/1")
    return tree, paths


@pytest.mark.parametrize("by", ["squashfs", "tar"])
def test_everything_survives(by: Unpacker, tmp_path: Path) -> None:
    tree, paths = everything(tmp_path)
    if by == "tar":
        # The kernel takes no malformed ACL; that attribute is for the squashfs round.
        tree.remove(b"acl")
    with throw_away() as directory:
        unpacked = unpack_ours(tree, paths, directory, by=by)
        wanted = snapshot(tree, paths, SQUASHFS_FORM if by == "squashfs" else ARCHIVE_FORM)
        found = differences(
            unpacked, wanted, directory_times=True, whole_seconds=True, root=by == "tar"
        )
        assert found == []
        assert unpacked[b"before"].mtime_ns == 0
        assert unpacked[b"after"].mtime_ns == LATEST * 10**9
        assert unpacked[b"zzz"].same == {b"big", b"zzz"}
        assert unpacked[b"sparse"].size == 5_000_000
        assert unpacked[b"ids"].uid == 4294967294


@given(stacks)
def test_generated_trees_survive_mksquashfs(stack: Stack) -> None:
    stack = acceptable(stack, usual_only=False)
    with throw_away() as directory:
        paths = store_layers(directory, [archive(*layer) for layer in stack])
        tree = merge([scanned(path) for path in paths], LayerLimits())
        unpacked = unpack_ours(tree, paths, directory, by="squashfs")
        assert (
            differences(
                unpacked,
                snapshot(tree, paths, SQUASHFS_FORM),
                directory_times=True,
                whole_seconds=True,
                root=False,
            )
            == []
        )
