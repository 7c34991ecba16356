"""Why a layer is refused: always the layer, the entry and the rule it broke.

Rules that know neither layer nor entry (a number field, a name) raise the leaf with its reason
only; the scan adds the place with :meth:`LayerError.at`. Every leaf keeps the exit code of
unsafe or broken content.
"""

from typing import ClassVar, Self

from lxdocker_lxd.errors import VerificationError

_SHOWN_BYTES = 200


def shown(name: bytes) -> str:
    """Return ``name`` for a message: printable, bounded, unambiguous."""
    text = name.decode("utf-8", "backslashreplace")
    short = text if len(text) <= _SHOWN_BYTES else text[:_SHOWN_BYTES] + "…"
    return repr(short)


class LayerError(VerificationError):
    """A layer that can't become part of a root filesystem; never raised itself."""

    advice: ClassVar[str] = "the image is broken or hostile: ask whoever builds it"

    def __init__(self, reason: str, *, layer: str = "", entry: bytes | None = None) -> None:
        place = f"layer {layer}: " if layer else ""
        if entry is not None:
            place += f"entry {shown(entry)}: "
        super().__init__(place + reason, hint=self.advice)
        self.reason = reason
        self.layer = layer
        self.entry = entry

    def at(self, *, layer: str, entry: bytes | None) -> Self:
        """Return the same error with the place where it was met, unless it has one."""
        return self if self.layer else type(self)(self.reason, layer=layer, entry=entry)


class UnsupportedCompressionError(LayerError):
    """A compression no image specification allows for layers (bzip2, xz, ...)."""

    advice: ClassVar[str] = "push the image again with gzip or zstd layers (skopeo copy does it)"


class CorruptStreamError(LayerError):
    """Compressed data that ends early or does not decode."""

    advice: ClassVar[str] = "the stored layer is damaged: remove it from the cache and run again"


class CorruptArchiveError(LayerError):
    """An archive whose structure breaks the tar format: checksum, numbers, records, length."""


class UnsupportedEntryError(LayerError):
    """An entry of a type that has no place in a root filesystem."""


class UnsafeNameError(LayerError):
    """An entry name that leaves the root, can't exist, or misuses whiteout names."""


class UnsafeLinkError(LayerError):
    """A link that leaves the root, leads to nothing, or runs in a circle."""


class BlockedNameError(LayerError):
    """A name to be put below something that is there and no directory."""


class LayerLimitError(LayerError):
    """A layer or image that is larger than the configured limits: a bomb, or a huge image."""

    advice: ClassVar[str] = (
        "if you trust this image, raise the limit named here under limits in the settings file"
    )
