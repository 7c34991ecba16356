"""A LXD daemon: all ports over one connection."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from lxdocker_lxd.lxd.aliases import LxdAliases
from lxdocker_lxd.lxd.api import Api
from lxdocker_lxd.lxd.certificate_time import expires_at
from lxdocker_lxd.lxd.decoding import server_info
from lxdocker_lxd.lxd.events import LxdEvents
from lxdocker_lxd.lxd.failures import NotTrustedError
from lxdocker_lxd.lxd.guests import LxdGuests
from lxdocker_lxd.lxd.images import LxdImages
from lxdocker_lxd.lxd.instances import LxdInstances
from lxdocker_lxd.lxd.networks import LxdNetworks
from lxdocker_lxd.lxd.operations import Operations
from lxdocker_lxd.lxd.place import Place, RemotePlace
from lxdocker_lxd.lxd.power import LxdPower
from lxdocker_lxd.lxd.profiles import LxdProfiles, LxdProjects
from lxdocker_lxd.lxd.server import LxdServer
from lxdocker_lxd.lxd.storage import LxdPools, LxdVolumes


class LxdDaemon:
    """Implements :class:`Lxd`; ``open_lxd`` makes one."""

    def __init__(self, api: Api, *, pause: Callable[[float], None] = time.sleep) -> None:
        self._api = api
        operations = Operations(api)
        self.server = LxdServer(api, operations)
        self.images = LxdImages(api, operations)
        self.aliases = LxdAliases(api)
        self.instances = LxdInstances(api, operations)
        self.power = LxdPower(api, operations)
        self.guests = LxdGuests(api, operations, pause=pause)
        self.volumes = LxdVolumes(api, operations)
        self.pools = LxdPools(api, operations)
        self.networks = LxdNetworks(api, operations)
        self.profiles = LxdProfiles(api, operations)
        self.projects = LxdProjects(api, operations)
        self.events = LxdEvents(api)

    def close(self) -> None:
        """End the kept connections; event streams are closed by themselves."""
        self._api.close()


def open_lxd(
    place: Place,
    *,
    pause: Callable[[float], None] = time.sleep,
    heartbeat: Callable[[], None] = lambda: None,
) -> LxdDaemon:
    """Connect to the LXD at ``place``; ``heartbeat`` is called whenever a request has ended.

    Raises NotInstalledError, NotRunningError, PermissionRefusedError, UnreachableError,
    ServerCertificateError, or NotTrustedError for a remote one that doesn't know our certificate,
    or knows it and finds it expired.
    """
    api = Api(place, pause=pause, heartbeat=heartbeat)
    if not server_info(api.host_info).trusted:
        api.close()
        raise _not_trusted(place)
    return LxdDaemon(api, pause=pause)


def _not_trusted(place: Place) -> NotTrustedError:
    end = _end_of_client_certificate(place)
    if isinstance(place, RemotePlace) and end is not None and end < datetime.now(UTC):
        return NotTrustedError(
            f"could not connect: our client certificate for {place} expired on {end:%Y-%m-%d %H:%M}"
            f" UTC ({place.client_certificate})",
            hint="move it and client.key away, `lxc remote add` makes a new pair; let that be trusted"
            " there: `lxc config trust add client.crt`",
        )
    return NotTrustedError(
        f"could not connect: {place} doesn't trust our client certificate",
        hint="add it there: `lxc config trust add client.crt`",
    )


def _end_of_client_certificate(place: Place) -> datetime | None:
    if not isinstance(place, RemotePlace):
        return None
    try:
        return expires_at(place.client_certificate.read_text("ascii", errors="replace"))
    except OSError:
        return None
