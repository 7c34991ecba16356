"""Where the image server listens and how clients call it. Pure.

Without other orders it listens on LXD's bridge and on loopback: the machine's own LXD and its
instances reach it, the rest of the network does not.
"""

from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.serve.listening import Address
from lxdocker_lxd.setup.facts import Facts
from lxdocker_lxd.setup.wish import Wish

LOOPBACK = "127.0.0.1"
HTTPS_PORT = 443
_PORTS = (HTTPS_PORT, 8443, 8444, 8445, 9443)
_ANY = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - compared with, not bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """The server's ``addresses`` as ``serve`` takes them, its ``url`` and the ``names`` it proves."""

    addresses: tuple[str, ...]
    url: str
    names: tuple[str, ...]

    @property
    def everywhere(self) -> bool:
        """Whether it listens at all addresses of the machine."""
        return any(Address.parse(text).host in _ANY for text in self.addresses)

    @property
    def host_and_port(self) -> tuple[str, int]:
        """What a client connects to."""
        parts = urlsplit(self.url)
        return parts.hostname or LOOPBACK, parts.port or HTTPS_PORT


def endpoint(facts: Facts, wish: Wish, bridge_address: str) -> Endpoint:
    """Return the endpoint: as the settings file says, as wished, or chosen; raise UsageError."""
    settings = facts.host.settings
    if facts.host.configured:
        addresses = tuple(one.strip() for one in settings.address.split(","))
        if settings.names:
            url = settings.url or f"https://{_shown(settings.names[0])}{_port(addresses)}"
        else:
            url = settings.url or _url(addresses, (facts.lxd.facing, bridge_address))
        _agree("--address", ",".join(wish.addresses), ",".join(addresses))
        _agree("--url", wish.url, url)
        names = (*settings.names, *wish.names)
        return Endpoint(addresses=addresses, url=url, names=_names(addresses, url, names))
    addresses = wish.addresses or _chosen(facts, bridge_address)
    url = wish.url or _url(addresses, (facts.lxd.facing, bridge_address))
    return Endpoint(addresses=addresses, url=url, names=_names(addresses, url, wish.names))


def _chosen(facts: Facts, bridge_address: str) -> tuple[str, ...]:
    hosts = [LOOPBACK, *filter(None, dict.fromkeys((bridge_address, facts.lxd.facing)))]
    for port in _PORTS:
        if not any(_taken(host, port, facts.host.listening) for host in hosts):
            return tuple(str(Address(host=host, port=port)) for host in hosts)
    raise UsageError(
        f"choose a port for the image server: {', '.join(map(str, _PORTS))} are all taken",
        hint="give one with --address",
    )


def _url(addresses: tuple[str, ...], preferred: tuple[str, ...]) -> str:
    """Return a URL for the first preferred host that is listened at, or else for any."""
    hosts = [Address.parse(text).host for text in addresses]
    everywhere = not _ANY.isdisjoint(hosts)
    host = next((one for one in preferred if one and (everywhere or one in hosts)), None)
    if host is None:
        host = next((one for one in hosts if one not in _ANY), LOOPBACK)
    return f"https://{_shown(host)}{_port(addresses)}"


def _agree(flag: str, wished: str, set_up: str) -> None:
    """Refuse a flag that the settings file contradicts: it would be without effect."""
    if wished and wished != set_up:
        raise UsageError(
            f"{flag} {wished}: the settings file says {set_up}",
            hint="change it in the settings file, then run setup without the flag",
        )


def _taken(host: str, port: int, listening: Collection[tuple[str, int]]) -> bool:
    return any(used == port and at in {host, *_ANY} for at, used in listening)


def _port(addresses: tuple[str, ...]) -> str:
    port = Address.parse(addresses[0]).port
    return "" if port in (0, HTTPS_PORT) else f":{port}"


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _names(addresses: tuple[str, ...], url: str, given: tuple[str, ...]) -> tuple[str, ...]:
    hosts = [Address.parse(text).host for text in addresses]
    found = [urlsplit(url).hostname or "", *given, *hosts, LOOPBACK, "localhost"]
    return tuple(dict.fromkeys(name for name in found if name not in _ANY))
