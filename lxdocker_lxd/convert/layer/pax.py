"""Pax records (POSIX.1-2001 extended headers): ``LENGTH KEY=VALUE`` lines, read and written.

Values are bytes: names and attributes need not be text. Also here: how extended attributes hide in
records (star's and GNU tar's ``SCHILY.xattr.``, libarchive's ``LIBARCHIVE.xattr.``) and times.
"""

import base64
import binascii
import re
import urllib.parse
from collections.abc import Iterable, Mapping

from lxdocker_lxd.convert.layer.errors import CorruptArchiveError

Records = tuple[tuple[bytes, bytes], ...]

_LENGTH_DIGITS = 9
_SCHILY = b"SCHILY.xattr."
_LIBARCHIVE = b"LIBARCHIVE.xattr."
_SPARSE = b"GNU.sparse."
_FIELDS = frozenset((b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime"))
_TIME = re.compile(rb"(-?)([0-9]{1,20})(?:\.([0-9]*))?")
_WHOLE = re.compile(rb"[0-9]{1,20}")
_NANOSECONDS = 1_000_000_000
_NANOSECOND_DIGITS = 9


def parse_records(payload: bytes) -> Records:
    """Return the records in order, repeated keys included; raise CorruptArchiveError."""
    records = []
    position = 0
    while position < len(payload):
        space = payload.find(b" ", position, position + _LENGTH_DIGITS + 1)
        digits = payload[position:space] if space > 0 else b""
        if not digits.isdigit():
            raise CorruptArchiveError("an extended header has a record without a length")
        end = position + int(digits)
        key, separator, value = payload[space + 1 : end - 1].partition(b"=")
        if end <= space or end > len(payload) or payload[end - 1] != ord("\n"):
            raise CorruptArchiveError("an extended header has a record with a wrong length")
        if not separator or not key:
            raise CorruptArchiveError("an extended header has a record without a key")
        records.append((key, value))
        position = end
    return tuple(records)


def has_meaning(key: bytes) -> bool:
    """Whether a record with this key says anything of an entry; all others are passed over."""
    return key in _FIELDS or key.startswith((_SCHILY, _LIBARCHIVE, _SPARSE))


def render_records(records: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the bytes of an extended header with these records; the inverse of parse_records."""
    lines = []
    for key, value in records:
        body = b" " + key + b"=" + value + b"\n"
        length = len(body)
        # The length counts its own digits.
        while length != len(body) + len(str(length)):
            length = len(body) + len(str(length))
        lines.append(str(length).encode() + body)
    return b"".join(lines)


def whole_number(value: bytes, key: str) -> int:
    """Return a record's decimal number; raise CorruptArchiveError for anything else."""
    if not _WHOLE.fullmatch(value):
        raise CorruptArchiveError(f"the extended header's {key} is not a number: {value[:40]!r}")
    return int(value)


def nanoseconds(value: bytes, key: str) -> int:
    """Return a record's time in nanoseconds since 1970; further digits are cut off."""
    match = _TIME.fullmatch(value)
    if not match:
        raise CorruptArchiveError(f"the extended header's {key} is not a time: {value[:40]!r}")
    sign, whole, fraction = match.groups(default=b"")
    digits = fraction[:_NANOSECOND_DIGITS].ljust(_NANOSECOND_DIGITS, b"0")
    total = int(whole) * _NANOSECONDS + int(digits)
    return -total if sign else total


def render_time(time_ns: int) -> bytes:
    """Return a time of 1970 or later as a record's value; exact."""
    seconds, rest = divmod(time_ns, _NANOSECONDS)
    return b"%d.%09d" % (seconds, rest) if rest else b"%d" % seconds


def extended_attributes(records: Mapping[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
    """Return names and values, sorted by name. The plain spelling wins over the encoded one.

    Raises CorruptArchiveError for a name with ``=``, which only the encoded spelling can hold: no
    packer reads that one's name, so the attribute would arrive under another name.
    """
    found: dict[bytes, bytes] = {}
    for key, value in records.items():
        if key.startswith(_LIBARCHIVE):
            name = urllib.parse.unquote_to_bytes(key[len(_LIBARCHIVE) :])
            if b"=" in name:
                raise CorruptArchiveError(
                    f"the extended attribute {name[:100]!r} has '=' in its name,"
                    " which can't be handed on in a tar stream"
                )
            found[name] = _decoded(value)
    for key, value in records.items():
        if key.startswith(_SCHILY):
            found[key[len(_SCHILY) :]] = value
    return tuple(sorted(found.items()))


def attribute_record(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """Return the record that carries one extended attribute."""
    return _SCHILY + name, value


def _decoded(value: bytes) -> bytes:
    # libarchive leaves out the padding.
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except binascii.Error as error:
        raise CorruptArchiveError("an extended attribute is not valid base64") from error
