"""The request that sets LXD's own keys: what the adapter sends, and a rehearsal shows. Pure."""

from lxdocker_lxd.lxd.records import Config
from lxdocker_lxd.lxd.request import Request


def configuring(changes: Config, *, etag: str) -> Request:
    """Return the request that sets keys of the daemon."""
    return Request(
        method="patch",
        path="",
        doing=f"set LXD's {', '.join(sorted(changes))}",
        body={"config": dict(changes)},
        etag=etag,
    )
