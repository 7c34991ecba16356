"""Which version of a product its aliases stand for, while a new one is listed but not yet theirs.

Pure. LXD keeps what it read for an hour. A client that reads a fresh listing and then sends LXD a
fingerprint out of it fails until LXD's own copy is old. So a new version is listed by its
fingerprint first, and gets the aliases ``delay_seconds`` later, when every LXD knows it.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from lxdocker_lxd.catalogue import Product, Version


def standing(product: Product, *, delay_seconds: int, at: datetime) -> Version:
    """Return the version the aliases stand for at ``at``: the newest that isn't staged.

    When all are, it is the oldest listed one: the first version of a product never waits.
    """
    delay = timedelta(seconds=delay_seconds)
    for version in reversed(product.versions):
        if not _staged(version, delay, at):
            return version
    return product.versions[0]


def next_change(
    products: Iterable[Product], *, delay_seconds: int, at: datetime
) -> datetime | None:
    """Return the first moment after ``at`` when a version begins or ends to be staged, or None."""
    if delay_seconds <= 0:
        return None
    delay = timedelta(seconds=delay_seconds)
    moments = (
        version.published_at + step
        for product in products
        if len(product.versions) > 1
        for version in product.versions
        for step in (-delay, delay)
    )
    return min((moment for moment in moments if moment > at), default=None)


def _staged(version: Version, delay: timedelta, at: datetime) -> bool:
    """Tell whether ``version`` still waits.

    A time in the far future comes from a clock that was wrong; such a version waits for nothing.
    """
    return -delay <= at - version.published_at < delay
