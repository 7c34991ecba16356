"""What the server answers from: the site of the catalogue as it is now, replaced when that changes.

The catalogue's file is looked at every fifth of a second. A new site is built in a thread, and what
clients asked for most is rendered before it takes the old one's place in a single assignment; so
every request is answered from one catalogue. Who asks for a document just after a change waits for
the new site: LXD keeps what it reads for an hour. A catalogue that can't be read, and one that
vanished, leave the last good site in service; :attr:`Publication.problem` says so.
"""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from lxdocker_lxd.atomic import storage_error
from lxdocker_lxd.catalogue import Catalogue
from lxdocker_lxd.catalogue_directory import CatalogueDirectory
from lxdocker_lxd.errors import LxdockerError, NotFoundError
from lxdocker_lxd.serve import contents
from lxdocker_lxd.serve.entry import Document, Signer
from lxdocker_lxd.serve.rendition import Renditions
from lxdocker_lxd.serve.server_log import ServerLog
from lxdocker_lxd.serve.site import Site, SiteContext, SiteSettings

LOOK_SECONDS = 0.2
FRESH_SECONDS = 5.0
"""How long a request waits for the site of a catalogue that just changed."""

FIRST_DOCUMENTS = ("streams/v1/index.json", "streams/v1/images.json", "index.html")
_MOST_PREPARED = 100
_PREPARATION_SECONDS = 10.0
_MOST_SEARCHES_BYTES = 16 << 20
_REREADS = 10
"""How often a changed file is read: two written within a moment may look the same from outside."""
_RETRY_SECONDS = 5.0

_Look = tuple[int, int, int, int] | None
_Made = TypeVar("_Made")


@dataclass(frozen=True, slots=True)
class PublishedSite:
    """A site, what it was made from, its renditions, and the pages of what was searched for."""

    context: SiteContext
    site: Site
    renditions: Renditions
    searches: Renditions


