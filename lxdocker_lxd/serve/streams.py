"""Simplestreams trees, as LXD and Incus read them: the main one and one for each registry."""

from collections.abc import Iterator

from lxdocker_lxd.serve.entry import Entry
from lxdocker_lxd.serve.site import SiteContext


def entries(context: SiteContext) -> Iterator[Entry]:
    """Yield the stream documents of every root."""
    yield from ()


def roots(context: SiteContext) -> tuple[str, ...]:
    """Return the prefix of every tree: empty for the main one, else with a slash at its end."""
    return ("",)
