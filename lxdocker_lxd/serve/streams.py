"""Simplestreams trees, as LXD and Incus read them: the main one and one for each registry.

Pure. A tree is ``streams/v1/index.json``, ``streams/v1/images.json`` and the files they name, all
below one root. With a signer also ``index.sjson`` and ``images.sjson`` (clear-signed; that index
leads to that products document) and ``index.json.gpg`` and ``images.json.gpg`` (detached,
armoured). LXD reads none of the signed ones; the tools of simplestreams' own project do.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from lxdocker_lxd.catalogue import Version
from lxdocker_lxd.serve import views
from lxdocker_lxd.serve.alias_claims import Claim, settled
from lxdocker_lxd.serve.entry import Document, Entry, FileEntry, Signer
from lxdocker_lxd.serve.site import FILE_MEDIA_TYPE, SiteContext
from lxdocker_lxd.serve.staging import next_change as next_staging_change
from lxdocker_lxd.serve.staging import standing
from lxdocker_lxd.serve.stream_document import (
    IMAGES_PATH,
    INDEX_PATH,
    RELEASE,
    VARIANT,
    Listing,
    images_document,
    index_document,
    product_key,
    stream_files,
)

MAIN_ROOT = ""

_JSON = "application/json"
_SIGNED_JSON = "text/plain; charset=utf-8"
_SIGNATURE = "application/pgp-signature"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tree:
    """One root, what it lists (worked out when first asked for), and the versions it needs."""

    root: str
    listings: Callable[[], Sequence[Listing]]
    versions: Sequence[Version]


def entries(context: SiteContext) -> Iterator[Entry]:
    """Yield the stream documents and the listed files of every root."""
    for tree in _trees(context):
        yield from _documents(tree, context)
        for version in tree.versions:
            for file in stream_files(version) or ():
                path = tree.root + file.path
                yield FileEntry(path=path, media_type=FILE_MEDIA_TYPE, file=file)


def roots(context: SiteContext) -> tuple[str, ...]:
    """Return the prefix of every tree: empty for the main one, else with a slash at its end."""
    return (MAIN_ROOT, *(view.root for view in views.members(context.catalogue)))


def next_change(context: SiteContext) -> datetime | None:
    """Return when a staged version gets its aliases, in whichever tree is first; None if never."""
    settings = context.settings
    moments = (
        next_staging_change(context.catalogue.products, delay_seconds=delay, at=context.at)
        for delay in {settings.publish_delay_seconds, settings.lxe_publish_delay_seconds}
    )
    return min((moment for moment in moments if moment is not None), default=None)


def main_listings(context: SiteContext) -> Iterator[Listing]:
    """Yield what the main tree lists: every version once, each alias at one of them."""
    current = _standing(context, context.settings.publish_delay_seconds)
    aliases = settled(_claims(context))
    seen: set[str] = set()
    for product in context.catalogue.products:
        for version in reversed(product.versions):
            files = stream_files(version)
            if version.fingerprint in seen or files is None:
                continue
            seen.add(version.fingerprint)
            key = product_key(product, version, standing=current[product.key] is version)
            yield Listing(
                key=key,
                product=product,
                version=version,
                files=files,
                aliases=aliases.get(key, ()),
            )


def _claims(context: SiteContext) -> Iterator[Claim]:
    """Yield the aliases of products: names first, then what is derived of them, then further ones."""
    groups: tuple[Callable[[str, Sequence[str]], Sequence[str]], ...] = (
        lambda name, _: (name,),
        lambda name, _: (f"{name}/{RELEASE}", f"{name}/{RELEASE}/{VARIANT}"),
        lambda _, further: further,
    )
    for group in groups:
        for product in context.catalogue.products:
            key = product_key(product, product.newest, standing=True)
            for alias in group(product.name, product.aliases):
                yield Claim(holder=key, architecture=product.architecture, alias=alias)


def _standing(context: SiteContext, delay_seconds: int) -> views.Standing:
    return {
        product.key: standing(product, delay_seconds=delay_seconds, at=context.at)
        for product in context.catalogue.products
    }


def _trees(context: SiteContext) -> Iterator[_Tree]:
    yield _Tree(
        root=MAIN_ROOT,
        listings=functools.cache(lambda: tuple(main_listings(context))),
        versions=tuple(
            version for product in context.catalogue.products for version in product.versions
        ),
    )
    current = functools.cache(
        lambda: _standing(context, context.settings.lxe_publish_delay_seconds)
    )
    for view, images in views.members(context.catalogue).items():
        yield _Tree(
            root=view.root,
            listings=functools.cache(functools.partial(_view_listings, view, images, current)),
            versions=tuple(image.version for image in images),
        )


def _view_listings(
    view: views.View, images: Sequence[views.Member], current: Callable[[], views.Standing]
) -> tuple[Listing, ...]:
    return tuple(views.listings(view, images, current()))


def _documents(tree: _Tree, context: SiteContext) -> Iterator[Document]:
    updated_at = context.catalogue.updated_at

    def index(suffix: str) -> bytes:
        return index_document(tree.listings(), updated_at=updated_at, suffix=suffix)

    def images() -> bytes:
        return images_document(tree.listings(), updated_at=updated_at)

    plain_index = functools.partial(index, ".json")
    signed_index = functools.partial(index, ".sjson")
    for path, plain, signed in (
        (INDEX_PATH, plain_index, signed_index),
        (IMAGES_PATH, images, images),
    ):
        yield Document(path=f"{tree.root}{path}.json", media_type=_JSON, render=plain)
        if context.signer is not None:
            yield from _signatures(tree.root + path, plain, signed, context.signer)


def _signatures(
    path: str, plain: Callable[[], bytes], signed: Callable[[], bytes], signer: Signer
) -> Iterator[Document]:
    yield Document(
        path=f"{path}.sjson",
        media_type=_SIGNED_JSON,
        render=lambda: signer.clear_signed(signed()),
    )
    yield Document(
        path=f"{path}.json.gpg",
        media_type=_SIGNATURE,
        render=lambda: signer.detached(plain()),
    )
