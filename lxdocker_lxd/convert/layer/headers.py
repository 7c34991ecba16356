"""What a layer holds, without its data: one record per entry, and their compact stored form.

The stored form lets a later run skip the walk over a layer seen before. It starts with a line that
names format and version, then the digest of everything after it, then compressed JSON: a line about
the layer, and lines of some hundred entries each, so that neither side ever holds a second copy of
all. Whatever does not match exactly (another version, other limits, another layer, one flipped bit)
reads as "not there", and the layer is walked again.
"""

import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, NamedTuple

from lxdocker_lxd.convert.layer.limits import LayerLimits
from lxdocker_lxd.convert.layer.sparse_map import SparseMap
from lxdocker_lxd.digest import Digest

Attributes = tuple[tuple[bytes, bytes], ...]

_MAGIC = b"lxdocker-lxd layer headers 4\n"
_DIGEST_BYTES = 32
_FAST = 1
_ROWS_PER_LINE = 256


class Kind(Enum):
    """What an entry is; the values appear in stored header indexes."""

    FILE = "f"
    DIRECTORY = "d"
    SYMLINK = "l"
    HARD_LINK = "h"
    CHARACTER_DEVICE = "c"
    BLOCK_DEVICE = "b"
    FIFO = "p"
    WHITEOUT = "w"
    OPAQUE = "o"


class Header(NamedTuple):
    """One entry of a layer. A tuple, not a dataclass: fifty thousand stay in memory per layer."""

    path: bytes
    """Clean, relative to the root, ``b""`` for the root. A whiteout's is the path it hides."""

    kind: Kind
    mode: int
    """Permission bits, set-id and sticky bits included."""

    uid: int
    gid: int
    mtime_ns: int
    """Nanoseconds since 1970; may be negative, or beyond what a packer takes."""

    size_bytes: int
    """Of a file, holes included; 0 for everything else."""

    offset_bytes: int
    """Where the stored data begins in the inflated layer."""

    target: bytes
    """Of a symbolic link: as given. Of a hard link: a clean path."""

    device: tuple[int, int]
    """Major and minor number of a device node."""

    xattrs: Attributes
    """Extended attributes, sorted by name."""

    sparse: SparseMap | None
    """Where stored data belongs in a sparse file; None for a plain one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerHeaders:
    """All entries of one layer in archive order, and the layer's measures."""

    layer: str
    """The layer's name in messages."""

    diff_id: Digest
    """The verified digest of the inflated archive."""

    inflated_bytes: int
    headers: tuple[Header, ...]

    @property
    def holes_bytes(self) -> int:
        """What sparse files have beside the data that is stored."""
        return sum(
            header.size_bytes - sum(length for _, length in header.sparse)
            for header in self.headers
            if header.sparse is not None
        )

    @property
    def metadata_bytes(self) -> int:
        """Names, targets and attributes: what is kept in memory of each entry, beside the entry."""
        return sum(
            len(header.path)
            + len(header.target)
            + sum(len(name) + len(value) for name, value in header.xattrs)
            for header in self.headers
        )


def encode(headers: LayerHeaders, *, stored_bytes: int, limits: LayerLimits) -> bytes:
    """Return the stored form, bound to the blob's size and the limits it was walked under."""
    about = _about(headers.diff_id, stored_bytes, limits)
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=_FAST, mtime=0) as lines:
        lines.write(_line([about, headers.inflated_bytes]))
        rows = headers.headers
        for start in range(0, len(rows), _ROWS_PER_LINE):
            lines.write(_line([_row(header) for header in rows[start : start + _ROWS_PER_LINE]]))
    payload = packed.getvalue()
    return _MAGIC + hashlib.sha256(payload).digest() + payload


def _line(value: list[Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"


_DAMAGES = (
    *(OSError, EOFError, zlib.error),
    *(ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError),
)


def decode(
    content: bytes,
    *,
    layer: str,
    diff_id: Digest,
    stored_bytes: int,
    limits: LayerLimits,
) -> LayerHeaders | None:
    """Return what ``encode`` stored, or None when ``content`` is anything but exactly that."""
    start = len(_MAGIC)
    digest, payload = content[start : start + _DIGEST_BYTES], content[start + _DIGEST_BYTES :]
    if not content.startswith(_MAGIC) or hashlib.sha256(payload).digest() != digest:
        return None
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(payload)) as lines:
            about, inflated_bytes = json.loads(lines.readline())
            if about != _about(diff_id, stored_bytes, limits):
                return None
            headers = tuple(header for line in lines for header in _headers(json.loads(line)))
    except _DAMAGES:
        return None
    return LayerHeaders(
        layer=layer,
        diff_id=diff_id,
        inflated_bytes=inflated_bytes,
        headers=headers,
    )


def _about(diff_id: Digest, stored_bytes: int, limits: LayerLimits) -> dict[str, object]:
    return {"diff_id": str(diff_id), "stored_bytes": stored_bytes, "limits": asdict(limits)}


def _row(header: Header) -> list[Any]:
    """Return one entry as JSON values; bytes become text one to one (latin-1)."""
    row: list[Any] = [
        header.path.decode("latin-1"),
        header.kind.value,
        header.mode,
        header.uid,
        header.gid,
        header.mtime_ns,
        header.size_bytes,
        header.offset_bytes,
    ]
    rare = (
        header.target.decode("latin-1"),
        header.device,
        [[name.decode("latin-1"), value.decode("latin-1")] for name, value in header.xattrs],
        header.sparse,
    )
    if rare != ("", _NO_DEVICE, [], None):
        row.extend(rare)
    return row


_NO_DEVICE = (0, 0)
_NO_RARE: tuple[Any, ...] = ("", _NO_DEVICE, (), None)


def _headers(rows: Iterable[list[Any]]) -> Iterable[Header]:
    kinds = {kind.value: kind for kind in Kind}
    for path, kind, mode, uid, gid, mtime_ns, size_bytes, offset_bytes, *rest in rows:
        target, device, xattrs, sparse = rest or _NO_RARE
        yield Header(
            path.encode("latin-1"),
            kinds[kind],
            mode,
            uid,
            gid,
            mtime_ns,
            size_bytes,
            offset_bytes,
            target.encode("latin-1"),
            tuple(device) if rest else _NO_DEVICE,
            tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in xattrs),
            sparse if sparse is None else tuple((offset, length) for offset, length in sparse),
        )
