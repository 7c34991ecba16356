"""What a host and its LXD are, as far as setup has to know. Pure records; ``look`` fills them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path

from lxdocker_lxd.serve.settings import ServeSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class LxdFacts:
    """The LXD: where and what it is, and what it has already.

    ``place`` reads as "the LXD at …"; ``packaging`` is ``snap``, ``package``, ``incus``, ``given`` or
    ``remote``. ``bridge`` is the managed bridge that instances use, ``bridge_address`` its IPv4
    address; both empty without one. ``default_devices`` are the default profile's. ``facing`` is
    this machine's address that a LXD elsewhere, or other members of its cluster, can reach.
    """

    place: str
    packaging: str
    product: str
    version: str
    clustered: bool
    pools: tuple[str, ...]
    bridge: str = ""
    bridge_address: str = ""
    default_devices: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    config: Mapping[str, str] = field(default_factory=dict)
    facing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientFacts:
    """One directory with the configuration of a user's ``lxc`` (or ``incus``).

    ``missing`` are the directories on the way to its ``servercerts`` that don't exist, outermost
    first.
    """

    user: str
    directory: Path
    missing: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """The machine beside LXD.

    ``settings`` are those of the settings file if there is one, else the defaults; ``configured``
    tells which. ``listening`` are ports somebody listens at, with their addresses. ``networks`` are
    those the machine routes. ``missing_directories`` are to hold others, outermost first. ``seed`` differs from machine to machine.
    """

    settings: ServeSettings
    specs: Path
    cache: Path
    lxdimages: Path
    configured: bool
    clients: tuple[ClientFacts, ...]
    listening: frozenset[tuple[str, int]] = frozenset()
    interfaces: frozenset[str] = frozenset()
    networks: tuple[IPv4Network, ...] = ()
    systemd: bool = False
    missing_programs: tuple[str, ...] = ()
    missing_directories: tuple[Path, ...] = ()
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything setup looked at before it decides."""

    lxd: LxdFacts
    host: HostFacts
