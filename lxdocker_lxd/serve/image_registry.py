"""The registry protocol of LXD's first image stores, as static documents."""

from collections.abc import Iterator

from lxdocker_lxd.serve.entry import Entry
from lxdocker_lxd.serve.site import SiteContext


def entries(context: SiteContext) -> Iterator[Entry]:
    """Yield the registry documents."""
    yield from ()
