"""Where a URL leads: scheme, host and port; and which of them may be followed.

Registries name other hosts: token servers, content networks, foreign layers. A registry must not
be able to steer requests into the network of the machine this program runs on, so hosts written
as private addresses are refused unless the registry itself is there or the user's settings name
them. Names are not resolved here; only addresses are judged. Pure.
"""

import ipaddress
import socket
import urllib.parse
from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

from lxdocker_lxd.convert.registry.settings import is_loopback
from lxdocker_lxd.errors import VerificationError

_PORTS = {"https": 443, "http": 80}


class UnsafeAddressError(VerificationError):
    """A registry named an address it has no business to send anybody to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Scheme, lower-case host name (IPv6 without brackets) and port of a URL."""

    scheme: str
    name: str
    port: int

    @classmethod
    def of(cls, url: str, *, what: str) -> Self:
        """Return the origin of an http or https URL; raise UnsafeAddressError for others."""
        try:
            parts = urllib.parse.urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise UnsafeAddressError(f"{what}: the address is not a URL") from error
        if parts.scheme not in _PORTS or not parts.hostname:
            raise UnsafeAddressError(f"{what}: expected an http or https URL with a host")
        if parts.username is not None or any(ch.isspace() or ord(ch) < ord(" ") for ch in url):
            raise UnsafeAddressError(f"{what}: a URL with a user name or white space")
        return cls(scheme=parts.scheme, name=parts.hostname, port=port or _PORTS[parts.scheme])

    @property
    def host(self) -> str:
        """``host`` or, when the port isn't the scheme's own, ``host:port``, as settings name it."""
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.port == _PORTS[self.scheme] else f"{name}:{self.port}"

    @property
    def is_internal(self) -> bool:
        """Whether the host is an address (or localhost) inside a machine or private network."""
        address = _address(self.name)
        if address is None:
            return is_loopback(self.name)
        return not address.is_global or address.is_multicast

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}"


def check_hop(source: Origin, target: Origin, *, what: str, trusted: Collection[str] = ()) -> None:
    """Raise UnsafeAddressError unless a server at ``source`` may send us to ``target``.

    Never from https to http. Into a private network only when the source is an address there
    too and the same one, when both are this machine, or when ``trusted`` holds the target's host.
    """
    if target.host in trusted:
        return
    if source.scheme == "https" and target.scheme == "http":
        raise UnsafeAddressError(
            f"{what}: {source} points to {target}, which is not encrypted",
            hint=f"if that is meant, name {target.host} under registries: in the settings file",
        )
    both_here = is_loopback(_bracketed(source.name)) and is_loopback(_bracketed(target.name))
    if target.is_internal and target.name != source.name and not both_here:
        raise UnsafeAddressError(
            f"{what}: {source} points to {target}, an address in a private network",
            hint=f"if that is meant, name {target.host} under registries: in the settings file",
        )


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name else name


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        # Resolvers also take 127.1, 0x7f000001 and 2130706433 for addresses.
        try:
            return ipaddress.IPv4Address(socket.inet_aton(name))
        except (OSError, ValueError):
            return None
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or address.sixtofour or address
    return address
