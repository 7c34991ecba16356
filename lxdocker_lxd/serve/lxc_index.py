"""What lxc-create's download template reads: indexes, metadata and root filesystems."""

from collections.abc import Iterator

from lxdocker_lxd.serve.entry import Entry
from lxdocker_lxd.serve.site import SiteContext


def entries(context: SiteContext) -> Iterator[Entry]:
    """Yield the indexes and the files they name."""
    yield from ()
