"""A directory of published images with real bytes, and the server's parts over it, in this process.

shelf = Shelf(tmp_path)
web = shelf.publish("web", b"a root filesystem")
async with shelf.open() as house:
    answer = await house.ask("GET", "/" + web.path)
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from lxdocker_lxd.catalogue import Catalogue, FileRole, Product, PublishedFile, next_serial
from lxdocker_lxd.catalogue_directory import CatalogueDirectory
from lxdocker_lxd.catalogue_document import render
from lxdocker_lxd.serve import app, contents
from lxdocker_lxd.serve.exchange import Exchange
from lxdocker_lxd.serve.file_body import Disk
from lxdocker_lxd.serve.guard import App, Guard
from lxdocker_lxd.serve.metrics import Metrics
from lxdocker_lxd.serve.peer import Places
from lxdocker_lxd.serve.publication import Publication
from lxdocker_lxd.serve.replies import House, Replies
from lxdocker_lxd.serve.server_log import ServerLog
from lxdocker_lxd.serve.site import Site, SiteContext, SiteSettings
from tests.unit.catalogues import product, version

SUFFIXES: dict[FileRole, str] = {"metadata": ".meta.tar", "rootfs": ".squashfs"}


class Shelf:
    """A catalogue directory; ``publish`` adds a version as the converter would."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.source = CatalogueDirectory(directory)
        self.source.images.mkdir(parents=True, exist_ok=True)

    def put(self, role: FileRole, content: bytes) -> PublishedFile:
        """Write a published file; who reads it under this name finds it whole, as the converter's."""
        digest = hashlib.sha256(content).hexdigest()
        path = f"images/{digest}{SUFFIXES[role]}"
        fresh = self.directory / "images" / ".fresh"
        fresh.write_bytes(content)
        fresh.replace(self.directory / path)
        return PublishedFile(role=role, path=path, sha256=digest, size_bytes=len(content))

    def publish(
        self, name: str, rootfs: bytes, *, at: datetime | None = None, keep: int = 3
    ) -> PublishedFile:
        """Publish a version with these bytes for a root filesystem; return that file."""
        at = at or datetime.now(UTC).replace(microsecond=0)
        meta, root = self.put("metadata", f"meta {name}".encode()), self.put("rootfs", rootfs)
        both = f"meta {name}".encode() + rootfs
        made = replace(version(name), files=(meta, root), published_at=at)
        made = replace(made, fingerprint=hashlib.sha256(both).hexdigest())

        def change(catalogue: Catalogue) -> Catalogue:
            listed = replace(product(made, name=name), aliases=())
            serial = next_serial(catalogue.product(name, "amd64"), at)
            return catalogue.published(listed, replace(made, serial=serial), keep=keep, at=at)

        self.source.change(change)
        return root

    def write(self, *products: Product) -> None:
        """Publish records whose files are nowhere."""
        catalogue = Catalogue(products=tuple(sorted(products, key=lambda one: one.key)))
        (self.directory / "catalogue.json").write_bytes(render(catalogue))

    @contextlib.asynccontextmanager
    async def open(self, **changes: Any) -> AsyncIterator["InProcess"]:
        """Yield the server's parts over this directory, without sockets."""
        house = InProcess(self, **changes)
        await house.publication.refresh()
        try:
            yield house
        finally:
            house.close()


@dataclass
class Answered:
    """What a client got."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    is_whole: bool = False


class InProcess:
    """Publication, replies, app and guard; requests are ASGI calls."""

    def __init__(
        self,
        shelf: Shelf,
        *,
        downloads: int = 10,
        stall_seconds: float = 5.0,
        files_only: bool = False,
        audience: Literal["local", "all", "none"] = "local",
        authority: bytes | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        compose: Callable[[SiteContext], Site] = contents.site,
    ) -> None:
        self.lines: list[str] = []
        self.log = ServerLog(self.lines.append, now=now, journal=True)
        self.disk = ThreadPoolExecutor(2)
        self.metrics = Metrics()
        self.downloads: Places[Exchange] = Places(downloads)
        self.problem: str | None = None
        self.publication = Publication(
            shelf.source,
            SiteSettings(base_url="https://images.example.org"),
            signer=None,
            now=now,
            log=self.log,
            compose=compose,
        )
        replies = Replies(
            publication=self.publication,
            house=House(
                problem=lambda: self.problem or self.publication.problem,
                metrics=self.metrics.text,
                metrics_audience=audience,
                authority=lambda: authority,
            ),
            disk=Disk(self.disk),
            log=self.log,
        )
        self.app: App = Guard(
            app.create(replies, self.log),
            downloads=self.downloads,
            stall_seconds=stall_seconds,
            metrics=self.metrics,
            log=self.log,
            files_only=files_only,
        )

    def close(self) -> None:
        """End the threads."""
        self.disk.shutdown()
        self.publication.close(wait=True)

    async def ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        *,
        client: str | None = "192.0.2.7",
    ) -> Answered:
        """Make a request and take the whole answer."""
        answered = Answered()

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                answered.status = message["status"]
                answered.headers = {
                    name.decode().lower(): value.decode() for name, value in message["headers"]
                }
            else:
                answered.body += message.get("body", b"")
                answered.is_whole = not message.get("more_body", False)

        await self.app(scope(method, target, headers, client=client), receive_nothing, send)
        return answered


def scope(
    method: str,
    target: str,
    headers: Mapping[str, str] | None = None,
    *,
    client: str | None = "192.0.2.7",
) -> dict[str, Any]:
    """The ASGI scope of a request, as hypercorn makes it."""
    path, _, query = target.partition("?")
    given = {"host": "images.example.org", **(headers or {})}
    return {
        "type": "http",
        "http_version": "1.1",
        "asgi": {"spec_version": "2.1", "version": "3.0"},
        "method": method,
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
        "client": (client, 4711) if client else None,
        "server": None,
        "state": {},
        "extensions": {},
    }


async def receive_nothing() -> dict[str, Any]:
    """A client that has nothing more to say, and never goes away."""
    await asyncio.Event().wait()
    return {"type": "http.disconnect"}
