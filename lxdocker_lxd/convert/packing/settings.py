"""How a root filesystem is packed: format, algorithm and level, from flags and specification.

Pure. ``--imageformat`` chooses the kind of file, ``compression:`` in a specification the algorithm
and level inside it. The defaults come from measurements with tests/benchmarks/bench_convert.py.
"""

from dataclasses import dataclass
from typing import Literal

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.spec_values import compression as parse_compression

ImageFormat = Literal["squashfs", "gzip", "tar"]

SQUASHFS_BLOCK_BYTES = 1 << 20
_DEFAULTS: dict[ImageFormat, str] = {"squashfs": "zstd", "gzip": "gzip", "tar": "none"}
_SQUASHFS_LEVELS: dict[str, int] = {"zstd": 7, "gzip": 9, "lzo": 8, "xz": 0, "lz4": 0, "none": 0}
_TAR_LEVELS: dict[str, int] = {"gzip": 6, "zstd": 3, "xz": 6, "none": 0}
_SUFFIXES = {"gzip": ".tar.gz", "zstd": ".tar.zst", "xz": ".tar.xz", "none": ".tar"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PackSettings:
    """What one root filesystem file is made with; ``level`` is 0 where there are no levels."""

    image_format: ImageFormat
    algorithm: str
    level: int

    @property
    def suffix(self) -> str:
        """The ending of the file's name."""
        return ".squashfs" if self.image_format == "squashfs" else _SUFFIXES[self.algorithm]

    @property
    def compression(self) -> str:
        """The compression as a specification would say it."""
        return f"{self.algorithm}:{self.level}" if self.level else self.algorithm


def pack_settings(image_format: ImageFormat, compression: str | None) -> PackSettings:
    """Return the settings for a format and a specification's ``compression`` (None = default).

    Raises UsageError for an algorithm or level that the format hasn't got.
    """
    algorithm, level = parse_compression(compression or _DEFAULTS[image_format])
    levels = _SQUASHFS_LEVELS if image_format == "squashfs" else _TAR_LEVELS
    if algorithm not in levels:
        raise UsageError(
            f"compression {compression}: a {image_format} image can't use {algorithm}",
            hint=f"use one of {', '.join(levels)}, or another --imageformat",
        )
    if image_format == "squashfs" and algorithm == "xz" and level is not None:
        raise UsageError(
            f"compression {compression}: mksquashfs has no levels for xz", hint="write xz alone"
        )
    return PackSettings(
        image_format=image_format,
        algorithm=algorithm,
        level=levels[algorithm] if level is None else level,
    )
