"""Ports of an instance that the host answers at: words as ``docker run -p`` has them, proxy devices.

Pure. Grammar: ``[[ADDRESS:]HOST_PORT:]PORT[/tcp|/udp]``; an IPv6 address stands in brackets. Without
a host port, and for all ports an image exposes, the same number is taken, or the next free one.
"""

import ipaddress
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.exposed_port import ExposedPort
from lxdocker_lxd.lxd.records import Devices

_WORD = re.compile(
    r"(?:(?:(?P<address>\[[0-9A-Fa-f:.]+\]|[0-9.]+):)?(?P<host>\d{1,5}):)?"
    r"(?P<port>\d{1,5})(?:/(?P<protocol>tcp|udp))?",
    re.ASCII,
)
_SPAN = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_PASSED_ON = ("tcp", "udp")
_LAST_PORT = 65535
_MOST_EXPOSED = 100
_FIRST_FREE = 49152
_ANY4, _ANY6 = "0.0.0.0", "::"  # noqa: S104 - compared, and what Docker does
_EXAMPLES = "for example 8080:80, 127.0.0.1:5432:5432 or 53:53/udp"

Held = tuple[str, str, int]
"""What somebody listens at: protocol, address without brackets, port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedPort:
    """One port; ``host_port`` 0 is one still to be chosen."""

    port: int
    protocol: str = "tcp"
    host_port: int = 0
    address: str = _ANY4

    @classmethod
    def parse(cls, text: str) -> "PublishedPort":
        """Return the port ``text`` names; raise UsageError."""
        match = _WORD.fullmatch(text)
        if match is None:
            raise UsageError(
                f"--publish {text!r}: expected [[ADDRESS:]HOST_PORT:]PORT[/tcp|/udp]",
                hint=f"{_EXAMPLES}; of several ports, each by itself",
            )
        address = match["address"] or _ANY4
        if not _is_address(address):
            raise UsageError(f"--publish {text!r}: {address} is no address", hint=_EXAMPLES)
        numbers = [int(match[part] or 0) for part in ("host", "port")]
        if max(numbers) > _LAST_PORT or not numbers[1] or (match["host"] and not numbers[0]):
            raise UsageError(f"--publish {text!r}: ports go from 1 to {_LAST_PORT}", hint=_EXAMPLES)
        return cls(
            port=numbers[1],
            protocol=match["protocol"] or "tcp",
            host_port=numbers[0],
            address=address,
        )

    @classmethod
    def exposed(cls, text: str) -> tuple["PublishedPort", ...]:
        """Return what an image's ``80/tcp`` or ``8000-8010/tcp`` stands for, in order.

        Nothing for what is no port, or is one that LXD can't pass on (sctp).
        """
        found = ExposedPort.parse(text)
        if found is None or found.protocol not in _PASSED_ON:
            return ()
        numbers = range(found.first, found.last + 1)
        return tuple(cls(port=number, protocol=found.protocol) for number in numbers)

    @property
    def listen(self) -> str:
        """What the host listens at, in the words of proxy devices."""
        return f"{self.protocol}:{self.address}:{self.host_port}"

    @property
    def held(self) -> Held:
        """What it takes of the host."""
        return self.protocol, self.address.strip("[]"), self.host_port

    @property
    def device(self) -> dict[str, str]:
        """The proxy device."""
        inside = "[::1]" if self.address.startswith("[") else "127.0.0.1"
        connect = f"{self.protocol}:{inside}:{self.port}"
        return {"type": "proxy", "listen": self.listen, "connect": connect}

    def __str__(self) -> str:
        return f"{self.address}:{self.host_port}->{self.port}/{self.protocol}"


def clash(one: Held, other: Held) -> bool:
    """Whether only one of both can be listened at: ``::`` answers IPv4, too."""
    if (one[0], one[2]) != (other[0], other[2]):
        return False
    addresses = {one[1], other[1]}
    narrow = [address for address in addresses if ":" not in address]
    return len(addresses) == 1 or _ANY6 in addresses or (_ANY4 in addresses and len(narrow) > 1)


def settled(wanted: Iterable[PublishedPort], taken: Collection[Held]) -> tuple[PublishedPort, ...]:
    """Return the ports with a host port each; ``taken`` is what others have.

    Raises UsageError for one that is wanted twice.
    """
    ports = list(wanted)
    mine: list[Held] = []
    for port in ports:
        if port.host_port and any(clash(port.held, other) for other in mine):
            raise UsageError(
                f"--publish: {port.listen} is wanted twice",
                hint="publish another port; [::] answers IPv4 too, and 0.0.0.0 every address of it",
            )
        mine += [port.held] if port.host_port else []
    used: dict[tuple[str, int], list[Held]] = defaultdict(list)
    for held in (*taken, *mine):
        used[held[0], held[2]].append(held)
    found = []
    for port in ports:
        chosen = port if port.host_port else _free(port, used)
        used[chosen.protocol, chosen.host_port].append(chosen.held)
        found.append(chosen)
    return tuple(found)


def _free(port: PublishedPort, used: Mapping[tuple[str, int], list[Held]]) -> PublishedPort:
    for number in (port.port, *range(_FIRST_FREE, _LAST_PORT + 1)):
        chosen = replace(port, host_port=number)
        if not any(clash(chosen.held, other) for other in used.get((port.protocol, number), ())):
            return chosen
    raise UsageError(
        f"no {port.protocol} port of the host is free for {port.port}",
        hint="delete instances that publish ports and aren't needed, or name a port",
    )


def _is_address(text: str) -> bool:
    """Whether it is an IPv4 address, or an IPv6 address in brackets."""
    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return False
    return (address.version == 6) == text.startswith("[")  # noqa: PLR2004 - IPv6


def exposed_by(texts: Iterable[str]) -> tuple[PublishedPort, ...]:
    """Return the ports of an image, each once; raise UsageError where publishing all makes no sense."""
    found: dict[PublishedPort, None] = {}
    for text in texts:
        found.update(dict.fromkeys(PublishedPort.exposed(text)))
        if len(found) > _MOST_EXPOSED:
            raise UsageError(
                f"--publish-all: the image exposes more than {_MOST_EXPOSED} ports",
                hint="name those that you need with --publish",
            )
    return tuple(found)


def listened(devices: Devices) -> set[Held]:
    """Return what an instance's proxy devices listen at on the host."""
    found: set[Held] = set()
    for device in devices.values():
        if device.get("type") != "proxy" or device.get("bind", "host") not in ("host", ""):
            continue
        protocol, _, rest = device.get("listen", "").partition(":")
        address, _, numbers = rest.rpartition(":")
        for part in numbers.split(","):
            # LXD's text, but perhaps another machine's LXD.
            if span := _SPAN.fullmatch(part):
                first, last = int(span[1]), min(int(span[2] or span[1]), _LAST_PORT)
                numbered = range(first, last + 1)
                found.update((protocol, address.strip("[]"), number) for number in numbered)
    return found


def devices_of(ports: Iterable[PublishedPort]) -> Mapping[str, Mapping[str, str]]:
    """Return the proxy devices of these ports by their names."""
    found: dict[str, Mapping[str, str]] = {}
    for port in ports:
        plain = f"publish-{port.protocol}-{port.host_port}"
        # The same number at another address is another device.
        name, count = plain, 1
        while name in found:
            count += 1
            name = f"{plain}-{count}"
        found[name] = port.device
    return found
