"""Where a URL leads: scheme, host and port; and which of them may be followed.

Registries name other hosts: token servers, content networks, foreign layers. A registry must not
be able to steer requests into the network of the machine this program runs on, so private addresses
are refused unless the registry itself is there or the user's settings name them. They are judged
twice: as written, and each address that a name turns out to stand for, before it is connected to. Pure.

One grammar says what a host is: an IPv6 address in brackets, or a name of letters, digits, hyphens and
underscores (RFC 1123; the underscore as in the names of storage buckets). Whatever else stands there
is read differently by different libraries, a backslash above all, and is refused.
"""

import ipaddress
import re
import socket
import urllib.parse
from dataclasses import dataclass, field
from typing import Self

from lxdocker_lxd.convert.registry.settings import RegistriesSettings, is_loopback
from lxdocker_lxd.errors import VerificationError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_PORTS = {"https": 443, "http": 80}
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_MOST_CHARACTERS = 255
# IPv6 addresses that are IPv4 ones: compatible, translated (RFC 2765), NAT64 (RFC 6052).
_CARRIERS = tuple(map(ipaddress.IPv6Network, ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96")))
_NOT_A_HOST = "expected a host name of letters, digits and hyphens, or an address"


class UnsafeAddressError(VerificationError):
    """A registry named an address it has no business to send anybody to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Scheme, lower-case host name (IPv6 without brackets) and port of a URL.

    ``peer`` is the address that a request there went to: None when that isn't known, behind a proxy.
    """

    scheme: str
    name: str
    port: int
    peer: Address | None = field(default=None, compare=False)

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
        name = _host_name(parts.netloc, parts.hostname)
        if name is None:
            raise UnsafeAddressError(f"{what}: {parts.netloc[:60]!a}: {_NOT_A_HOST}")
        return cls(scheme=parts.scheme, name=name, port=port or _PORTS[parts.scheme])

    @property
    def host(self) -> str:
        """``host`` or, when the port isn't the scheme's own, ``host:port``, as settings name it."""
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.port == _PORTS[self.scheme] else f"{name}:{self.port}"

    @property
    def is_internal(self) -> bool:
        """Whether the host is an address (or localhost) inside a machine or private network."""
        address = _address(self.name)
        return is_loopback(self.name) if address is None else is_private(address)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}"


def _host_name(netloc: str, name: str) -> str | None:
    """Return the name without a final dot, None if the grammar doesn't know it."""
    if not netloc.isascii():
        return None
    if "[" in netloc or "]" in netloc:
        try:
            ipaddress.IPv6Address(name.partition("%")[0])
        except ValueError:
            return None
        return name if re.fullmatch(r"\[[0-9A-Za-z:.%_-]+\](?::[0-9]*)?", netloc) else None
    port = rf"{re.escape(name)}(?::[0-9]*)?"
    if len(name) > _MOST_CHARACTERS or not _NAME.fullmatch(name):
        return None
    return name.removesuffix(".") if re.fullmatch(port, netloc.lower()) else None


def is_private(address: Address) -> bool:
    """Whether an address is inside a machine or private network, or of no single machine."""
    inner = _carried(address)
    return not inner.is_global or inner.is_multicast


def check_hop(source: Origin, target: Origin, registries: RegistriesSettings, *, what: str) -> None:
    """Raise UnsafeAddressError unless a server at ``source`` may send us to ``target``.

    Never from https to http, unless the settings call the target ``insecure``. Into a private network
    only when the source is an address there too and the same one, when both are this machine, or when
    the settings name the target's host.
    """
    named = registries.by_host.get(target.host)
    if (
        source.scheme == "https"
        and target.scheme == "http"
        and not (named is not None and named.insecure)
    ):
        raise UnsafeAddressError(
            f"{what}: {source} points to {target}, which is not encrypted",
            hint=f"if that is meant, set insecure: true for {target.host} under registries: in the"
            " settings file",
        )
    both_here = is_loopback(_bracketed(source.name)) and is_loopback(_bracketed(target.name))
    if named is None and target.is_internal and target.name != source.name and not both_here:
        raise UnsafeAddressError(
            f"{what}: {source} points to {target}, an address in a private network",
            hint=_naming_hint(target),
        )


def check_peer(source: Origin | None, target: Origin, peer: Address, *, what: str) -> None:
    """Raise UnsafeAddressError unless a server at ``source`` may send us to a host at ``peer``.

    Call it for hosts that the settings don't name. A server in a private network may name others
    there, for networks of their own have names of their own; nobody else may, and only this machine
    may name this machine, or an address that is valid on one link only. None is a source of which
    nothing is known.
    """
    to = _carried(peer)
    if not is_private(to):
        return
    came = None if source is None or source.peer is None else _carried(source.peer)
    if came is not None and (came == to or _kind(came) == _kind(to) != "link"):
        return
    by = "the image's manifest" if source is None else str(source)
    raise UnsafeAddressError(
        f"{what}: {by} points to {target}, which is {peer}, an address in a private network",
        hint=_naming_hint(target),
    )


def _kind(address: Address) -> str:
    if not is_private(address):
        return "public"
    if address.is_loopback:
        return "here"
    single = not (address.is_multicast or address.is_unspecified or address.is_reserved)
    return "network" if single and not address.is_link_local else "link"


def _naming_hint(target: Origin) -> str:
    return f"if that is meant, name {target.host} under registries: in the settings file"


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name else name


def _address(name: str) -> Address | None:
    try:
        return ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        # Resolvers also take 127.1, 0x7f000001 and 2130706433 for addresses.
        try:
            return ipaddress.IPv4Address(socket.inet_aton(name))
        except (OSError, ValueError):
            return None


def _carried(address: Address) -> Address:
    """Return the IPv4 address inside an IPv6 one, if there is one."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in ipaddress.IPv6Network("::/127"):
        return address
    if any(address in network for network in _CARRIERS):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
