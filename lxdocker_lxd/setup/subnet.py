"""A private IPv4 subnet for a new bridge that overlaps nothing the machine routes. Pure.

Chosen before the bridge is made, not by LXD while making it: the certificate and the remote's URL name the
bridge's address, and a plan says what it will be.
"""

from collections.abc import Collection
from ipaddress import IPv4Network

from lxdocker_lxd.errors import UsageError

_FIRST = 64
_SECOND_OCTETS = 186
_ALL = _SECOND_OCTETS * 256


def free_subnet(used: Collection[IPv4Network], seed: int) -> IPv4Network:
    """Return a free 10.x.y.0/24, the same one for the same ``used`` and ``seed``."""
    for step in range(_ALL):
        number = (seed + step) % _ALL
        candidate = IPv4Network(f"10.{_FIRST + number // 256}.{number % 256}.0/24")
        # A default route says nothing about what is in use.
        if not any(one.prefixlen and candidate.overlaps(one) for one in used):
            return candidate
    raise UsageError(
        "choose a network for instances: no 10.x.y.0/24 is free",
        hint="make a bridge with `lxc network create lxdbr0`, then run setup again",
    )


def free_bridge(interfaces: Collection[str]) -> str:
    """Return the first of ``lxdbr0``, ``lxdbr1``, … that the machine doesn't have."""
    number = 0
    while f"lxdbr{number}" in interfaces:
        number += 1
    return f"lxdbr{number}"
