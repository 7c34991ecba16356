"""All layers of an image read, each once, and merged; bounded as a whole.

An image may list one small layer hundreds of times. So each is read and held once, however often it
is listed, and the entries of all are counted while they are read, each as often as it will be
merged: a thousand layers within the limits of one are no less of a bomb. What they expand to, names, and
the time of processors that all this takes are bounded for the image too.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
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
    """Counts what all layers cost together, entries and time; safe for threads."""

    def __init__(self, limits: LayerLimits) -> None:
        self._limits = limits
        self._entries = 0
        self._metadata_bytes = 0
        self._seconds = 0.0
        self._lock = threading.Lock()
        self._thread = threading.local()

    def begin(self) -> None:
        """Count the time of this thread from here on."""
        self._thread.counted = time.thread_time()

    def add(self, times: int, entries: int) -> None:
        """Count entries, each so many times; raise LayerLimitError."""
        with self._lock:
            self._entries += entries * times
            if self._entries > self._limits.entries:
                raise LayerLimitError(
                    f"the layers together have more than {self._limits.entries} entries (entries)"
                )
        self.add_time()

    def keep(self, layer: LayerHeaders) -> None:
        """Count the names of a layer that is kept; raise LayerLimitError."""
        with self._lock:
            self._metadata_bytes += layer.metadata_bytes
            if self._metadata_bytes > self._limits.metadata_bytes:
                raise LayerLimitError(
                    "the names and attributes of all layers exceed"
                    f" {self._limits.metadata_bytes} bytes (metadata_bytes)"
                )

    def add_time(self) -> None:
        """Count what this thread took of a processor since it was asked before."""
        now = time.thread_time()
        with self._lock:
            self._seconds += now - self._thread.counted
            if self._seconds > self._limits.processor_seconds:
                raise LayerLimitError(
                    f"to read the layers takes more than {self._limits.processor_seconds} seconds"
                    " of processors (processor_seconds)"
                )
        self._thread.counted = now


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
    tally = _Tally(limits)

    def scanned(identity: _Identity) -> LayerHeaders:
        number = firsts[identity]
        layer = layers[number]
        name = f"{image}: {number + 1} of {len(layers)} ({layer.descriptor.digest})"
        tally.begin()
        try:
            headers = load_or_scan(
                layer.path,
                store.derived(layer.descriptor.digest, _HEADERS_SUFFIX),
                diff_id=layer.diff_id,
                layer=name,
                limits=limits,
                count=partial(tally.add, times[identity]),
            )
            tally.keep(headers)
        except LayerError as error:
            raise error.at(layer=name, entry=None) from error
        return headers

    # Inflating and hashing leave the interpreter to others, so layers can be read side by side.
    threads = min(os.cpu_count() or 1, _MOST_SCANS)
    with ThreadPoolExecutor(threads, thread_name_prefix="scan") as executor:
        found = dict(zip(times, executor.map(scanned, times), strict=True))
    _check_together(found, {key: layers[number] for key, number in firsts.items()}, limits, image)
    tally.begin()
    try:
        return merge([found[_identity(layer)] for layer in layers], limits, pause=tally.add_time)
    except LayerError as error:
        raise error.at(layer=f"{image}: all", entry=None) from error


def _check_together(
    found: Mapping[_Identity, LayerHeaders],
    blobs: Mapping[_Identity, LayerBlob],
    limits: LayerLimits,
    image: str,
) -> None:
    """Raise LayerLimitError if the layers make more of themselves than their size allows."""
    where = f"{image}: all"
    # Holes of sparse files cost no byte in a layer, but are written out by some packers.
    expanded_bytes = sum(one.inflated_bytes + one.holes_bytes for one in found.values())
    stored_bytes = sum(blob.descriptor.size_bytes for blob in blobs.values())
    if expanded_bytes > max(limits.ratio_free_bytes, stored_bytes * limits.ratio):
        raise LayerLimitError(
            f"the layers of {stored_bytes} bytes expand to {expanded_bytes}, the holes of sparse files"
            f" included: more than {limits.ratio} times their size (ratio)",
            layer=where,
        )


def _identity(layer: LayerBlob) -> _Identity:
    return layer.descriptor.digest, layer.diff_id
