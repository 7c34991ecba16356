"""What every request is answered with: paths looked up in the current site, nothing else.

Knows no web framework and no socket. A name leads to a document of the site, to a published file by
its digest, or to nowhere: no request ever becomes a path on the disk.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal
from urllib.parse import quote

from lxdocker_lxd.errors import LxdockerError, NotFoundError
from lxdocker_lxd.serve import request_path
from lxdocker_lxd.serve.answer import (
    IMMUTABLE,
    REVALIDATE,
    Answer,
    Facts,
    answer,
    takes_gzip,
)
from lxdocker_lxd.serve.entry import Document, FileEntry
from lxdocker_lxd.serve.exchange import Exchange
from lxdocker_lxd.serve.file_body import Disk
from lxdocker_lxd.serve.metrics import MEDIA_TYPE as METRICS_TYPE
from lxdocker_lxd.serve.pages import catalog
from lxdocker_lxd.serve.pages.static_files import STATIC_FILES
from lxdocker_lxd.serve.peer import Peer, Turns
from lxdocker_lxd.serve.publication import Publication, PublishedSite
from lxdocker_lxd.serve.rendition import Rendition, Renditions
from lxdocker_lxd.serve.server_log import ServerLog, quoted

METHODS = ("GET", "HEAD")
HTML = "text/html; charset=utf-8"
_TEXT = "text/plain; charset=utf-8"
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)
_NEVER_CHANGE = frozenset(file.path for file in STATIC_FILES.values())
_RETRY_SECONDS = "30"
_MOST_SEARCHED = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole answer. ``body`` is empty for HEAD, though the headers speak of one."""

    status: int
    headers: Mapping[str, str]
    body: bytes | AsyncIterator[bytes] = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request: ``raw_path`` as it came, ``headers`` found by name in any case."""

    method: str
    raw_path: bytes
    headers: Mapping[str, str]
    search: str | None
    exchange: Exchange

    @property
    def is_local(self) -> bool:
        """Whether it comes from this machine, and no proxy says it passes on another's."""
        if any(name in self.headers for name in ("X-Forwarded-For", "Forwarded", "Via")):
            return False
        return self.exchange.client is None or self.exchange.peer.is_loopback


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What the server itself can tell: its health, its counters and its authority's certificate.

    ``problem`` is told to everybody.
    """

    problem: Callable[[], str | None]
    metrics: Callable[[], bytes]
    metrics_audience: Literal["local", "all", "none"]
    authority: Callable[[], bytes | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replies:
    """Answers requests from a publication, and with files from ``disk``.

    What has to be made first is made for one request of a peer at a time.
    """

    publication: Publication
    house: House
    disk: Disk
    log: ServerLog
    turns: Turns = field(default_factory=Turns)
    file_turns: Turns = field(default_factory=Turns)
    """For what reads whole files."""

    async def to(self, asked: Asked) -> Reply:
        """Return the answer; only bugs raise."""
        if asked.method not in METHODS:
            return _line(405, "only GET and HEAD are answered", Allow=", ".join(METHODS))
        try:
            path = request_path.parse(asked.raw_path)
        except request_path.PathError as error:
            return _line(400, error.message)
        reply = await self._found(path, asked)
        if asked.method == "HEAD" and isinstance(reply.body, bytes):
            return Reply(status=reply.status, headers=reply.headers)
        return reply

    async def _found(self, path: str, asked: Asked) -> Reply:
        if asked.exchange.files_only:
            entry = self.publication.current.site.find(path)
            if isinstance(entry, FileEntry) and _names_digest(entry):
                return await self._file(entry, asked)
            return _line(404, "only image files are served here")
        own = self._of_house(path, asked)
        return own if own is not None else await self._of_site(path, asked)

    async def _of_site(self, path: str, asked: Asked) -> Reply:
        published = await self.publication.fresh()
        if not self.publication.in_service:
            # LXD would keep an empty listing for an hour; at an error it stays with the one it has.
            return _busy("the images can't be listed yet")
        if not path and asked.search is not None:
            return await self._search(asked, published)
        directory = not path or path.endswith("/")
        entry = published.site.find(path + request_path.INDEX if directory else path)
        if isinstance(entry, FileEntry):
            return await self._file(entry, asked)
        if isinstance(entry, Document):
            return await self._document(entry, asked, published)
        if not directory and published.site.find(f"{path}/{request_path.INDEX}"):
            name = path.rpartition("/")[2]
            # Relative, so that it holds behind a proxy too; "./" lets no name be taken for a scheme.
            return _line(308, "this is a directory", Location=f"./{quote(name)}/")
        return _line(404, "there is nothing of this name")

    async def _document(self, entry: Document, asked: Asked, published: PublishedSite) -> Reply:
        asked.exchange.kind = "document"
        try:
            found = await self._made(entry, published.renditions, asked.exchange.peer)
        except LxdockerError as error:
            self.log.failed(f"make {quoted(entry.path)}", error)
            return _busy("the document can't be made now")
        cache = IMMUTABLE if entry.path in _NEVER_CHANGE else REVALIDATE
        return _rendered(found, asked, cache)

    async def _search(self, asked: Asked, published: PublishedSite) -> Reply:
        asked.exchange.kind = "document"
        query = (asked.search or "")[:_MOST_SEARCHED]
        page = Document(
            path=f"?q={query}",
            media_type=HTML,
            render=partial(catalog.search_page, published.context, query),
        )
        found = await self._made(page, published.searches, asked.exchange.peer)
        return _rendered(found, asked, REVALIDATE)

    async def _made(self, document: Document, renditions: Renditions, peer: Peer) -> Rendition:
        if renditions.has(document):
            return await renditions.of(document)
        turns = self.file_turns if document.reads_file else self.turns
        return await turns.do(peer, lambda: renditions.of(document))

    async def _file(self, entry: FileEntry, asked: Asked) -> Reply:
        asked.exchange.kind = "file"
        try:
            file = await self.disk.opened(self.publication.directory, entry.file)
        except NotFoundError as error:
            self.log.failed("serve", error)
            return _line(404, "the file is gone")
        except LxdockerError as error:
            self.log.failed("serve", error)
            return _line(500, "the file can't be read")
        asked.exchange.at_end(file.close)
        found = answer(
            Facts(
                etag=f"sha256:{entry.file.sha256}",
                size_bytes=file.size_bytes,
                media_type=entry.media_type,
                cache=IMMUTABLE if _names_digest(entry) else REVALIDATE,
                modified_at=file.modified_at,
            ),
            asked.headers,
        )
        if asked.method == "HEAD" or found.status not in (200, 206):
            return _without_body(found)
        if not asked.exchange.begins_download():
            return _busy("too many downloads at once")
        body = file.blocks(found.start, found.stop, self.disk)
        return Reply(status=found.status, headers=found.headers, body=body)

    def _of_house(self, path: str, asked: Asked) -> Reply | None:
        """Answer what is asked of the server itself, outside the site."""
        match path:
            case "healthz":
                return _line(200, "ok")
            case "readyz":
                return self._readiness()
            case "metrics":
                return self._metrics(asked)
            case "ca.crt" if (authority := self.house.authority()) is not None:
                return _content(authority, "application/x-pem-file")
            case _:
                return None

    def _readiness(self) -> Reply:
        problem = self.house.problem()
        if problem is None:
            return _line(200, "ready")
        return _line(503, f"not ready: {problem}")

    def _metrics(self, asked: Asked) -> Reply:
        audience = self.house.metrics_audience
        if audience == "none":
            return _line(403, "the metrics are off; the setting `metrics` says for whom they are")
        if audience == "local" and not asked.is_local:
            return _line(403, "the metrics are for this machine only")
        return _content(self.house.metrics(), METRICS_TYPE)


def _rendered(found: Rendition, asked: Asked, cache: str) -> Reply:
    """Answer with a rendition, in gzip where that is welcome; ranges are of the plain text."""
    packed = takes_gzip(asked.headers) and "Range" not in asked.headers and found.packed
    content = packed or found.content
    decided = answer(
        Facts(
            etag=found.packed_etag if packed else found.etag,
            size_bytes=len(content),
            media_type=found.media_type,
            cache=cache,
        ),
        asked.headers,
    )
    headers = dict(decided.headers)
    if found.packed:
        headers["Vary"] = "Accept-Encoding"
    if packed and decided.status == 200:  # noqa: PLR2004 - HTTP's own number
        headers["Content-Encoding"] = "gzip"
    if found.media_type.startswith(("text/html", "image/svg+xml")):
        headers["Content-Security-Policy"] = _POLICY
        headers["Referrer-Policy"] = "same-origin"
    if decided.status not in (200, 206):
        return _without_body(Answer(status=decided.status, headers=headers))
    return Reply(status=decided.status, headers=headers, body=content[decided.start : decided.stop])


def _without_body(found: Answer) -> Reply:
    """Return a HEAD's answer, 304, 412 or 416; errors get their line."""
    if found.status < 400:  # noqa: PLR2004 - HTTP's own number
        return Reply(status=found.status, headers=found.headers)
    text = "no such range" if found.status == 416 else "the condition does not hold"  # noqa: PLR2004
    return _line(found.status, text, **found.headers)


def _line(status: int, text: str, **headers: str) -> Reply:
    """Return a line of text; hyphens of header names are written as they are."""
    reply = _content(f"{text}\n".encode(), _TEXT)
    return Reply(status=status, headers={**headers, **reply.headers}, body=reply.body)


def _busy(text: str) -> Reply:
    return _line(503, text, **{"Retry-After": _RETRY_SECONDS})


def _content(content: bytes, media_type: str) -> Reply:
    headers = {
        "Content-Type": media_type,
        "Content-Length": str(len(content)),
        "Cache-Control": "no-store",
    }
    return Reply(status=200, headers=headers, body=content)


def _names_digest(entry: FileEntry) -> bool:
    """Whether the name is made of the file's digest, and so will never mean anything else."""
    return entry.path.rpartition("/")[2].startswith(entry.file.sha256)
