"""Sites for tests of the stream documents: a catalogue as a few words, and its trees to read."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from lxdocker_lxd.catalogue import SERIAL_FORMAT, Catalogue, Product, Version
from lxdocker_lxd.serve.contents import site
from lxdocker_lxd.serve.entry import Document, Signer
from lxdocker_lxd.serve.site import Site, SiteContext, SiteSettings
from tests.harness.stream_reader import Reader, Stream, read
from tests.unit.catalogues import START, hours
from tests.unit.catalogues import product as plain_product
from tests.unit.catalogues import version as plain_version

NOW = hours(1000)
URL = "https://images.example:8443"


def digest(word: str) -> str:
    """A source's digest, told apart by a word."""
    return "sha256:" + hashlib.sha256(word.encode()).hexdigest()


def made(
    content: str,
    reference: str = "docker.io/library/web:latest",
    *,
    at: datetime = START,
    top: str | None = None,
    manifest: str | None = None,
    image_format: str = "squashfs",
) -> Version:
    """A version published ``at``, of ``reference``; the words stand for its digests."""
    plain = plain_version(content, serial=at.strftime(SERIAL_FORMAT), at=at)
    files = tuple(
        replace(file, path=f"images/{file.sha256}.{suffix}")
        for file, suffix in zip(plain.files, ("lxd.tar.xz", "squashfs"), strict=True)
    )
    source = replace(
        plain.source,
        reference=reference,
        top_digest=digest(top or content),
        manifest_digest=digest(manifest or f"manifest of {content}"),
    )
    return replace(plain, files=files, source=source, image_format=image_format)


def named(
    name: str, *versions: Version, architecture: str = "amd64", aliases: Sequence[str] = ()
) -> Product:
    """A product of these versions; the last is the newest."""
    made_product = plain_product(*versions, name=name, architecture=architecture)
    return replace(made_product, aliases=tuple(aliases))


def context_of(
    *products: Product, at: datetime = NOW, signer: Signer | None = None, **settings: Any
) -> SiteContext:
    """All a part needs, for these products; without delays unless they are given."""
    catalogue = Catalogue(
        products=tuple(sorted(products, key=lambda product: product.key)), updated_at=START
    )
    delays = {"lxe_publish_delay_seconds": 0} | settings
    return SiteContext(
        catalogue=catalogue,
        settings=SiteSettings(base_url=URL, **delays),
        at=at,
        signer=signer,
    )


def site_of(*products: Product, **settings: Any) -> Site:
    """A site of these products; ``at`` and ``signer`` as in :func:`context_of`."""
    return site(context_of(*products, **settings))


def content_of(site: Site, path: str) -> bytes:
    """The document at ``path``; KeyError when there is none."""
    found = site.find(path)
    if not isinstance(found, Document):
        raise KeyError(path)
    return found.render()


def fetcher(site: Site, root: str = "") -> Callable[[str], bytes]:
    """Fetches documents below ``root``."""
    return lambda path: content_of(site, root + path)


def stream(
    site: Site, root: str = "", *, reader: Reader = Reader.LXD_5_0_2, native: str = "x86_64"
) -> Stream:
    """What a reader finds in the tree at ``root``; StreamError when it would lose anything."""
    return read(fetcher(site, root), reader, native=native)


def roots_of(site: Site) -> list[str]:
    """The root of every tree of the site."""
    end = "streams/v1/index.json"
    return [entry.path.removesuffix(end) for entry in site.entries() if entry.path.endswith(end)]


def file_contents(versions: Iterable[Version]) -> dict[str, bytes]:
    """The bytes that :func:`made` gave the files of these versions, by path."""
    found: dict[str, bytes] = {}
    for version in versions:
        (content,) = version.rebuild_key.split("key of ")[1:]
        for file, word in zip(version.files, ("meta", "root"), strict=True):
            found[file.path] = f"{word} {content}".encode()
    return found


def minutes(count: float) -> datetime:
    """The moment so many minutes after START."""
    return START + timedelta(minutes=count)
