"""Names and addresses under which a server is reached, as a certificate lists them. Pure."""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from lxdocker_lxd.errors import UsageError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
ServerName = str | IPAddress

_MOST_NAME_CHARACTERS = 253
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


def parse(text: str) -> ServerName:
    """Return an address, or a DNS name in lower case without its last dot; raise UsageError."""
    bare = text.strip().removeprefix("[").removesuffix("]")
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return _dns_name(text)
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        raise UsageError(
            f"server name {text!r}: an address with a scope is valid on one link only",
            hint="leave out the part from % on, or give a name",
        )
    return address


def _dns_name(text: str) -> str:
    try:
        name = text.strip().lower().removesuffix(".").encode("idna").decode("ascii")
    except UnicodeError:
        name = ""
    labels = name.split(".")
    # A name of digits only would be taken for an address by some clients and not by others.
    if (
        len(name) > _MOST_NAME_CHARACTERS
        or not all(_LABEL.fullmatch(label) for label in labels)
        or labels[-1].isdigit()
    ):
        raise UsageError(
            f"server name {text[:80]!r}: expected a DNS name or an IP address",
            hint="for example images.lan or 192.168.1.10, without https:// and port",
        )
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerNames:
    """A set of names: ``dns`` and ``addresses``, each sorted and without repetitions."""

    dns: tuple[str, ...] = ()
    addresses: tuple[IPAddress, ...] = ()

    @classmethod
    def of(cls, names: Iterable[ServerName]) -> Self:
        """Return the set of these names."""
        found = set(names)
        return cls(
            dns=tuple(sorted(name for name in found if isinstance(name, str))),
            addresses=tuple(
                sorted(
                    (name for name in found if not isinstance(name, str)),
                    key=lambda address: (address.version, int(address)),
                )
            ),
        )

    def all(self) -> tuple[ServerName, ...]:
        """Return names and addresses together."""
        return (*self.dns, *self.addresses)

    def __str__(self) -> str:
        return ", ".join(map(str, self.all()))
