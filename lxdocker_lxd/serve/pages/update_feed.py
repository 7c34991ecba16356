"""``feed.atom``: the newest versions, for feed readers (RFC 4287). Pure."""

from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import quote
from xml.etree import ElementTree as ET

from lxdocker_lxd.serve.pages.image_view import Build, VersionView, history, images
from lxdocker_lxd.serve.pages.legible import legible
from lxdocker_lxd.serve.pages.page_templates import size_change_text, size_text
from lxdocker_lxd.serve.site import SiteContext
from lxdocker_lxd.serve.version_comparison import VersionChanges

MOST_ENTRIES = 100

_ATOM = "http://www.w3.org/2005/Atom"
_NAMES = {
    "settings": "settings",
    "environment": "environment",
    "ports": "ports",
    "volumes": "volumes",
    "labels": "labels",
}


def feed(context: SiteContext, path: str) -> bytes:
    """Return the feed of the newest versions; ``path`` is where it lies on the site."""
    base = context.settings.base_url
    root = ET.Element("feed", xmlns=_ATOM)
    _add(root, "id", f"{base}/{path}")
    _add(root, "title", f"Images of {context.settings.remote_name}")
    _add(root, "updated", _moment(context.catalogue.updated_at))
    ET.SubElement(root, "link", rel="self", href=f"{base}/{path}")
    ET.SubElement(root, "link", rel="alternate", type="text/html", href=f"{base}/")
    _add(ET.SubElement(root, "author"), "name", context.settings.remote_name)
    for build, view in _newest(context):
        _entry(root, base, build, view)
    ET.indent(root)
    return b'<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root) + b"\n"


def _newest(context: SiteContext) -> list[tuple[Build, VersionView]]:
    """Return the newest versions of all images; only theirs are worth a comparison."""
    moments = sorted(
        version.published_at
        for product in context.catalogue.products
        for version in product.versions
    )
    since = moments[-MOST_ENTRIES:][:1]
    recent = [
        (build, view)
        for image in images(context)
        for build in image.builds
        if since and build.product.newest.published_at >= since[0]
        for view in history(build, context)
    ]
    recent.sort(key=lambda pair: pair[1].version.published_at, reverse=True)
    return recent[:MOST_ENTRIES]


def _entry(root: ET.Element, base: str, build: Build, view: VersionView) -> None:
    version, product = view.version, build.product
    address = f"{base}/image/{quote(legible(product.name), safe='')}/"
    entry = ET.SubElement(root, "entry")
    _add(entry, "id", f"{address}#{quote(product.architecture)}-{version.serial}")
    _add(entry, "title", f"{product.name} {version.serial} ({product.architecture})")
    _add(entry, "updated", _moment(version.published_at))
    ET.SubElement(entry, "link", rel="alternate", type="text/html", href=address)
    _add(entry, "content", "\n".join(_lines(view)))


def _lines(view: VersionView) -> Iterator[str]:
    version = view.version
    yield f"{version.source.reference} {version.source.top_digest}"
    yield f"fingerprint {version.fingerprint}, download {size_text(version.size_bytes)}"
    if view.changes is not None:
        yield from _change_lines(view.changes)


def _change_lines(changes: VersionChanges) -> Iterator[str]:
    layers = changes.layers
    yield f"layers: {len(layers.added)} new, {len(layers.removed)} gone, {layers.kept} kept"
    yield f"download size: {size_change_text(changes.size_bytes)}"
    for field, title in _NAMES.items():
        names = [change.name for change in getattr(changes, field)]
        if names:
            yield f"{title} changed: {', '.join(names)}"


def _add(parent: ET.Element, name: str, text: str) -> None:
    ET.SubElement(parent, name).text = legible(text)


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
