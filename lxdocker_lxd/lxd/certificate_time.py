"""Until when a certificate is valid, read from its DER form (RFC 5280, 4.1). Pure.

LXD says of an expired client certificate only that it doesn't trust it; this tells why.
"""

import ssl
from datetime import UTC, datetime

_UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x17, 0x18, 0xA0
_LONG_LENGTH = 0x80
# Of a certificate's fields after the version: serial number, algorithm, issuer, validity.
_VALIDITY = 3


def expires_at(pem: str) -> datetime | None:
    """Return when the first certificate of a PEM text expires, None for what isn't one."""
    try:
        (_, certificate), *_ = _elements(ssl.PEM_cert_to_DER_cert(_first(pem)))
        (_, body), *_ = _elements(certificate)
        fields = [element for element in _elements(body) if element[0] != _VERSION]
        _, (tag, text) = _elements(fields[_VALIDITY][1])
        return _time(tag, text.decode("ascii"))
    except (ValueError, IndexError):
        return None


def _first(pem: str) -> str:
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    return f"{begin}{pem.partition(begin)[2].partition(end)[0]}{end}"


def _elements(content: bytes) -> list[tuple[int, bytes]]:
    """Return tag and content of each element; raise ValueError or IndexError."""
    found = []
    while content:
        tag, length = content[0], content[1]
        start = 2
        if length & _LONG_LENGTH:
            start += length & ~_LONG_LENGTH
            length = int.from_bytes(content[2:start], "big")
        if len(content) < start + length:
            raise ValueError("an element is cut short")
        found.append((tag, content[start : start + length]))
        content = content[start + length :]
    return found


def _time(tag: int, text: str) -> datetime:
    if tag == _UTC_TIME:
        # Two digits stand for 1950 to 2049.
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("no time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
