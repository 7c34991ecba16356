"""Names and addresses of this machine, for its certificate.

From the kernel's tables in /proc, so that no privilege and no kind of socket is needed.
"""

import functools
import ipaddress
import re
import socket
import threading
from pathlib import Path

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.serve.server_names import IPAddress, ServerName, ServerNames, parse

PRIVATE_DOMAINS = ("home.arpa", "incus", "internal", "lan", "local", "lxd")
"""Where routers, mDNS and LXD's own DNS server put a host's bare name."""

_LOOKUP_SECONDS = 3.0
_MOST_ADDRESSES = 64
_LOOPBACK = (ipaddress.IPv4Address("127.0.0.1"), ipaddress.IPv6Address("::1"))
_LOCAL_IPV4 = re.compile(r"\|-- ([0-9.]+)\n +/32 host LOCAL")
# linux/if_addr.h: a privacy address that changes daily; one not checked for duplicates yet, or found
# to be one; one that is about to go.
_PASSING_FLAGS = 0x01 | 0x08 | 0x20 | 0x40


def server_names(network: Path = Path("/proc/self/net")) -> ServerNames:
    """Return what clients may call this machine: its names, also in private domains, and addresses."""
    host = socket.gethostname()
    names: set[ServerName] = {"localhost"}
    for text in (host, _canonical(host)):
        try:
            name = parse(text)
        except UsageError:
            continue
        names.add(name)
        if isinstance(name, str) and "." not in name and name != "localhost":
            names.update(f"{name}.{domain}" for domain in PRIVATE_DOMAINS)
    return ServerNames.of({*names, *_addresses(network)})


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
    """Return a table of the kernel; empty without the protocol or where /proc is closed."""
    try:
        return path.read_text(encoding="ascii")
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
