"""One 512-byte tar header block: v7, ustar (POSIX.1-1988), GNU and star fields.

Bytes in, values out; what the fields mean together is left to the scan. Sources of the rules:
POSIX pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format". Where readers differ the
strict reading is taken, so that no archive looks different here than to the tool that built it.
"""

import struct
from typing import NamedTuple

from lxdocker_lxd.convert.layer.errors import CorruptArchiveError

BLOCK_BYTES = 512
ZERO_BLOCK = bytes(BLOCK_BYTES)

_FIELDS = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12s")
_CHECKSUM_AT = slice(148, 156)
_CHECKSUM_BLANK = 8 * ord(" ")
_GNU_MAGIC = b"ustar  \0"
_USTAR_MAGIC = b"ustar"
_STAR_TRAILER = b"tar\0"
_STAR_PREFIX_BYTES = 131
_BASE_256 = 0x80
_BASE_256_NEGATIVE = 0x40
_TIME_FIELD_BYTES = 12


class TarHeader(NamedTuple):
    """The fields of one header block. A tuple, not a dataclass: fifty thousand are made per layer.

    ``name`` has the prefix field joined in; ``typeflag`` is one byte.
    """

    name: bytes
    mode: int
    uid: int
    gid: int
    size_bytes: int
    mtime_seconds: int
    typeflag: bytes
    link_name: bytes
    device_major: int
    device_minor: int


def parse_header(block: bytes) -> TarHeader:
    """Return the fields of a header block; raise CorruptArchiveError naming the broken one."""
    fields = _FIELDS.unpack(block)
    name, mode, uid, gid, size, mtime, checksum, typeflag, link_name, magic = fields[:10]
    _check_sum(block, checksum)
    if magic.startswith(_USTAR_MAGIC):
        prefix = _prefix(block, magic, fields[14])
        if prefix:
            name = prefix + b"/" + _text(name)
        major, minor = parse_number(fields[12], "device"), parse_number(fields[13], "device")
    else:
        major = minor = 0
    return TarHeader(
        _text(name),
        parse_number(mode, "mode"),
        parse_number(uid, "owner"),
        parse_number(gid, "group"),
        parse_number(size, "size"),
        parse_number(mtime, "time", signed=True),
        typeflag,
        _text(link_name),
        major,
        minor,
    )


def parse_number(field: bytes, what: str, *, signed: bool = False) -> int:
    """Return the number of a field: octal text, or base 256 when its first bit is set.

    A negative number is an error unless ``signed``: negative sizes have sent readers into endless
    loops (CVE-2025-8194).
    """
    if field[0] & _BASE_256:
        value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        if field[0] & _BASE_256_NEGATIVE:
            value -= 1 << (8 * len(field) - 1)
        if value < 0 and not signed:
            raise CorruptArchiveError(f"the header's {what} is negative ({value})")
        return value
    digits = field.strip(b" \0")
    if not digits:
        return 0
    digits = digits.partition(b"\0")[0].rstrip(b" ")
    # int() alone would also take signs, underscores and prefixes.
    if digits.isdigit() and not digits.strip(b"01234567"):
        return int(digits, 8)
    raise CorruptArchiveError(f"the header's {what} is not an octal number: {field!r}")


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _check_sum(block: bytes, field: bytes) -> None:
    expected = parse_number(field, "checksum")
    blank = block[_CHECKSUM_AT]
    unsigned = sum(block) - sum(blank) + _CHECKSUM_BLANK
    if unsigned == expected:
        return
    # Some old writers summed signed characters: each byte above 127 counts 256 less.
    high = sum(byte > 127 for byte in block) - sum(byte > 127 for byte in blank)  # noqa: PLR2004
    if unsigned - 256 * high != expected:
        raise CorruptArchiveError(
            f"the header's checksum is wrong: expected {expected}, got {unsigned}",
        )


def _prefix(block: bytes, magic: bytes, field: bytes) -> bytes:
    """Return the part of the name before ``name``, which three formats keep differently."""
    if not field[0]:
        return b""
    if magic == _GNU_MAGIC:
        # GNU keeps times here. Writers of Go before 1.8 kept a prefix under the GNU magic.
        times = (field[:_TIME_FIELD_BYTES], field[_TIME_FIELD_BYTES : 2 * _TIME_FIELD_BYTES])
        if all(_is_number(time) for time in times):
            return b""
        return _text(field)
    if block.endswith(_STAR_TRAILER):
        return _text(field[:_STAR_PREFIX_BYTES])
    return _text(field)


def _is_number(field: bytes) -> bool:
    try:
        parse_number(field, "time", signed=True)
    except CorruptArchiveError:
        return False
    return True
