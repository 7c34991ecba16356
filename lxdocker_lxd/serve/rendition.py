"""Rendered documents of one site, kept: content, gzip and ETag, each made once and only when asked for.

Rendering runs in a thread, what reads whole files in another one, so that no page waits for those; all who
wait for a document share one rendering, and one who goes away doesn't end it. At most ``most_bytes`` are kept, the least used go first.
"""

import asyncio
import gzip
import hashlib
from collections import Counter, OrderedDict
from concurrent.futures import Executor
from dataclasses import dataclass

from lxdocker_lxd.serve.entry import Document

MOST_BYTES = 128 << 20
_COMPRESSION_LEVEL = 6
_LEAST_BYTES = 860
"""Below, gzip saves no packet."""
_MOST_COUNTED = 10_000
_PACKED_TYPES = ("text/", "application/json", "application/atom+xml", "image/svg+xml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendition:
    """A document as bytes. ``packed`` is the same in gzip where that is smaller."""

    content: bytes
    packed: bytes | None
    etag: str
    media_type: str

    @property
    def size_bytes(self) -> int:
        """What it takes in memory."""
        return len(self.content) + len(self.packed or b"")

    @property
    def packed_etag(self) -> str:
        """The ETag of the gzip form: other bytes, so another tag."""
        return f"{self.etag};gzip"


def rendition(content: bytes, media_type: str) -> Rendition:
    """Return ``content`` with its gzip and ETag; the same bytes whenever it is called."""
    packed = None
    if len(content) >= _LEAST_BYTES and media_type.startswith(_PACKED_TYPES):
        packed = gzip.compress(content, _COMPRESSION_LEVEL, mtime=0)
    return Rendition(
        content=content,
        packed=packed if packed and len(packed) < len(content) else None,
        etag=f"sha256:{hashlib.sha256(content).hexdigest()}",
        media_type=media_type,
    )


class Renditions:
    """The renditions of one site. For one event loop.

    What reads whole files is made in ``file_executor``, if there is one.
    """

    def __init__(
        self,
        executor: Executor,
        *,
        file_executor: Executor | None = None,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._executor = executor
        self._file_executor = file_executor or executor
        self._most_bytes = most_bytes
        self._kept: OrderedDict[str, Rendition] = OrderedDict()
        self._kept_bytes = 0
        self._underway: dict[str, asyncio.Future[Rendition]] = {}
        self._uses: Counter[str] = Counter()

    @property
    def kept_bytes(self) -> int:
        """What all renditions take in memory."""
        return self._kept_bytes

    def popular(self, count: int) -> tuple[str, ...]:
        """Return the paths asked for most, the most popular first."""
        return tuple(path for path, _ in self._uses.most_common(count))

    def has(self, document: Document) -> bool:
        """Whether ``document`` is there and nothing has to be made."""
        return document.path in self._kept

    async def of(self, document: Document) -> Rendition:
        """Return the rendition of ``document``; raises what its rendering raises, each time anew."""
        path = document.path
        self._uses[path] += 1
        if len(self._uses) > _MOST_COUNTED:
            self._uses = Counter(dict(self._uses.most_common(_MOST_COUNTED // 2)))
        kept = self._kept.get(path)
        if kept is not None:
            self._kept.move_to_end(path)
            return kept
        return await self._rendered(document)

    async def _rendered(self, document: Document) -> Rendition:
        underway = self._underway.get(document.path)
        if underway is None:
            loop = asyncio.get_running_loop()
            executor = self._file_executor if document.reads_file else self._executor
            underway = loop.run_in_executor(executor, _render, document)
            self._underway[document.path] = underway
            underway.add_done_callback(lambda done: self._keep(document.path, done))
        return await asyncio.shield(underway)

    def _keep(self, path: str, done: asyncio.Future[Rendition]) -> None:
        del self._underway[path]
        if done.cancelled() or done.exception() is not None:
            return
        self._kept[path] = done.result()
        self._kept_bytes += done.result().size_bytes
        # The newest stays, however large: it was just asked for.
        while self._kept_bytes > self._most_bytes and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= oldest.size_bytes


def _render(document: Document) -> Rendition:
    return rendition(document.render(), document.media_type)
