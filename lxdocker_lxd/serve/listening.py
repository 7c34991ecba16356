"""Where the server listens: addresses as people write them, sockets bound or passed by systemd.

``:PORT`` stands for all IPv4 and IPv6 addresses. ``fd://N`` is a socket this process was started with
(sd_listen_fds(3)); sockets that systemd passes are used without being asked for.
"""

import contextlib
import errno
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from lxdocker_lxd.errors import NetworkError, UsageError

BACKLOG = 512
_FIRST_PASSED = 3
_ADDRESS = re.compile(
    r"(?:(?P<name>[A-Za-z0-9_.-]*)|\[(?P<six>[0-9A-Fa-f:.%a-z]+)\]):(?P<port>[0-9]{1,5})"
)
_DESCRIPTOR = re.compile(r"fd://([0-9]{1,6})")
_GREATEST_PORT = 65535
_PRIVILEGED = 1024
HTTP_NAME = "http"
"""FileDescriptorName= of a passed socket for plain HTTP."""


class AddressError(UsageError):
    """An address that can't be understood."""


class BindError(NetworkError):
    """An address that can't be listened at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """``host`` is empty for all addresses; ``descriptor`` stands for a socket that is open already."""

    host: str = ""
    port: int = 0
    descriptor: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read ``:PORT``, ``NAME:PORT``, ``IPv4:PORT``, ``[IPv6]:PORT`` or ``fd://N``."""
        if found := _DESCRIPTOR.fullmatch(text):
            return cls(descriptor=int(found[1]))
        parts = _ADDRESS.fullmatch(text)
        if parts is None or int(parts["port"]) > _GREATEST_PORT:
            raise AddressError(
                f"address {text[:80]!r}: expected :PORT, IP:PORT, [IPv6]:PORT or fd://N",
                hint="for example :443, 192.0.2.7:8443 or [2001:db8::7]:8443",
            )
        return cls(host=parts["name"] or parts["six"] or "", port=int(parts["port"]))

    def __str__(self) -> str:
        """Return the address as it is written."""
        if self.descriptor is not None:
            return f"fd://{self.descriptor}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def addresses(text: str) -> tuple[Address, ...]:
    """Read addresses with commas between them; raise AddressError."""
    return tuple(Address.parse(one.strip()) for one in text.split(","))


def bound(address: Address) -> list[socket.socket]:
    """Return listening sockets for ``address``; raise BindError with the next step."""
    if address.descriptor is not None:
        return [_passed(address.descriptor)]
    if not address.host:
        return _everywhere(address)
    try:
        places = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise BindError(
            f"listen at {address}: the name has no address", hint="give an IP address"
        ) from error
    return [_listening(place[0], place[4], address) for place in dict.fromkeys(places)]


def _everywhere(address: Address) -> list[socket.socket]:
    """Bind all IPv6 addresses, where the machine has the protocol, and all IPv4 ones."""
    found: list[socket.socket] = []
    with contextlib.ExitStack() as undo:
        port = address.port
        for family, host in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")):  # noqa: S104
            try:
                made = _listening(family, (host, port), address)
            except BindError as error:
                cause = error.__cause__
                if isinstance(cause, OSError) and cause.errno in _NO_PROTOCOL:
                    continue
                raise
            undo.callback(made.close)
            found.append(made)
            port = made.getsockname()[1]
        undo.pop_all()
    if not found:
        raise BindError(f"listen at {address}: the machine has neither IPv4 nor IPv6")
    return found


_NO_PROTOCOL = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)


def _listening(family: int, place: tuple[object, ...], address: Address) -> socket.socket:
    made: socket.socket | None = None
    try:
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(place)
        made.listen(BACKLOG)
    except OSError as error:
        if made is not None:
            made.close()
        raise BindError(
            f"listen at {address}: {os.strerror(error.errno or 0)}", hint=_next_step(error, address)
        ) from error
    made.settimeout(0)
    return made


def _next_step(error: OSError, address: Address) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"see who uses it with ss -ltnp 'sport = :{address.port}', or give another --address"
    if error.errno in (errno.EACCES, errno.EPERM) and address.port < _PRIVILEGED:
        return (
            "ports below 1024 need root, lxdocker-lxd-serve.socket (systemd opens the port) or"
            " AmbientCapabilities=CAP_NET_BIND_SERVICE; or use a port such as :8443"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return "the machine has no such address; ip address shows which it has"
    return ""


def _passed(descriptor: int) -> socket.socket:
    try:
        found = socket.socket(fileno=descriptor)
    except OSError as error:
        raise BindError(
            f"fd://{descriptor}: the process was started without such a socket",
            hint="fd://3 is the first socket that a .socket unit of systemd passes",
        ) from error
    if not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        found.detach()
        raise BindError(f"fd://{descriptor} is no listening socket")
    os.set_inheritable(descriptor, False)  # noqa: FBT003 - its only parameter
    found.settimeout(0)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """Sockets that systemd opened for this process: for TLS, and for plain HTTP by their name."""

    secure: tuple[Address, ...] = ()
    plain: tuple[Address, ...] = ()


def passed(environment: Mapping[str, str], process_id: int) -> Passed:
    """Return what LISTEN_FDS speaks of, if it speaks to this process."""
    try:
        count = int(environment.get("LISTEN_FDS", "0"))
        mine = int(environment.get("LISTEN_PID", "0")) == process_id
    except ValueError as error:
        raise AddressError("LISTEN_FDS and LISTEN_PID must be numbers") from error
    if not mine or count <= 0:
        return Passed()
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    secure: list[Address] = []
    plain: list[Address] = []
    for index in range(count):
        address = Address(descriptor=_FIRST_PASSED + index)
        named_http = index < len(names) and names[index] == HTTP_NAME
        (plain if named_http else secure).append(address)
    return Passed(secure=tuple(secure), plain=tuple(plain))


def port_of(one: socket.socket) -> int:
    """Return the port a socket listens at; 0 for what has none."""
    name = one.getsockname()
    return int(name[1]) if isinstance(name, tuple) else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sockets:
    """All listening sockets of a server: with TLS, and plain."""

    secure: tuple[socket.socket, ...]
    plain: tuple[socket.socket, ...]

    def close(self) -> None:
        """Close them; may be called again."""
        for one in (*self.secure, *self.plain):
            one.close()


def opened(
    secure: str, plain: str | None, *, environment: Mapping[str, str], process_id: int
) -> Sockets:
    """Return the sockets of addresses as they are written, several with commas between them.

    Sockets that systemd passed take the place of the addresses. Raises AddressError and BindError; then none is left open.
    """
    given = passed(environment, process_id)
    secure_places = given.secure or addresses(secure)
    plain_places = given.plain or (addresses(plain) if plain else ())
    with contextlib.ExitStack() as undo:
        found: list[list[socket.socket]] = [[], []]
        for group, places in zip(found, (secure_places, plain_places), strict=True):
            for place in places:
                for one in bound(place):
                    undo.callback(one.close)
                    group.append(one)
        undo.pop_all()
    return Sockets(secure=tuple(found[0]), plain=tuple(found[1]))
