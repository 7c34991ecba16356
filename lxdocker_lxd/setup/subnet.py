"""A private IPv4 subnet for a new bridge that overlaps nothing the machine routes. Pure.

Chosen before the bridge is made, not by LXD while making it: the certificate and the remote's URL name the
bridge's address, and a plan says what it will be.
"""

from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from lxdocker_lxd.errors import UsageError

_BEGIN = int(IPv4Address("10.64.0.0"))
_SIZE = 256
_ALL = 186 * 256


def free_subnet(used: Collection[IPv4Network], seed: int) -> IPv4Network:
    """Return a free 10.x.y.0/24, the same one for the same ``used`` and ``seed``."""
    # A default route says nothing about what is in use.
    taken = [
        (int(one.network_address), int(one.broadcast_address)) for one in used if one.prefixlen
    ]
    for step in range(_ALL):
        first = _BEGIN + (seed + step) % _ALL * _SIZE
        if not any(low < first + _SIZE and first <= high for low, high in taken):
            return IPv4Network((first, 24))
    raise UsageError(
        "choose a network for instances: no 10.x.y.0/24 is free",
        hint="make a bridge with `lxc network create lxdbr0`, then run setup again",
    )


def free_address(bridge: IPv4Interface, used: Collection[str]) -> IPv4Address:
    """Return the bridge's highest address that nobody has, as ``used`` tells."""
    taken = {str(bridge.ip), *used}
    first, last = int(bridge.network.network_address) + 1, int(bridge.network.broadcast_address) - 1
    for number in range(last, first - 1, -1):
        if str(IPv4Address(number)) not in taken:
            return IPv4Address(number)
    raise UsageError(
        f"choose an address for the image server: all of {bridge.network} are given out",
        hint="delete instances that aren't needed, or widen the network of the bridge",
    )


def free_bridge(interfaces: Collection[str]) -> str:
    """Return the first of ``lxdbr0``, ``lxdbr1``, … that the machine doesn't have."""
    number = 0
    while f"lxdbr{number}" in interfaces:
        number += 1
    return f"lxdbr{number}"
