"""All layers of an image read, each once, and merged; bounded as a whole.

An image may list one small layer hundreds of times. So each is read and held once, however often it
is listed, and the entries of all are counted while they are read, each as often as it will be
merged: a thousand layers within the limits of one are no less of a bomb.
"""

import os
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from lxdocker_lxd.convert.layer.errors import LayerError, LayerLimitError
from lxdocker_lxd.convert.layer.headers import LayerHeaders
from lxdocker_lxd.convert.layer.limits import LayerLimits
from lxdocker_lxd.convert.layer.merge import merge
from lxdocker_lxd.convert.layer.scan import load_or_scan
from lxdocker_lxd.convert.layer.tree import Tree
from lxdocker_lxd.convert.pull import LayerBlob
from lxdocker_lxd.convert.store import Store
from lxdocker_lxd.digest import Digest

_HEADERS_SUFFIX = "entries"
_MOST_SCANS = 4

_Identity = tuple[Digest, Digest]


class _Tally:
    """Counts the entries of all layers; safe for threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries = 0
        self._lock = threading.Lock()

    def add(self, times: int, entries: int) -> None:
        with self._lock:
            self._entries += entries * times
            if self._entries > self._most:
                raise LayerLimitError(
                    f"the layers together have more than {self._most} entries (entries)"
                )


def merged(layers: Sequence[LayerBlob], store: Store, limits: LayerLimits, *, image: str) -> Tree:
    """Return the tree of all layers; header indexes live in the cache beside the blobs.

    ``image`` names it in messages. Raises LayerError leaves, DigestMismatchError, StorageError.
    """
    if len(layers) > limits.layers:
        raise LayerLimitError(
            f"{len(layers)} layers are more than {limits.layers} (layers)", layer=f"{image}: all"
        )
    times = Counter(map(_identity, layers))
    firsts = {_identity(layer): number for number, layer in reversed(list(enumerate(layers)))}
    tally = _Tally(limits.entries)

    def scanned(identity: _Identity) -> LayerHeaders:
        number = firsts[identity]
        layer = layers[number]
        name = f"{image}: {number + 1} of {len(layers)} ({layer.descriptor.digest})"
        try:
            return load_or_scan(
                layer.path,
                store.derived(layer.descriptor.digest, _HEADERS_SUFFIX),
                diff_id=layer.diff_id,
                layer=name,
                limits=limits,
                count=partial(tally.add, times[identity]),
            )
        except LayerError as error:
            raise error.at(layer=name, entry=None) from error

    # Inflating and hashing leave the interpreter to others, so layers can be read side by side.
    threads = min(os.cpu_count() or 1, _MOST_SCANS)
    with ThreadPoolExecutor(threads, thread_name_prefix="scan") as executor:
        found = dict(zip(times, executor.map(scanned, times), strict=True))
    return merge([found[_identity(layer)] for layer in layers], limits)


def _identity(layer: LayerBlob) -> _Identity:
    return layer.descriptor.digest, layer.diff_id
