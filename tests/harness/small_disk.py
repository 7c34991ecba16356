"""A small file system in memory that a test can fill; needs root."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

PAGE_BYTES = 4096


class SmallDisk:
    """A mounted tmpfs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self, *, left_pages: int = 0) -> None:
        """Fill it until only so many pages can be written."""
        descriptor = os.open(self._filler, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            with contextlib.suppress(OSError):
                while True:
                    os.write(descriptor, bytes(PAGE_BYTES))
            size = os.fstat(descriptor).st_size - left_pages * PAGE_BYTES
            os.ftruncate(descriptor, max(size, 0))
        finally:
            os.close(descriptor)

    def clear(self) -> None:
        """Give its space back."""
        self._filler.unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(path: Path, *, size_kib: int = 2048) -> Iterator[SmallDisk]:
    """Mount one at ``path`` for the block."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "tmpfs", path], check=True)
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", path], check=True)
