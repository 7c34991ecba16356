"""A source made of Python objects, which counts what is asked of it and can misbehave."""

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator

from lxdocker_lxd.convert.oci import Descriptor
from lxdocker_lxd.convert.source import BlobInterruptedError, ManifestBytes
from lxdocker_lxd.digest import ByteStream, Digest
from lxdocker_lxd.errors import NotFoundError
from tests.harness.tiny_image import TinyImage


class FakeSource:
    """Serves one image. ``asked`` counts requests: ``head``, ``top``, ``DIGEST``, ``DIGEST@N``."""

    def __init__(self, image: TinyImage) -> None:
        self.image = image
        self.contents = {**image.blobs, image.digest: image.manifest}
        self.asked: Counter[str] = Counter()
        self.break_after: dict[str, list[int]] = {}
        self.on_blob: Callable[[str], None] = lambda _digest: None
        self._lock = threading.Lock()

    def retag(self, image: TinyImage) -> None:
        """Let the name stand for another image."""
        self.image = image
        self.contents |= {**image.blobs, image.digest: image.manifest}

    def break_next(self, digest: str, after_bytes: int) -> None:
        """Break the next stream of this blob after so many bytes."""
        self.break_after.setdefault(digest, []).append(after_bytes)

    def head(self) -> Digest:
        self._count("head")
        return Digest.parse(self.image.digest)

    def manifest(self, digest: Digest | None) -> ManifestBytes:
        self._count(str(digest) if digest else "top")
        wanted = digest or Digest.parse(self.image.digest)
        if str(wanted) not in self.contents:
            raise NotFoundError(f"no manifest {wanted}")
        media_type = self.image.media_type if digest is None else ""
        return ManifestBytes(raw=self.contents[str(wanted)], media_type=media_type, digest=wanted)

    @contextlib.contextmanager
    def blob(self, descriptor: Descriptor, offset_bytes: int) -> Iterator[ByteStream]:
        name = str(descriptor.digest)
        self._count(f"{name}@{offset_bytes}")
        self.on_blob(name)
        if name not in self.contents:
            raise NotFoundError(f"no blob {name}")
        breaks = self.break_after.get(name)
        after_bytes = breaks.pop(0) if breaks else None
        yield BrittleStream(self.contents[name][offset_bytes:], after_bytes)

    def blob_requests(self) -> list[str]:
        """Return which blobs were asked for, with the offsets."""
        return sorted(name for name in self.asked.elements() if "@" in name)

    def _count(self, name: str) -> None:
        with self._lock:
            self.asked[name] += 1


class BrittleStream:
    """Bytes in small pieces; raises BlobInterruptedError after ``after_bytes``."""

    def __init__(
        self, content: bytes, after_bytes: int | None = None, piece_bytes: int = 7
    ) -> None:
        self._content = content
        self._left_bytes = after_bytes
        self._piece_bytes = piece_bytes

    def read(self, size: int = -1, /) -> bytes:
        if self._left_bytes is not None and self._left_bytes <= 0:
            raise BlobInterruptedError("the connection broke")
        wanted = self._piece_bytes if size < 0 else min(size, self._piece_bytes)
        if self._left_bytes is not None:
            wanted = min(wanted, self._left_bytes)
            self._left_bytes -= wanted
        data, self._content = self._content[:wanted], self._content[wanted:]
        return data
