"""Looks at the host and its LXD; changes nothing."""

import shutil
import socket
import zlib
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network, ip_interface
from pathlib import Path
from urllib.parse import urlsplit

from lxdocker_lxd import atomic
from lxdocker_lxd.lxd.place import Place, SocketPlace
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.resources import Network
from lxdocker_lxd.lxd.server_records import ServerInfo
from lxdocker_lxd.setup import host_tables
from lxdocker_lxd.setup.accounts import Accounts
from lxdocker_lxd.setup.facts import ClientFacts, LxdFacts
from lxdocker_lxd.setup.wish import Wish

_CLIENTS = {
    "package": (".config/lxc", "snap/lxd/common/config", ".config/incus"),
    "snap": ("snap/lxd/common/config", ".config/lxc", ".config/incus"),
    "incus": (".config/incus", ".config/lxc", "snap/lxd/common/config"),
}
"""Where clients have their configuration below a home directory: the packaging's own one first."""

NO_LXD = LxdFacts(
    place="no LXD", packaging="none", product="", version="", clustered=False, pools=()
)
"""A machine that only serves."""

_PROGRAMS = (
    ("mksquashfs", "squashfs-tools", "packs images"),
    ("busybox", "busybox-static", "goes into each image"),
)


def lxd_facts(lxd: Lxd, place: Place) -> LxdFacts:
    """Return what LXD is and has; raise LxdockerError."""
    info = lxd.server.info()
    devices = lxd.profiles.get("default").devices
    bridge = _bridge(lxd.networks.list(), devices)
    return LxdFacts(
        place=str(place),
        packaging=place.packaging if isinstance(place, SocketPlace) else "remote",
        product=info.product,
        version=info.version,
        clustered=info.clustered,
        pools=tuple(pool.name for pool in lxd.pools.list()),
        bridge=bridge.name if bridge else "",
        # The bridge of a LXD elsewhere is no address of this machine.
        bridge_address=_address_of(bridge) if bridge and isinstance(place, SocketPlace) else "",
        default_devices=devices,
        config=info.config,
        facing=_facing(place, info),
    )


def _bridge(
    networks: tuple[Network, ...], devices: Mapping[str, Mapping[str, str]]
) -> Network | None:
    """Return the managed bridge of the default profile, or else the first one with an address."""
    managed = [one for one in networks if one.managed and one.type == "bridge"]
    used = {device.get("network") or device.get("parent") for device in devices.values()}
    first = [one for one in managed if one.name in used]
    return next(iter([*first, *(one for one in managed if _address_of(one))]), None)


def _address_of(network: Network) -> str:
    text = network.config.get("ipv4.address", "")
    return str(ip_interface(text).ip) if "/" in text else ""


def _facing(place: Place, info: ServerInfo) -> str:
    """Return this machine's address that LXD elsewhere can reach; empty for one that is only here."""
    if not isinstance(place, SocketPlace):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                # Sends nothing: it asks for the route.
                probe.connect(place.address)
            except OSError:
                return ""
            return str(probe.getsockname()[0])
    if not info.clustered:
        return ""
    address = info.config.get("cluster.https_address") or info.config.get("core.https_address", "")
    host = urlsplit(f"//{address}").hostname or ""
    return "" if host in ("", "::", "0.0.0.0") else host  # noqa: S104 - compared with


def clients(
    wish: Wish, accounts: Accounts, packaging: str, environment: Mapping[str, str], me: str
) -> tuple[ClientFacts, ...]:
    """Return the client configurations to write: of ``me``, of who called sudo, of users asked for.

    The packaging's own directory always, another one when a client was used there. Raises
    NotFoundError for a user who doesn't exist.
    """
    users = dict.fromkeys(filter(None, (me, environment.get("SUDO_USER"), *wish.users)))
    found: list[ClientFacts] = []
    for user in users:
        home = accounts.get(user).home
        own, *others = (home / below for below in _CLIENTS.get(packaging, _CLIENTS["package"]))
        if user == me and environment.get("LXD_CONF"):
            own, others = Path(environment["LXD_CONF"]), []
        try:
            with accounts.acting_as(user):
                used = [one for one in others if (one / "config.yml").exists()]
                for directory in (own, *used):
                    missing = missing_directories([directory / "servercerts" / "any"])
                    found.append(ClientFacts(user=user, directory=directory, missing=missing))
        except OSError as error:
            raise atomic.storage_error(f"look for clients of {user} in", home, error) from error
    return tuple(found)


def missing_directories(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Return the directories above ``paths`` that don't exist, outermost first."""
    return tuple(
        dict.fromkeys(
            parent for path in paths for parent in reversed(path.parents) if not parent.exists()
        )
    )


def listening() -> frozenset[tuple[str, int]]:
    """Return where programs of this machine listen."""
    tables = (_text(Path("/proc/net") / name) for name in ("tcp", "tcp6"))
    return frozenset(one for table in tables for one in host_tables.listening(table))


def networks() -> tuple[IPv4Network, ...]:
    """Return the networks this machine routes."""
    return tuple(host_tables.routed(_text(Path("/proc/net/route"))))


def interfaces() -> frozenset[str]:
    """Return the names of this machine's network interfaces."""
    return frozenset(name for _, name in socket.if_nameindex())


def seed() -> int:
    """Return a number that differs from machine to machine."""
    return zlib.crc32((_text(Path("/etc/machine-id")) or socket.gethostname()).encode())


def missing_programs() -> tuple[str, ...]:
    """Return what is not installed, why it is needed and how to get it."""
    return tuple(
        f"{program}, which {purpose}: apt-get install {package}"
        for program, package, purpose in _PROGRAMS
        if shutil.which(program) is None
    )


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError:
        return ""
