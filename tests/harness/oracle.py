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
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from lxdocker_lxd.convert.layer.limits import LayerLimits
from lxdocker_lxd.convert.layer.merge import merge
from lxdocker_lxd.convert.layer.rootfs_stream import ARCHIVE_FORM, SQUASHFS_FORM, write_tar
from lxdocker_lxd.convert.layer.scan import scan
from lxdocker_lxd.convert.layer.tree import Tree
from lxdocker_lxd.digest import Digest
from tests.harness.processes import run
from tests.harness.snapshots import Node, Snapshot, differences, read_directory

Unpacker = Literal["tar", "squashfs"]


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
