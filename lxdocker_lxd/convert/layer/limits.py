"""How large a layer may be before it counts as a bomb.

The settings file can change what is no bound of the kernel (CONFIGURABLE).
"""

from dataclasses import dataclass

_KIB = 1 << 10
_MIB = 1 << 20
_GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerLimits:
    """Upper bounds for one layer's archive, and for the tree all layers make.

    The defaults let every image pass that Docker itself can run on a common machine. The two
    bounds on names are the kernel's own (PATH_MAX, NAME_MAX).
    """

    layers: int = 512
    """Layers of one image, repeated ones counted each time."""

    entries: int = 1_000_000
    """Entries of one layer, of all layers together, and inodes of the merged tree."""

    path_bytes: int = 4096
    """A whole name, and the target of a link."""

    component_bytes: int = 255
    """One part of a name between slashes."""

    header_bytes: int = _MIB
    """One extended header (pax records, a long name, a sparse map); also all global records."""

    metadata_bytes: int = 256 * _MIB
    """Names, link targets, xattrs and sparse maps of one layer together, and of all: what is kept in memory."""

    xattr_name_bytes: int = 255
    """The name of one extended attribute (the kernel's XATTR_NAME_MAX)."""

    xattr_value_bytes: int = 64 * _KIB
    """The value of one extended attribute (the kernel's XATTR_SIZE_MAX)."""

    inflated_bytes: int = 64 * _GIB
    """One layer's archive after decompression."""

    content_bytes: int = 64 * _GIB
    """The files of the merged tree together, holes of sparse files included."""

    ratio: int = 200
    """Inflated bytes per stored byte, asked only beyond ``ratio_free_bytes``."""

    ratio_free_bytes: int = _GIB
    """How much a layer may inflate to before ``ratio`` is looked at."""

    processor_seconds: int = 900
    """What reading and merging the layers of one image may take of processors. The last net: the time
    is proportional to the layers, and a gigabyte takes seconds."""

    links: int = 40
    """Symbolic links followed for one name (the kernel's own bound)."""


CONFIGURABLE = (
    "layers",
    "entries",
    "header_bytes",
    "metadata_bytes",
    "inflated_bytes",
    "content_bytes",
    "ratio",
    "ratio_free_bytes",
    "processor_seconds",
)
"""The fields the settings file may set."""
