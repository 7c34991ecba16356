"""One pass over a stored layer: inflate it, verify its diff_id, collect its headers.

The digest covers the whole inflated stream, what follows the archive's end included (image-spec,
config.md, "rootfs"). Inflating and hashing run in threads of their own beside the walk.
"""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from lxdocker_lxd import atomic
from lxdocker_lxd.convert.layer.archive import walk
from lxdocker_lxd.convert.layer.byte_cursor import ByteCursor
from lxdocker_lxd.convert.layer.compression import inflate
from lxdocker_lxd.convert.layer.errors import LayerError, LayerLimitError
from lxdocker_lxd.convert.layer.headers import Header, LayerHeaders, decode, encode
from lxdocker_lxd.convert.layer.limits import LayerLimits
from lxdocker_lxd.convert.layer.read_ahead import BackgroundHash, read_ahead
from lxdocker_lxd.digest import Digest, DigestMismatchError

_log = logging.getLogger(__name__)
_BATCH = 1024


class _Measured:
    """Passes blocks on, hashes and counts them, and stops a bomb."""

    def __init__(
        self,
        blocks: Iterator[bytes],
        background: BackgroundHash,
        *,
        stored_bytes: int,
        limits: LayerLimits,
    ) -> None:
        self._blocks = blocks
        self._background = background
        self._stored_bytes = stored_bytes
        self._limits = limits
        self.inflated_bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            self.inflated_bytes += len(block)
            self._check()
            self._background.update(block)
            yield block

    def _check(self) -> None:
        limits = self._limits
        if self.inflated_bytes > limits.inflated_bytes:
            raise LayerLimitError(
                f"inflates to more than {limits.inflated_bytes} bytes (inflated_bytes)",
            )
        if (
            self.inflated_bytes > limits.ratio_free_bytes
            and self.inflated_bytes > self._stored_bytes * limits.ratio
        ):
            raise LayerLimitError(
                f"inflates to more than {limits.ratio} times its size (ratio)",
            )


def _ignore(count: int) -> None:
    del count


def _counted(headers: Iterator[Header], count: Callable[[int], None]) -> Iterator[Header]:
    number = 0
    for number, header in enumerate(headers, 1):
        if number % _BATCH == 0:
            count(_BATCH)
        yield header
    count(number % _BATCH)


def scan(
    path: Path,
    *,
    diff_id: Digest,
    layer: str,
    limits: LayerLimits,
    count: Callable[[int], None] = _ignore,
) -> LayerHeaders:
    """Return the entries of the layer stored at ``path``, whose inflated digest is ``diff_id``.

    ``layer`` names it in messages. ``count`` hears how many more entries were found, while the
    layer is read; what it raises ends the scan. Raises LayerError leaves for unsafe, broken or too large
    archives, DigestMismatchError for another diff_id, StorageError when the file can't be read.
    A structural error is reported even where the digest would be wrong too.
    """
    try:
        with (
            path.open("rb", buffering=0) as file,
            read_ahead(inflate(file)) as blocks,
            BackgroundHash(diff_id.algorithm) as background,
        ):
            measured = _Measured(
                blocks,
                background,
                stored_bytes=path.stat().st_size,
                limits=limits,
            )
            stream = iter(measured)
            headers = tuple(_counted(walk(ByteCursor(stream), layer=layer, limits=limits), count))
            for _ in stream:  # the tail belongs to the digest
                pass
            got = background.digest()
    except LayerError as error:
        raise error.at(layer=layer, entry=None) from error
    except OSError as error:
        raise atomic.storage_error("read layer", path, error) from error
    if got != diff_id:
        raise DigestMismatchError(f"layer {layer}: expected diff_id {diff_id}, got {got}")
    return LayerHeaders(
        layer=layer,
        diff_id=diff_id,
        inflated_bytes=measured.inflated_bytes,
        headers=headers,
    )


def load_or_scan(
    path: Path,
    cached: Path,
    *,
    diff_id: Digest,
    layer: str,
    limits: LayerLimits,
    count: Callable[[int], None] = _ignore,
) -> LayerHeaders:
    """Return what :func:`scan` returns, from the header index at ``cached`` when it fits.

    An index that is missing, damaged or made for another layer, size, version or limits is
    replaced silently. Raises what ``scan`` raises, and StorageError when the index can't be
    written.
    """
    try:
        stored_bytes = path.stat().st_size
    except OSError as error:
        raise atomic.storage_error("read layer", path, error) from error
    headers = _load(cached, diff_id=diff_id, layer=layer, stored_bytes=stored_bytes, limits=limits)
    if headers is None:
        headers = scan(path, diff_id=diff_id, layer=layer, limits=limits, count=count)
        atomic.make_directory(cached.parent)
        atomic.write(cached, encode(headers, stored_bytes=stored_bytes, limits=limits))
    else:
        count(len(headers.headers))
    return headers


def _load(
    cached: Path,
    *,
    diff_id: Digest,
    layer: str,
    stored_bytes: int,
    limits: LayerLimits,
) -> LayerHeaders | None:
    try:
        content = cached.read_bytes()
        return decode(
            content,
            layer=layer,
            diff_id=diff_id,
            stored_bytes=stored_bytes,
            limits=limits,
        )
    except OSError as error:
        _log.debug("header index %s can't be used: %s", cached, error)
        return None
