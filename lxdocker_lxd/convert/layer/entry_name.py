"""Names of entries: cleaned, bounded, never outside the root; and what whiteout names mean.

Rules (image-spec, layer.md, "Whiteouts"; AUFS for ``.wh..wh.*``):

1. Leading slashes, empty parts and ``.`` vanish; ``..`` is resolved in the name itself and must not
   leave the root. NUL bytes and names longer than the kernel takes are refused.
2. ``.wh.NAME`` hides NAME of lower layers. NAME must not be empty, ``.`` or ``..``.
3. ``.wh..wh..opq`` hides what lower layers hold in its directory.
4. Any other ``.wh..wh.`` name, and what lies below it, is AUFS bookkeeping and is left out.
5. Apart from that no directory on the way may have a whiteout name.
"""

from enum import Enum

from lxdocker_lxd.convert.layer.errors import UnsafeNameError
from lxdocker_lxd.convert.layer.limits import LayerLimits

_WHITEOUT = b".wh."
_BOOKKEEPING = b".wh..wh."
_OPAQUE = b".wh..wh..opq"


class NameMeaning(Enum):
    """What the last part of a name asks for."""

    PLAIN = "plain"
    WHITEOUT = "whiteout"
    OPAQUE = "opaque"
    IGNORED = "ignored"


def clean(name: bytes, limits: LayerLimits) -> bytes:
    """Return ``name`` relative to the root, without ``.`` and ``..``; ``b""`` is the root itself.

    Raises UnsafeNameError for an empty name, NUL, a way out of the root, or too long a name.
    """
    if not name:
        raise UnsafeNameError("its name is empty")
    if b"\0" in name:
        raise UnsafeNameError("its name holds a NUL byte")
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts:
                raise UnsafeNameError("its name leaves the root directory with '..'")
            parts.pop()
        elif part and part != b".":
            parts.append(part)
    path = b"/".join(parts)
    if len(path) > limits.component_bytes and (
        len(path) >= limits.path_bytes or max(map(len, parts)) > limits.component_bytes
    ):
        raise UnsafeNameError(
            f"its name is longer than {limits.path_bytes} bytes,"
            f" or a part of it longer than {limits.component_bytes}",
        )
    return path


def meaning(path: bytes) -> tuple[NameMeaning, bytes]:
    """Return what a clean path asks for, and the path it asks that of.

    For WHITEOUT that is the hidden path, for OPAQUE the directory. Raises UnsafeNameError.
    """
    if _WHITEOUT not in path:
        return NameMeaning.PLAIN, path
    directory, _, base = path.rpartition(b"/")
    for part in directory.split(b"/"):
        if part.startswith(_BOOKKEEPING) and part != _OPAQUE:
            return NameMeaning.IGNORED, path
        if part.startswith(_WHITEOUT):
            raise UnsafeNameError("a directory in its name has a whiteout name ('.wh.')")
    if not base.startswith(_WHITEOUT):
        return NameMeaning.PLAIN, path
    if base == _OPAQUE:
        return NameMeaning.OPAQUE, directory
    if base.startswith(_BOOKKEEPING):
        return NameMeaning.IGNORED, path
    hidden = base[len(_WHITEOUT) :]
    if hidden in (b"", b".", b".."):
        raise UnsafeNameError("the whiteout names nothing, its own directory or the one above")
    return NameMeaning.WHITEOUT, directory + b"/" + hidden if directory else hidden
