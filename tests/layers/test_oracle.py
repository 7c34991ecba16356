"""umoci as the judge: generated stacks, and layers that umoci itself has made."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given

from tests.harness.oracle import Unpacker, compare_image, throw_away, write_layout
from tests.harness.processes import run
from tests.layers.model import Stack, acceptable
from tests.layers.stacks import stacks
from tests.layers.tar_builder import archive, d, f, link

pytestmark = [pytest.mark.oracle, pytest.mark.root]


@given(stacks)
def test_generated_stacks(stack: Stack) -> None:
    """300 of them with LXDOCKER_TEST_FULL=1."""
    stack = acceptable(stack, usual_only=True)
    with throw_away() as directory:
        layout = write_layout(directory, [archive(*layer) for layer in stack])
        assert compare_image(layout, directory_times=False) == []


def first_layer(rootfs: Path) -> None:
    for name in ("etc", "usr/bin", "usr/share/doc", "var/log"):
        (rootfs / name).mkdir(parents=True)
        for number in range(20):
            (rootfs / name / f"file{number}").write_bytes(name.encode() * number * 50)
    (rootfs / "bin").symlink_to("usr/bin")
    os.link(rootfs / "usr/bin/file1", rootfs / "usr/bin/hard")
    os.link(rootfs / "usr/bin/file1", rootfs / "etc/hard")
    os.mknod(rootfs / "null", 0o20666, os.makedev(1, 3))
    os.mkfifo(rootfs / "pipe")
    os.setxattr(
        rootfs / "usr/bin/file2",
        "security.capability",
        bytes.fromhex("0100000200040000" + "00" * 12),
    )
    os.setxattr(rootfs / "etc", "user.comment", b"\0\xff")
    (rootfs / "usr/bin/file3").chmod(0o4755)
    os.chown(rootfs / "var/log/file4", 3_000_000, 42)
    Path(os.fsdecode(os.fsencode(rootfs) + b"/caf\xe9")).write_bytes(b"latin")


def second_layer(rootfs: Path) -> None:
    shutil.rmtree(rootfs / "usr/share/doc")
    (rootfs / "usr/bin/hard").unlink()
    (rootfs / "etc/file5").write_bytes(b"changed")
    (rootfs / "var/log").chmod(0o700)
    (rootfs / "bin").unlink()
    (rootfs / "bin").mkdir()
    (rootfs / "bin/own").write_bytes(b"own")
    shutil.rmtree(rootfs / "var/log")
    (rootfs / "var/log").symlink_to("../etc")
    (rootfs / ("n" * 200)).write_bytes(b"long name")


def third_layer(rootfs: Path) -> None:
    (rootfs / "usr/share/doc").mkdir()
    (rootfs / "usr/share/doc/new").write_bytes(b"new")
    (rootfs / "etc/hard").write_bytes(b"no longer the same")
    (rootfs / "pipe").unlink()
    (rootfs / "null").unlink()
    (rootfs / "null").write_bytes(b"a file now")


@pytest.mark.parametrize("by", ["tar", "squashfs"])
def test_layers_made_by_umoci(by: Unpacker) -> None:
    """Its whiteouts, names and times, gzip included; times of directories count here."""
    with throw_away() as directory:
        image = f"{directory / 'layout'}:made"
        bundle = directory / "bundle"
        run("umoci", "init", "--layout", directory / "layout")
        run("umoci", "new", "--image", image)
        run("umoci", "unpack", "--image", image, bundle)
        for change in (first_layer, second_layer, third_layer):
            change(bundle / "rootfs")
            run("umoci", "repack", "--refresh-bundle", "--image", image, bundle)
        assert compare_image(directory / "layout", "made", by=by) == []


def test_a_difference_is_seen() -> None:
    """The judge itself is tested: another image's tree must not pass."""
    with throw_away() as directory:
        ours = write_layout(directory / "one", [archive(d("d/"), f("d/a", "1"), link("l", "d"))])
        theirs = write_layout(directory / "two", [archive(d("d/"), f("d/a", "2", mode=0o600))])
        found = compare_image(ours, theirs_layout=theirs)
    text = "\n".join(found)
    assert "b'd/a': sha256" in text
    assert "b'd/a': mode" in text
    assert "b'l': only ours" in text
