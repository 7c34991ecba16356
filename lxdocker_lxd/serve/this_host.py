"""Names and addresses of this machine, for its certificate.

From the kernel's tables in /proc, so that no privilege and no kind of socket is needed.
"""

import functools
import ipaddress
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.serve.certificate import PRIVATE_SUFFIXES
from lxdocker_lxd.serve.server_names import IPAddress, ServerName, ServerNames, parse

PRIVATE_DOMAINS = ("home.arpa", "incus", "internal", "lan", "local", "lxd")
"""Where routers, mDNS and LXD's own DNS server put a host's bare name."""

_LOOKUP_SECONDS = 3.0
_MOST_BYTES = 16 << 20
_MOST_ADDRESSES = 64
_LOOPBACK = (ipaddress.IPv4Address("127.0.0.1"), ipaddress.IPv6Address("::1"))
_LOCAL_IPV4 = re.compile(r"\|-- ([0-9.]+)\n +/32 host LOCAL")
# linux/if_addr.h: a privacy address that changes daily; one not checked for duplicates yet, or found
# to be one; one that is about to go.
_PASSING_FLAGS = 0x01 | 0x08 | 0x20 | 0x40


def server_names(
    network: Path = Path("/proc/self/net"),
    *,
    host: str = "",
    hosts: Path = Path("/etc/hosts"),
    canonical: Callable[[str], str] | None = None,
) -> ServerNames:
    """Return what clients may call this machine: its names, also in private domains, and addresses.

    ``host`` is its configured name. Public names are that one and what the hosts file makes of it; of
    what the resolver calls it (``canonical``), only names in private domains count: an authority for
    the names is made, and whoever answers for the resolver could add to it.
    """
    host = host or socket.gethostname()
    names: set[ServerName] = {"localhost"}
    configured = _parsed(host)
    if configured is None:
        return ServerNames.of({*names, *_addresses(network)})
    names.add(configured)
    if isinstance(configured, str) and "." not in configured and configured != "localhost":
        names.update(f"{configured}.{domain}" for domain in PRIVATE_DOMAINS)
        names.update(_in_hosts_file(configured, hosts))
        told = _parsed((canonical or _canonical)(host))
        if isinstance(told, str) and told.startswith(f"{configured}.") and _is_private(told):
            names.add(told)
    return ServerNames.of({*names, *_addresses(network)})


def _parsed(text: str) -> ServerName | None:
    try:
        return parse(text)
    except UsageError:
        return None


def _is_private(name: str) -> bool:
    return any(name.endswith(f".{suffix}") for suffix in PRIVATE_SUFFIXES)


def _in_hosts_file(host: str, file: Path) -> Iterator[str]:
    """Yield the full names that the hosts file has for ``host``, on lines that name both."""
    for line in _text(file).splitlines():
        if host not in line.lower():
            continue
        words = [_parsed(word) for word in line.partition("#")[0].split()[1:]]
        if host in words:
            yield from (one for one in words if isinstance(one, str) and one.startswith(f"{host}."))


def _addresses(network: Path) -> list[IPAddress]:
    """Return the addresses of all interfaces except link-local and passing ones."""
    found: set[IPAddress] = {
        ipaddress.IPv4Address(text) for text in _LOCAL_IPV4.findall(_text(network / "fib_trie"))
    }
    for line in _text(network / "if_inet6").splitlines():
        address, _, _, _, flags, *_ = line.split()
        if not int(flags, 16) & _PASSING_FLAGS:
            found.add(ipaddress.IPv6Address(int(address, 16)))
    lasting = [one for one in found if not one.is_loopback and not one.is_link_local]
    return [*_LOOPBACK, *sorted(lasting, key=str)[:_MOST_ADDRESSES]]


def _text(path: Path) -> str:
    """Return a table of the kernel, or its like; empty where there is none or it is closed."""
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


@functools.lru_cache(maxsize=4)
def _canonical(host: str) -> str:
    """Return the full name of ``host`` from hosts file or DNS; ``host`` itself when that takes long."""
    found = [host]

    def look() -> None:
        try:
            answers = socket.getaddrinfo(host, None, flags=socket.AI_CANONNAME)
        except OSError:
            return
        found.extend(name for *_, name, _ in answers if "." in name)

    # A resolver without network waits longer than a start may.
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(_LOOKUP_SECONDS)
    return found[-1]
