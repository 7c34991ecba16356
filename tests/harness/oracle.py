"""The independent judge of layer merges: umoci unpacks the same image, both trees are compared.

umoci runs as root in a throw-away directory. Our own stream is unpacked by GNU tar (or packed by
mksquashfs and unpacked by unsquashfs) into another one. Everything a root filesystem holds is
compared: names, types, modes, owners, times, link groups, xattrs, content, devices, link targets.

Debian's umoci 0.4.7 is wrong on some shapes (whiteouts named ``..``, children below a former file,
global pax headers alone, type 7, children of directories with whiteout names); never give it one.
"""

import contextlib
import hashlib
import json
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Literal

from lxdocker_lxd.convert.layer_limits import LayerLimits
from lxdocker_lxd.convert.layer_scan import scan
from lxdocker_lxd.convert.layers import merge
from lxdocker_lxd.convert.rootfs_stream import ARCHIVE_FORM, SQUASHFS_FORM, write_tar
from lxdocker_lxd.convert.tree import Tree
from lxdocker_lxd.digest import Digest
from tests.harness.processes import run

Unpacker = Literal["tar", "squashfs"]

_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFIFO: "fifo",
}
_TAR_KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    tarfile.CHRTYPE: "character device",
    tarfile.BLKTYPE: "block device",
    tarfile.FIFOTYPE: "fifo",
}
_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What one name of a tree is. ``same`` holds all names of the same inode."""

    kind: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int = 0
    sha256: str = ""
    target: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    same: frozenset[bytes] = field(default_factory=frozenset)


Snapshot = dict[bytes, Node]
"""A tree by path; the root is ``b"."``."""


def read_directory(directory: Path) -> Snapshot:
    """Return the tree below a directory of this machine (as root, else xattrs are missing)."""
    top = os.fsencode(directory)
    nodes: Snapshot = {}
    groups: dict[tuple[int, int], set[bytes]] = {}
    for path in _names_below(top):
        full = top + b"/" + path
        status = os.lstat(full)
        kind = _KINDS[stat.S_IFMT(status.st_mode)]
        nodes[path] = Node(
            kind=kind,
            mode=0o777 if kind == "symlink" else stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            mtime_ns=status.st_mtime_ns,
            size=status.st_size if kind == "file" else 0,
            sha256=_sha256(full) if kind == "file" else "",
            target=os.readlink(full) if kind == "symlink" else b"",  # noqa: PTH115 - a path of bytes
            device=(os.major(status.st_rdev), os.minor(status.st_rdev)),
            xattrs=_xattrs(full),
        )
        if kind != "directory":
            groups.setdefault((status.st_dev, status.st_ino), set()).add(path)
    return _grouped(nodes, groups.values())


def _names_below(top: bytes) -> Iterator[bytes]:
    yield b"."
    pending = [b""]
    while pending:
        prefix = pending.pop()
        with os.scandir(top + b"/" + prefix) as entries:
            for entry in entries:
                path = prefix + b"/" + entry.name if prefix else entry.name
                yield path
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)


def _sha256(path: bytes) -> str:
    with open(path, "rb") as file:  # noqa: PTH123 - a path of bytes
        return hashlib.file_digest(file, "sha256").hexdigest()


def _xattrs(path: bytes) -> tuple[tuple[bytes, bytes], ...]:
    names = sorted(os.fsencode(name) for name in os.listxattr(path, follow_symlinks=False))
    return tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in names)


def _grouped(nodes: Snapshot, groups: Any) -> Snapshot:
    for names in groups:
        for name in names:
            nodes[name] = replace(nodes[name], same=frozenset(names))
    return nodes


def read_tar(stream: IO[bytes]) -> Snapshot:
    """Return the tree in a tar stream, as Python's tarfile reads it, and check its order.

    Asserts what packers need: each name once, parents before children, targets before links.
    """
    nodes: Snapshot = {}
    groups: dict[bytes, set[bytes]] = {}
    with tarfile.open(
        fileobj=stream, mode="r|", encoding="utf-8", errors="surrogateescape"
    ) as archive:
        for member in archive:
            path = _raw(member.name).rstrip(b"/") or b"."
            path = b"." if path == b"./" else path
            assert path not in nodes, f"{path!r} occurs twice"
            parent = path.rpartition(b"/")[0]
            assert not parent or nodes[parent].kind == "directory", f"{path!r} has no parent"
            if member.type == tarfile.LNKTYPE:
                first = _raw(member.linkname)
                assert first in nodes, f"{path!r} precedes its target"
                nodes[path] = nodes[first]
                groups[first].add(path)
                continue
            data = archive.extractfile(member) if member.isreg() else None
            nodes[path] = Node(
                kind=_TAR_KINDS[member.type],
                mode=0o777 if member.issym() else member.mode,
                uid=member.uid,
                gid=member.gid,
                mtime_ns=_mtime_ns(member),
                size=member.size,
                sha256="" if data is None else hashlib.file_digest(data, "sha256").hexdigest(),  # type: ignore[arg-type]  # a readable file
                target=_raw(member.linkname),
                device=(member.devmajor, member.devminor) if member.isdev() else (0, 0),
                xattrs=_tar_xattrs(member),
            )
            if not member.isdir():
                groups[path] = {path}
    return _grouped(nodes, groups.values())


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _mtime_ns(member: tarfile.TarInfo) -> int:
    # tarfile gives a float, which has no room for nanoseconds.
    whole, _, fraction = member.pax_headers.get("mtime", str(int(member.mtime))).partition(".")
    return int(whole) * _NANOSECONDS + int(fraction.ljust(9, "0") or 0)


def _tar_xattrs(member: tarfile.TarInfo) -> tuple[tuple[bytes, bytes], ...]:
    start = "SCHILY.xattr."
    found = {
        _raw(key[len(start) :]): _raw(value)
        for key, value in member.pax_headers.items()
        if key.startswith(start)
    }
    return tuple(sorted(found.items()))


def differences(
    ours: Snapshot,
    theirs: Snapshot,
    *,
    directory_times: bool,
    whole_seconds: bool = False,
    root: bool = True,
) -> list[str]:
    """Return one line per difference between two trees; none when they are equal."""
    lines = []
    for path in sorted(ours.keys() | theirs.keys()):
        if path == b"." and not root:
            continue
        left, right = ours.get(path), theirs.get(path)
        if left is None or right is None:
            lines.append(f"{path!r}: only {'theirs' if left is None else 'ours'}: {right or left}")
            continue
        ignore_time = left.kind == "directory" and not directory_times
        for name in Node.__slots__:
            mine, other = getattr(left, name), getattr(right, name)
            if name == "mtime_ns":
                if ignore_time:
                    continue
                if whole_seconds:
                    mine, other = mine // _NANOSECONDS, other // _NANOSECONDS
            if mine != other:
                lines.append(f"{path!r}: {name}: ours {mine!r}, theirs {other!r}")
    return lines


@contextlib.contextmanager
def throw_away() -> Iterator[Path]:
    """Yield a new directory; whatever is unpacked into it goes with it."""
    directory = Path(tempfile.mkdtemp(prefix="oracle-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def write_layout(directory: Path, layers: Sequence[bytes], *, tag: str = "latest") -> Path:
    """Write an OCI layout with one image of these uncompressed layers; return its directory."""
    layout = directory / "layout"
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(content: bytes, media_type: str) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    kind = "application/vnd.oci.image"
    stored = [put(layer, f"{kind}.layer.v1.tar") for layer in layers]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in stored]},
        "history": [{"created": "2024-01-01T00:00:00Z"} for _ in stored],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{kind}.manifest.v1+json",
        "config": put(json.dumps(config).encode(), f"{kind}.config.v1+json"),
        "layers": stored,
    }
    named = put(json.dumps(manifest).encode(), f"{kind}.manifest.v1+json")
    index = {
        "schemaVersion": 2,
        "manifests": [{**named, "annotations": {"org.opencontainers.image.ref.name": tag}}],
    }
    (layout / "index.json").write_text(json.dumps(index))
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return layout


def unpack_with_umoci(layout: Path, tag: str, directory: Path) -> Snapshot:
    """Unpack an image with umoci below ``directory`` and return its tree."""
    rootfs = directory / "rootfs"
    with _umask(0o022):
        run("umoci", "raw", "unpack", "--image", f"{layout}:{tag}", rootfs, timeout_seconds=900)
    return read_directory(rootfs)


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def unpack_ours(
    tree: Tree,
    layers: Sequence[Path],
    directory: Path,
    *,
    by: Unpacker = "tar",
) -> Snapshot:
    """Write a merged tree with the product's code, unpack it with foreign tools, return it.

    By squashfs the root itself has only its mode: mksquashfs 4.5 takes no more for it from a tar.
    """
    rootfs = directory / "ours"
    if by == "tar":
        rootfs.mkdir()
        program = ["tar", "--extract", "--preserve-permissions", "--numeric-owner"]
        # Files come after all directories, so times of directories must wait for the end.
        program += ["--delay-directory-restore"]
        program += ["--xattrs", "--xattrs-include=*", "--directory", str(rootfs)]
        form = ARCHIVE_FORM
    else:
        packed = directory / "ours.squashfs"
        program = ["mksquashfs", "-", str(packed), "-tar", "-comp", "zstd", "-no-progress"]
        program += ["-Xcompression-level", "1", "-root-mode", f"{tree.root.mode:o}"]
        form = SQUASHFS_FORM
    # Output goes to a file: a pipe nobody reads could fill up while we write the archive.
    with (directory / "packer.log").open("w+b") as log:
        with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=log, stderr=log) as process:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                write_tar(tree, layers, process.stdin.write, form=form)
                process.stdin.close()
        log.seek(0)
        assert process.returncode == 0, log.read().decode("utf-8", "replace")
    if by == "squashfs":
        run("unsquashfs", "-no-progress", "-xattrs", "-dest", rootfs, packed, timeout_seconds=900)
    return read_directory(rootfs)


def compare_layers(
    layout: Path,
    tag: str,
    layers: Sequence[tuple[Path, Digest]],
    *,
    by: Unpacker = "tar",
    directory_times: bool = True,
) -> list[str]:
    """Return the differences between umoci's tree of an image and ours of the given layers.

    ``layers`` are files with their diff_ids, lowest first. ``directory_times`` must be False for
    images in which parents are missing: umoci gives those the time of the unpacking, and the
    directory above them too.
    """
    limits = LayerLimits()
    with throw_away() as directory:
        theirs = unpack_with_umoci(layout, tag, directory)
        headers = [
            scan(path, diff_id=diff_id, layer=str(diff_id), limits=limits)
            for path, diff_id in layers
        ]
        tree = merge(headers, limits)
        ours = unpack_ours(tree, [path for path, _ in layers], directory, by=by)
        if by == "squashfs":
            theirs = {path: _as_in_squashfs(node) for path, node in theirs.items()}
            ours = {path: _as_in_squashfs(node) for path, node in ours.items()}
        return differences(
            ours,
            theirs,
            directory_times=directory_times,
            whole_seconds=by == "squashfs",
            root=by != "squashfs",
        )


def _as_in_squashfs(node: Node) -> Node:
    kept = tuple(
        (name, value)
        for name, value in node.xattrs
        if name.startswith((b"user.", b"trusted.", b"security."))
    )
    return replace(node, xattrs=kept)


def compare_image(
    layout: Path,
    tag: str = "latest",
    *,
    by: Unpacker = "tar",
    directory_times: bool = True,
    theirs_layout: Path | None = None,
) -> list[str]:
    """Return the differences between umoci's tree of an image in an OCI layout and ours.

    The layout's tag must name a manifest, or an index whose first entry is the wanted one.
    ``theirs_layout`` gives umoci another layout: only to test the comparison itself.
    """
    blobs = layout / "blobs"

    def blob(digest: str) -> Path:
        algorithm, _, encoded = digest.partition(":")
        return blobs / algorithm / encoded

    index = json.loads((layout / "index.json").read_text())
    (named,) = [
        entry
        for entry in index["manifests"]
        if entry.get("annotations", {}).get("org.opencontainers.image.ref.name") == tag
    ]
    manifest = json.loads(blob(named["digest"]).read_text())
    while "manifests" in manifest:
        manifest = json.loads(blob(manifest["manifests"][0]["digest"]).read_text())
    config = json.loads(blob(manifest["config"]["digest"]).read_text())
    layers = [
        (blob(layer["digest"]), Digest.parse(diff_id))
        for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True)
    ]
    return compare_layers(
        theirs_layout or layout, tag, layers, by=by, directory_times=directory_times
    )
