"""The list of all images, and a page for each."""

from collections.abc import Iterator

from lxdocker_lxd.serve.entry import Entry
from lxdocker_lxd.serve.site import SiteContext


def entries(context: SiteContext) -> Iterator[Entry]:
    """Yield the pages and what they load."""
    yield from ()


def search_page(context: SiteContext, query: str) -> bytes:
    """Return the page of the images that ``query`` finds."""
    raise NotImplementedError(query)
