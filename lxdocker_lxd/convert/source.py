"""The port every place images come from implements: registries, layouts, archives."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from lxdocker_lxd.convert.oci import Descriptor
from lxdocker_lxd.digest import ByteStream, Digest
from lxdocker_lxd.errors import NetworkError


class BlobInterruptedError(NetworkError):
    """A blob's stream ended or broke before its time; what came so far may be kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestBytes:
    """A manifest or index as it came: ``digest`` is the digest of ``raw``.

    ``media_type`` is what the server or descriptor said, empty when nobody said anything.
    """

    raw: bytes
    media_type: str
    digest: Digest


class Source(Protocol):
    """One named image in one place. May be used from several threads."""

    def head(self) -> Digest:
        """Return the digest of what the name stands for now, as cheaply as the place allows."""
        ...

    def manifest(self, digest: Digest | None) -> ManifestBytes:
        """Return the manifest or index with this digest, verified, or (None) what the name means.

        At most ``oci.MANIFEST_LIMIT_BYTES`` are read. Raises NotFoundError, VerificationError,
        NetworkError, AuthenticationError.
        """
        ...

    def blob(self, descriptor: Descriptor, offset_bytes: int) -> AbstractContextManager[ByteStream]:
        """Yield the blob's raw bytes from ``offset_bytes`` on. Nothing is verified yet.

        Raises NotFoundError when the place hasn't got it, BlobInterruptedError when it breaks.
        """
        ...
