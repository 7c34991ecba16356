"""The kernel's tables of listening ports and routes, as texts of /proc/net. Pure."""

import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address

_LISTEN = "0A"
_IPV4_DIGITS = 8


def listening(table: str) -> Iterator[tuple[str, int]]:
    """Yield address and port of each listening socket of /proc/net/tcp or tcp6."""
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 3 and fields[3] == _LISTEN:  # noqa: PLR2004 - the state's place
            address, _, port = fields[1].partition(":")
            yield _address(address), int(port, 16)


def _address(digits: str) -> str:
    # Groups of four bytes, each in the machine's order.
    words = [digits[at : at + 8] for at in range(0, len(digits), 8)]
    packed = b"".join(map(_packed, words))
    if len(digits) == _IPV4_DIGITS:
        return str(IPv4Address(packed))
    found = IPv6Address(packed)
    return str(found.ipv4_mapped or found)


def routed(table: str) -> Iterator[IPv4Network]:
    """Yield the networks of /proc/net/route."""
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7:  # noqa: PLR2004 - up to the mask
            address, mask = (IPv4Address(_packed(fields[at])) for at in (1, 7))
            yield IPv4Network(f"{address}/{mask}", strict=False)


def _packed(word: str) -> bytes:
    return int(word, 16).to_bytes(4, sys.byteorder)
