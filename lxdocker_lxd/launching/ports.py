"""Ports of an instance that the host answers at: words as ``docker run -p`` has them, proxy devices.

Pure. Grammar: ``[[ADDRESS:]HOST_PORT:]PORT[/tcp|/udp]``; an IPv6 address stands in brackets. Without
a host port, and for all ports an image exposes, the same number is taken, or the next free one.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.lxd.records import Devices

_WORD = re.compile(
    r"(?:(?:(?P<address>\[[0-9A-Fa-f:.]+\]|[0-9.]+):)?(?P<host>\d{1,5}):)?"
    r"(?P<port>\d{1,5})(?:/(?P<protocol>tcp|udp))?"
)
_LAST_PORT = 65535
_FIRST_FREE = 49152


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedPort:
    """One port; ``host_port`` 0 is one still to be chosen."""

    port: int
    protocol: str = "tcp"
    host_port: int = 0
    address: str = "0.0.0.0"  # noqa: S104 - what Docker does; an address can be given

    @classmethod
    def parse(cls, text: str) -> "PublishedPort":
        """Return the port ``text`` names; raise UsageError."""
        match = _WORD.fullmatch(text)
        if match is None:
            raise UsageError(
                f"--publish {text!r}: expected [[ADDRESS:]HOST_PORT:]PORT[/tcp|/udp]",
                hint="for example 8080:80, 127.0.0.1:5432:5432 or 53:53/udp",
            )
        numbers = [int(match[part] or 0) for part in ("host", "port")]
        if max(numbers) > _LAST_PORT or not numbers[1] or (match["host"] and not numbers[0]):
            raise UsageError(f"--publish {text!r}: ports go from 1 to {_LAST_PORT}")
        return cls(
            port=numbers[1],
            protocol=match["protocol"] or "tcp",
            host_port=numbers[0],
            address=match["address"] or "0.0.0.0",  # noqa: S104 - as above
        )

    @classmethod
    def exposed(cls, text: str) -> "PublishedPort | None":
        """Return what an image's ``80/tcp`` stands for; None for what LXD can't pass on (sctp)."""
        match = _WORD.fullmatch(text)
        if match is None or match["host"]:
            return None
        return cls(port=int(match["port"]), protocol=match["protocol"] or "tcp")

    @property
    def listen(self) -> str:
        """What the host listens at, in the words of proxy devices."""
        return f"{self.protocol}:{self.address}:{self.host_port}"

    @property
    def device(self) -> dict[str, str]:
        """The proxy device."""
        inside = "[::1]" if self.address.startswith("[") else "127.0.0.1"
        connect = f"{self.protocol}:{inside}:{self.port}"
        return {"type": "proxy", "listen": self.listen, "connect": connect}

    def __str__(self) -> str:
        return f"{self.address}:{self.host_port}->{self.port}/{self.protocol}"


def settled(
    wanted: Iterable[PublishedPort], taken: Collection[tuple[str, int]]
) -> tuple[PublishedPort, ...]:
    """Return the ports with a host port each; ``taken`` are protocols and ports others have.

    Raises UsageError for one that is wanted twice.
    """
    used = set(taken)
    ports = list(wanted)
    mine: set[str] = set()
    for port in ports:
        if port.host_port and port.listen in mine:
            raise UsageError(f"--publish: {port.listen} is wanted twice")
        mine.add(port.listen)
        if port.host_port:
            used.add((port.protocol, port.host_port))
    found = []
    for port in ports:
        chosen = port.host_port or _free(port, used)
        used.add((port.protocol, chosen))
        found.append(replace(port, host_port=chosen))
    return tuple(found)


def _free(port: PublishedPort, used: Collection[tuple[str, int]]) -> int:
    candidates = (port.port, *range(_FIRST_FREE, _LAST_PORT + 1))
    free = (number for number in candidates if (port.protocol, number) not in used)
    chosen = next(free, 0)
    if not chosen:
        raise UsageError(f"no {port.protocol} port of the host is free for {port.port}")
    return chosen


def listened(devices: Devices) -> set[tuple[str, int]]:
    """Return the protocols and host ports of an instance's proxy devices."""
    found: set[tuple[str, int]] = set()
    for device in devices.values():
        if device.get("type") != "proxy" or device.get("bind", "host") not in ("host", ""):
            continue
        protocol, _, rest = device.get("listen", "").partition(":")
        for part in rest.rpartition(":")[2].split(","):
            first, _, last = part.partition("-")
            if first.isdigit() and (not last or last.isdigit()):
                span = range(int(first), int(last or first) + 1)
                found.update((protocol, number) for number in span[: _LAST_PORT + 1])
    return found


def devices_of(ports: Iterable[PublishedPort]) -> Mapping[str, Mapping[str, str]]:
    """Return the proxy devices of these ports by their names."""
    return {f"publish-{port.protocol}-{port.host_port}": port.device for port in ports}
