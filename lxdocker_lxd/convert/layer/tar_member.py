"""Render one entry of the final archive: a ustar header, with pax records before it where needed.

The same entry gives the same bytes on every machine. Owners have no names; numbers that do not fit
in their octal fields, long names and extended attributes go into pax records.
"""

from lxdocker_lxd.convert.layer import pax
from lxdocker_lxd.convert.layer.tar_header import BLOCK_BYTES

FILE = b"0"
HARD_LINK = b"1"
SYMLINK = b"2"
CHARACTER_DEVICE = b"3"
BLOCK_DEVICE = b"4"
DIRECTORY = b"5"
FIFO = b"6"
_EXTENDED = b"x"

END = bytes(2 * BLOCK_BYTES)

_NAME_BYTES = 100
_LARGEST_ID = 0o7777777
_LARGEST_SIZE = 0o77777777777
_NO_DEVICE = (0, 0)
_MAGIC = b"ustar\00000"
_NO_OWNER_NAMES = bytes(64)
_DEVICE = b"%07o\0%07o\0"
_ZERO_DEVICE = _DEVICE % _NO_DEVICE
_TAIL = bytes(155 + 12)
# What every header adds to its checksum: the blank checksum field, magic, and zero device numbers.
_CONSTANT_SUM = 8 * ord(" ") + sum(_MAGIC) + sum(_ZERO_DEVICE)
_EXTENDED_NAME = b"PaxHeaders/entry"


def padding(size_bytes: int) -> int:
    """Return how many zero bytes follow data of this size."""
    return -size_bytes % BLOCK_BYTES


def _block(  # noqa: PLR0913, PLR0917 - the fields of a header
    name: bytes,
    typeflag: bytes,
    mode: int,
    uid: int,
    gid: int,
    size_bytes: int,
    mtime_seconds: int,
    target: bytes,
    device: tuple[int, int],
) -> bytes:
    numbers = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, uid, gid, size_bytes, mtime_seconds)
    total = sum(name) + sum(numbers) + typeflag[0] + _CONSTANT_SUM
    devices = _ZERO_DEVICE
    if target:
        total += sum(target)
    if device != _NO_DEVICE:
        devices = _DEVICE % device
        total += sum(devices) - sum(_ZERO_DEVICE)
    return b"".join(
        (
            name.ljust(_NAME_BYTES, b"\0"),
            numbers,
            b"%06o\0 " % total,
            typeflag,
            target.ljust(_NAME_BYTES, b"\0"),
            _MAGIC,
            _NO_OWNER_NAMES,
            devices,
            _TAIL,
        ),
    )


def render(  # noqa: PLR0913 - the attributes of an entry
    path: bytes,
    typeflag: bytes,
    *,
    mode: int,
    uid: int,
    gid: int,
    mtime_seconds: int,
    size_bytes: int = 0,
    target: bytes = b"",
    device: tuple[int, int] = _NO_DEVICE,
    records: pax.Records = (),
) -> bytes:
    """Return the header blocks of one entry; its data, padded, has to follow.

    ``records`` are further pax records (times, extended attributes).
    """
    if (
        len(path) > _NAME_BYTES
        or len(target) > _NAME_BYTES
        or uid > _LARGEST_ID
        or gid > _LARGEST_ID
        or size_bytes > _LARGEST_SIZE
    ):
        path, target, uid, gid, size_bytes, more = _moved(path, target, uid, gid, size_bytes)
        records = more + records
    block = _block(path, typeflag, mode, uid, gid, size_bytes, mtime_seconds, target, device)
    if not records:
        return block
    payload = pax.render_records(records)
    extended = _block(_EXTENDED_NAME, _EXTENDED, 0o644, 0, 0, len(payload), 0, b"", _NO_DEVICE)
    return extended + payload + bytes(padding(len(payload))) + block


def _moved(
    path: bytes,
    target: bytes,
    uid: int,
    gid: int,
    size_bytes: int,
) -> tuple[bytes, bytes, int, int, int, pax.Records]:
    """Return the fields with what does not fit taken out, and records that hold it."""
    records: list[tuple[bytes, bytes]] = []
    if len(path) > _NAME_BYTES:
        records.append((b"path", path))
        path = path[:_NAME_BYTES]
    if len(target) > _NAME_BYTES:
        records.append((b"linkpath", target))
        target = target[:_NAME_BYTES]
    if uid > _LARGEST_ID:
        records.append((b"uid", b"%d" % uid))
        uid = 0
    if gid > _LARGEST_ID:
        records.append((b"gid", b"%d" % gid))
        gid = 0
    if size_bytes > _LARGEST_SIZE:
        records.append((b"size", b"%d" % size_bytes))
        size_bytes = 0
    return path, target, uid, gid, size_bytes, tuple(records)
