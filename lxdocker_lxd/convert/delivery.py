"""Where an image may go instead of the catalogue's directory: a port that importing implements.

The catalogue then has the record of a version, its rebuild key among it, and no file of its root
filesystem; whether it has to be built again depends on whether it still is where it went.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from lxdocker_lxd.catalogue import SourceImage


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """What is known of an image before its root filesystem is packed.

    ``serial`` is the one its version will have, ``suffix`` the ending of the file's name
    (``.tar.gz``), ``annotations`` what its publisher says of the version.
    """

    name: str
    architecture: str
    serial: str
    source: SourceImage
    metadata: bytes
    suffix: str
    annotations: Mapping[str, str] = field(default_factory=dict)


class Carrier(Protocol):
    """Takes one root filesystem's bytes away."""

    def write(self, block: bytes) -> None:
        """Take the next bytes; waits while the receiver is behind, raises what it failed with."""
        ...

    def finish(self, fingerprint: str) -> None:
        """Return when the receiver has all of it, under this fingerprint; raise otherwise."""
        ...


class Delivery(Protocol):
    """Where images go. Safe for several threads."""

    def has(self, name: str, architecture: str, fingerprint: str) -> bool:
        """Whether that image is already there; raises what looking fails with."""
        ...

    def wants(self, name: str, architecture: str) -> bool:
        """Whether this image shall be streamed; if not, it becomes files as ever."""
        ...

    def open(self, parcel: Parcel) -> AbstractContextManager[Carrier]:
        """Begin to take one image. A context that is left before ``finish`` leaves nothing there."""
        ...


OpenCarrier = Callable[[bytes], AbstractContextManager[Carrier]]
"""Opens a carrier for an image with this metadata."""
