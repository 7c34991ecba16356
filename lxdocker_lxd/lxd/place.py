"""Where a LXD can be: sockets of the known packagings, or an address with its certificates.

Order of search (server-side sockets): ``LXD_DIR`` or ``INCUS_DIR`` decide alone when they are set; then
snap, Debian's package, Incus. Nothing here connects; whether a socket exists is all that is asked
of the file system.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.lxd.failures import NotInstalledError

DEFAULT_PORT = 8443


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketPlace:
    """A daemon on this machine; ``packaging`` is ``snap``, ``package``, ``incus`` or ``given``."""

    socket: Path
    packaging: str = "given"

    def __str__(self) -> str:
        return f"the LXD at {self.socket}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemotePlace:
    """A daemon at an HTTPS address.

    ``client_certificate`` and ``client_key`` are PEM files LXD must trust. ``server_certificate`` is
    the one PEM certificate that is trusted: the server's own (its names don't matter then) or its
    authority's. Without it the system's authorities decide.
    """

    url: str
    client_certificate: Path
    client_key: Path
    server_certificate: Path | None = None

    def __post_init__(self) -> None:
        if not _is_address(self.url):
            raise UsageError(
                f"{self.url!r} is no address of a LXD",
                hint="write it as https://HOST:8443",
            )

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return (parts.hostname or "", parts.port or DEFAULT_PORT)

    @property
    def endpoint(self) -> str:
        """The URL with its port and nothing behind it."""
        host, port = self.address
        shown = f"[{host}]" if ":" in host else host
        return f"https://{shown}:{port}"

    def __str__(self) -> str:
        return f"the LXD at {self.endpoint}"


Place = SocketPlace | RemotePlace

# Newest packaging first: a host with both has usually moved from one to the other.
KNOWN_SOCKETS = (
    SocketPlace(socket=Path("/var/snap/lxd/common/lxd/unix.socket"), packaging="snap"),
    SocketPlace(socket=Path("/var/lib/lxd/unix.socket"), packaging="package"),
    SocketPlace(socket=Path("/var/lib/incus/unix.socket"), packaging="incus"),
)


def find_socket(environment: Mapping[str, str], root: Path = Path("/")) -> SocketPlace:
    """Return the socket of this machine's daemon; raise NotInstalledError when there is none.

    ``root`` is put before the known paths, for tests.
    """
    for variable, packaging in (("LXD_DIR", "given"), ("INCUS_DIR", "incus")):
        if directory := environment.get(variable):
            place = SocketPlace(socket=Path(directory, "unix.socket"), packaging=packaging)
            if _seems_there(place.socket):
                return place
            raise NotInstalledError(
                f"{variable} names {directory}, and no socket unix.socket is there",
                hint=f"start the LXD of that directory, or unset {variable}",
            )
    for known in KNOWN_SOCKETS:
        socket = root / known.socket.relative_to("/")
        if _seems_there(socket):
            return SocketPlace(socket=socket, packaging=known.packaging)
    looked = ", ".join(str(known.socket) for known in KNOWN_SOCKETS)
    raise NotInstalledError(
        f"no LXD was found on this machine (looked for {looked})",
        hint="install it with `apt install lxd` or `snap install lxd` and start it,"
        " or name a remote one",
    )


def _seems_there(socket: Path) -> bool:
    # A directory we may not enter hides a daemon; connecting will say so.
    try:
        return socket.exists()
    except PermissionError:
        return True


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        good_port = parts.port != 0
    except ValueError:
        return False
    return (
        parts.scheme == "https" and bool(parts.hostname) and good_port and not parts.path.strip("/")
    )