class Publication:
    """The current site of one catalogue directory. For one event loop."""

    def __init__(
        self,
        directory: CatalogueDirectory,
        settings: SiteSettings,
        *,
        signer: Signer | None,
        now: Callable[[], datetime],
        log: ServerLog,
        compose: Callable[[SiteContext], Site] = contents.site,
    ) -> None:
        self.directory = directory.directory
        self._source = directory
        self._settings = settings
        self._signer = signer
        self._compose = compose
        self._now = now
        self._log = log
        # Apart, so that neither searches nor signatures over large files keep a page or a new site waiting.
        self._executor = ThreadPoolExecutor(2, thread_name_prefix="render")
        self._file_executor = ThreadPoolExecutor(1, thread_name_prefix="sign")
        self._search_executor = ThreadPoolExecutor(1, thread_name_prefix="search")
        self._looked: _Look = None
        self._settled: _Look = None
        self._refreshing: asyncio.Task[bool] | None = None
        self._rereads = 0
        self._is_broken = False
        self._retry_at = 0.0
        self._turn = asyncio.Lock()
        self.in_service = False
        """Whether a catalogue, be it an empty one, was ever read. Before, there is nothing to list."""
        self.problem: str | None = "the catalogue was not read yet"
        self.changed_at = now()
        self.rebuild_seconds = 0.0
        self.current = self._published(Catalogue(), now())

    async def refresh(self) -> bool:
        """Look at the catalogue; return whether another site is in service now. Never raises."""
        async with self._turn:
            try:
                return await self._refresh()
            except LxdockerError as error:
                self._failed(error)
            except Exception as error:  # noqa: BLE001 - a bug in one site must not end the server
                self._failed(error)
            finally:
                self._settled = self._looked
            return False

    async def fresh(self) -> PublishedSite:
        """Return the site in service, after a change the new one, waited for at most FRESH_SECONDS.

        A listing from before a version would hide it from the LXD that asks for an hour.
        """
        # Inline: one look costs less than handing it to a thread.
        if self._is_changed():
            if self._refreshing is None or self._refreshing.done():
                self._refreshing = asyncio.create_task(self.refresh())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FRESH_SECONDS):
                    # One client that leaves must not end what others wait for.
                    await asyncio.shield(self._refreshing)
        return self.current

    def _is_changed(self) -> bool:
        """Whether the file differs from the one that was last made into a site, or tried."""
        try:
            return _appearance(self._source.document) != self._settled
        except OSError:
            return False

    async def watch(self) -> None:
        """Keep the site fresh until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(LOOK_SECONDS)

    def close(self, *, wait: bool) -> None:
        """End the threads; with ``wait`` after what they do now."""
        for pool in (self._executor, self._file_executor, self._search_executor):
            pool.shutdown(wait=wait, cancel_futures=True)

    async def _refresh(self) -> bool:
        look = await self._in_thread(self._look)
        if look != self._looked:
            self._looked, self._rereads = look, _REREADS
        now = self._now()
        next_change = self.current.site.next_change
        due = next_change is not None and now >= next_change
        if self.in_service and not due and not self._reads_again():
            return False
        self._is_broken = True
        catalogue = await self._in_thread(self._source.read)
        same = self.in_service and catalogue is self.current.context.catalogue
        if due or not same:
            await self._replace(catalogue, now)
        self._is_broken, self.problem = False, None
        return due or not same

    def _reads_again(self) -> bool:
        """Whether the file must be read though it looks as before."""
        loop_time = asyncio.get_running_loop().time()
        if self._rereads:
            self._rereads -= 1
        elif self._is_broken and loop_time >= self._retry_at:
            self._retry_at = loop_time + _RETRY_SECONDS
        else:
            if not self._is_broken:
                self.problem = None
            return False
        return True

    def _look(self) -> _Look:
        """Return what tells one catalogue file from the next; raise LxdockerError where none is."""
        try:
            return _appearance(self._source.document)
        except FileNotFoundError:
            self._refuse_loss()
            return None
        except OSError as error:
            raise storage_error("read", self._source.document, error) from error

    def _refuse_loss(self) -> None:
        """Raise NotFoundError unless the catalogue was never there, in a directory that is."""
        if not self.directory.is_dir():
            raise NotFoundError(
                f"{self.directory} does not exist",
                hint="lxdocker-lxd convert makes it; or name another one with --lxdimages",
            )
        if self._looked is not None:
            # An unmounted disk looks like this; nobody's images should vanish with it.
            raise NotFoundError(
                f"{self._source.document} is gone; serving what it held last",
                hint="restart the server if nothing is to be published any more",
            )

    async def _replace(self, catalogue: Catalogue, now: datetime) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        published = await self._in_thread(lambda: self._published(catalogue, now))
        await self._prepare(published)
        self.current = published
        self.in_service = True
        self.changed_at = now
        self.rebuild_seconds = loop.time() - began

    def _published(self, catalogue: Catalogue, now: datetime) -> PublishedSite:
        context = SiteContext(
            catalogue=catalogue, settings=self._settings, at=now, signer=self._signer
        )
        return PublishedSite(
            context,
            self._compose(context),
            Renditions(self._executor, file_executor=self._file_executor),
            Renditions(self._search_executor, most_bytes=_MOST_SEARCHES_BYTES),
        )

    async def _prepare(self, published: PublishedSite) -> None:
        """Render what clients will ask for first, for a limited time.

        A site whose first documents can't be made raises why; others, a signature perhaps, are
        left to those who ask for them.
        """
        popular = self.current.renditions.popular(_MOST_PREPARED)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PREPARATION_SECONDS):
                for path in FIRST_DOCUMENTS:
                    await self._render(published, path)
                for path in popular:
                    await asyncio.gather(self._render(published, path), return_exceptions=True)

    async def _render(self, published: PublishedSite, path: str) -> None:
        entry = published.site.find(path)
        if isinstance(entry, Document):
            await published.renditions.of(entry)

    async def _in_thread(self, work: Callable[[], _Made]) -> _Made:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def _failed(self, error: Exception) -> None:
        problem = error.message if isinstance(error, LxdockerError) else repr(error)
        if problem != self.problem:
            self._log.failed("catalogue", error)
        self.problem = problem


def _appearance(document: Path) -> _Look:
    """Return what tells one catalogue file from the next without reading it; raise OSError."""
    status = document.stat()
    return status.st_mtime_ns, status.st_ino, status.st_size, status.st_ctime_ns
