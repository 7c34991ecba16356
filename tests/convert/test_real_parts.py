"""Runs with real parts: a registry, mksquashfs, full and read-only disks."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lxdocker_lxd.errors import NetworkError, StorageError
from tests.convert.workshop import Workshop, outcome, outcomes
from tests.harness.registry import real_registry
from tests.harness.tiny_image import tiny_image


@contextlib.contextmanager
def small_disk(path: Path, options: str) -> Iterator[Path]:
    """Mount a tmpfs with these options for the block."""
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"{options},mode=0755", "none", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


@pytest.mark.registry
@pytest.mark.tools
def test_from_a_registry_to_squashfs_and_nothing_to_do_afterwards(workshop: Workshop) -> None:
    with real_registry(workshop.root / "registry") as registry:
        image = tiny_image({"bin/app": b"app", "etc/big": os.urandom(300_000)})
        image.write_layout(workshop.root / "layout")
        digest = registry.push_layout(workshop.root / "layout", "latest", "team/web:1")
        workshop.spec("web", f"image: {registry.host}/team/web:1\n")
        workshop.spec("pinned", f"image: {registry.host}/team/web@{digest}\n")
        assert outcomes(workshop.run(image_format="squashfs")) == {
            "pinned": "built",
            "web": "built",
        }
        assert workshop.file("web").read_bytes()[:4] == b"hsqs"
        assert workshop.product("web").newest.source.top_digest == digest
        assert outcomes(workshop.run(image_format="squashfs")) == {
            "pinned": "unchanged",
            "web": "unchanged",
        }
    # Without the registry the pinned one is known to be what it was; the tag can't be.
    report = workshop.run(image_format="squashfs")
    assert outcomes(report) == {"pinned": "unchanged", "web": "failed"}
    assert isinstance(outcome(report, "web").error, NetworkError)
    assert outcome(report, "web").fingerprint is not None
    assert workshop.directory.verify() == ()


@pytest.mark.root
@pytest.mark.tools
@pytest.mark.parametrize("full", ["lxdimages", "cache"])
def test_a_disk_that_fills_up_keeps_what_was_published(workshop: Workshop, full: str) -> None:
    workshop.both("small", b"one")
    # One after the other: what "large" takes for a moment must not be missing for "small".
    workshop.options = replace(workshop.options, jobs=1)
    with small_disk(workshop.root / full, "size=3m") as disk:
        workshop.run(image_format="squashfs")
        before = workshop.catalogue
        workshop.both("large", os.urandom(8 << 20))
        workshop.both("small", b"two")
        report = workshop.run(image_format="squashfs")
        error = outcome(report, "large").error
        assert isinstance(error, StorageError)
        assert "No space left on device" in error.message
        assert "free some space" in error.hint
        assert outcomes(report)["small"] == "built"
        assert workshop.directory.verify() == ()
        assert workshop.product("small").versions[0] == replace(
            before.products[0].newest, superseded_at=workshop.now
        )
        left = [path.name for path in disk.rglob(".tmp-*")]
        assert left == []
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        assert outcomes(workshop.run(image_format="squashfs")) == {
            "large": "built",
            "small": "unchanged",
        }
        assert workshop.directory.verify() == ()


@pytest.mark.root
@pytest.mark.parametrize("protected", ["lxdimages", "cache"])
def test_a_read_only_directory_is_one_clear_error(workshop: Workshop, protected: str) -> None:
    workshop.both("web", b"one")
    with (
        small_disk(workshop.root / protected, "ro,size=1m"),
        pytest.raises(StorageError) as caught,
    ):
        workshop.run()
    assert "Read-only file system" in caught.value.message
    assert caught.value.hint == "the file system is read-only: choose another directory"
