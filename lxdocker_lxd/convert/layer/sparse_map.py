"""Where the data of a sparse file belongs: old GNU blocks and the three pax notations.

A map is a tuple of (offset, length) in the expanded file; what lies between is zero bytes. Source:
GNU tar manual, "Storing Sparse Files".
"""

from collections.abc import Callable, Iterable

from lxdocker_lxd.convert.layer.errors import CorruptArchiveError, LayerLimitError
from lxdocker_lxd.convert.layer.pax import Records, whole_number
from lxdocker_lxd.convert.layer.tar_header import BLOCK_BYTES, parse_number

SparseMap = tuple[tuple[int, int], ...]

_PAIR_BYTES = 24
_NUMBER_BYTES = 12
_FIRST_PAIRS_AT = 386
_FIRST_PAIRS = 4
_FIRST_CONTINUES_AT = 482
_REAL_SIZE_AT = slice(483, 495)
_MORE_PAIRS = 21
_MORE_CONTINUES_AT = 504


def old_gnu(
    header: bytes,
    take_block: Callable[[], bytes],
    limit_bytes: int,
) -> tuple[SparseMap, int]:
    """Return map and real size of a type ``S`` entry; further map blocks come from ``take_block``.

    Raises LayerLimitError when those blocks exceed ``limit_bytes``.
    """
    real_bytes = parse_number(header[_REAL_SIZE_AT], "real size")
    pairs = _pairs(header, _FIRST_PAIRS_AT, _FIRST_PAIRS)
    continues = header[_FIRST_CONTINUES_AT]
    while continues:
        limit_bytes -= BLOCK_BYTES
        if limit_bytes < 0:
            raise LayerLimitError("its sparse map exceeds the limit header_bytes")
        block = take_block()
        pairs += _pairs(block, 0, _MORE_PAIRS)
        continues = block[_MORE_CONTINUES_AT]
    return tuple(pairs), real_bytes


def pax_0(records: Records) -> SparseMap | None:
    """Return the map of notation 0.0 (repeated records) or 0.1 (one record), if there is one."""
    lookup = dict(records)
    if b"GNU.sparse.map" in lookup:
        text = lookup[b"GNU.sparse.map"]
        return _paired([whole_number(part, "sparse map") for part in text.split(b",") if text])
    if b"GNU.sparse.numblocks" not in lookup and b"GNU.sparse.offset" not in lookup:
        return None
    wanted = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
    numbers: list[int] = []
    for key, value in records:
        if key in wanted:
            if key != wanted[len(numbers) % 2]:
                raise CorruptArchiveError("its sparse map mixes offsets and lengths")
            numbers.append(whole_number(value, "sparse map"))
    return _paired(numbers)


def pax_1(take_block: Callable[[], bytes], limit_bytes: int) -> tuple[SparseMap, int]:
    """Return the map of notation 1.0, which stands before the data, and the bytes it takes."""
    blocks: list[bytes] = []

    def more() -> int:
        if len(blocks) * BLOCK_BYTES >= limit_bytes:
            raise LayerLimitError("its sparse map exceeds the limit header_bytes")
        blocks.append(take_block())
        return blocks[-1].count(b"\n")

    lines = more()
    while not lines:
        lines += more()
    count = whole_number(b"".join(blocks).partition(b"\n")[0], "sparse map")
    while lines < 2 * count + 1:
        lines += more()
    text = b"".join(blocks)
    numbers = text.split(b"\n", 2 * count + 1)[1 : 2 * count + 1]
    return _paired([whole_number(number, "sparse map") for number in numbers]), len(text)


def checked(regions: Iterable[tuple[int, int]], *, stored_bytes: int, real_bytes: int) -> SparseMap:
    """Return the non-empty regions; raise CorruptArchiveError unless they describe the data."""
    end = total = 0
    kept = []
    for offset, length in regions:
        if offset < end or offset + length > real_bytes:
            raise CorruptArchiveError("its sparse map overlaps or passes the end of the file")
        end = offset + length
        total += length
        if length:
            kept.append((offset, length))
    if total != stored_bytes:
        raise CorruptArchiveError(
            f"its sparse map describes {total} bytes, but {stored_bytes} are stored",
        )
    return tuple(kept)


def _pairs(block: bytes, start: int, count: int) -> list[tuple[int, int]]:
    pairs = []
    for at in range(start, start + count * _PAIR_BYTES, _PAIR_BYTES):
        if not block[at]:
            break
        offset = parse_number(block[at : at + _NUMBER_BYTES], "sparse offset")
        length = parse_number(block[at + _NUMBER_BYTES : at + _PAIR_BYTES], "sparse length")
        pairs.append((offset, length))
    return pairs


def _paired(numbers: list[int]) -> SparseMap:
    if len(numbers) % 2:
        raise CorruptArchiveError("its sparse map ends in the middle of a pair")
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))
