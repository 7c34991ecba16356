"""What lxc-create's download template reads: indexes, metadata and root filesystems.

Pure. A line of an index is ``dist;release;arch;variant;build;path``, without a heading. Only versions
with a root filesystem for LXC are there, the newest of each product under the release
``current``; the files of the versions before it stay, for who has read an earlier index. The index
is the same for all clients: inside a user namespace they read ``index-user``, and those of
compatibility level 5 (LXC 3) and 7 (LXC 4 and newer) ask for a twin with that ending first, and
three times before they take the other. Older ones know neither ``lxc.init.cmd`` nor our other keys.

The template joins paths with a slash too many; who serves them collapses that.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial
from urllib.parse import quote

from lxdocker_lxd.catalogue import Product, Version
from lxdocker_lxd.serve.entry import Document, Entry, FileEntry
from lxdocker_lxd.serve.lxc_metadata import metadata_archive
from lxdocker_lxd.serve.site import FILE_MEDIA_TYPE, SiteContext

RELEASE, VARIANT = "current", "default"

_INDEXES = ("index-system", "index-user")
_ENDINGS = ("", ".5", ".7")
_INDEX_MEDIA_TYPE = "text/plain; charset=utf-8"
_ARCHIVE_MEDIA_TYPE = "application/x-xz"
_SIGNATURE_MEDIA_TYPE = "application/pgp-signature"
# Neither a field's end nor a line's, nor a step to another directory.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+%@-]*")


def entries(context: SiteContext) -> Iterator[Entry]:
    """Yield the indexes and the files they name."""
    products = [product for product in context.catalogue.products if is_listable(product)]
    index = "".join(map(_line, products)).encode()
    for name in _INDEXES:
        for ending in _ENDINGS:
            path = f"meta/1.0/{name}{ending}"
            yield from _document(context, path, _INDEX_MEDIA_TYPE, lambda: index)
    for product in context.catalogue.products:
        for version in product.versions:
            yield from _version_entries(context, product, version)


def directory(product: Product, version: Version) -> str:
    """Return the directory of a version's two files, with a slash at its end."""
    return f"lxc/{product.name}/{product.architecture}/{version.serial}/"


def rootfs_path(product: Product, version: Version) -> str | None:
    """Return where a version's root filesystem for plain LXC is, if it has one that is offered."""
    if version.file("lxc-rootfs") is None or version.lxc is None or not _has_name(product):
        return None
    return f"{directory(product, version)}rootfs.tar.xz"


def is_listable(product: Product) -> bool:
    """Whether the indexes have a line for ``product``: lxc-create can make a container of it."""
    return rootfs_path(product, product.newest) is not None


def _version_entries(context: SiteContext, product: Product, version: Version) -> Iterator[Entry]:
    rootfs, settings = version.file("lxc-rootfs"), version.lxc
    path = rootfs_path(product, version)
    if rootfs is None or settings is None or path is None:
        return
    place = directory(product, version)
    render = partial(metadata_archive, product, version, settings)
    yield from _document(context, f"{place}meta.tar.xz", _ARCHIVE_MEDIA_TYPE, render)
    yield FileEntry(path=path, media_type=FILE_MEDIA_TYPE, file=rootfs)
    if context.signer is not None:
        sign = partial(context.signer.detached_file, rootfs)
        yield Document(
            path=f"{path}.asc",
            media_type=_SIGNATURE_MEDIA_TYPE,
            render=sign,
            reads_file=True,
        )


def _document(
    context: SiteContext, path: str, media_type: str, render: Callable[[], bytes]
) -> Iterator[Entry]:
    """Yield a document and, with a signer, its signature."""
    yield Document(path=path, media_type=media_type, render=render)
    signer = context.signer
    if signer is not None:
        yield Document(
            path=f"{path}.asc",
            media_type=_SIGNATURE_MEDIA_TYPE,
            render=lambda: signer.detached(render()),
        )


def _has_name(product: Product) -> bool:
    return all(_NAME.fullmatch(part) for part in product.key)


def _line(product: Product) -> str:
    version = product.newest
    place = quote(directory(product, version))
    fields = (product.name, RELEASE, product.architecture, VARIANT, version.serial, place)
    return ";".join(fields) + "\n"
