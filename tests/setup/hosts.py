"""Facts of hosts, as records, for tests of the pure middle."""

from collections.abc import Mapping
from ipaddress import IPv4Network
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lxdocker_lxd.serve.settings import SETTINGS, ServeSettings
from lxdocker_lxd.setup.facts import ClientFacts, Facts, HostFacts, LxdFacts
from lxdocker_lxd.setup.wish import Wish

NOTHING: Mapping[str, Any] = MappingProxyType({})


def serve_settings(**values: Any) -> ServeSettings:
    """The defaults, but for ``values``."""
    defaults: dict[str, Any] = {setting.key: setting.parse(setting.default) for setting in SETTINGS}
    return ServeSettings(**{**defaults, **values})


def lxd(**values: Any) -> LxdFacts:
    """A LXD of Debian with pool, bridge and profile, but for ``values``."""
    found: dict[str, Any] = {
        "place": "the LXD at /var/lib/lxd/unix.socket",
        "packaging": "package",
        "product": "lxd",
        "version": "5.0.2",
        "clustered": False,
        "pools": ("default",),
        "bridge": "lxdbr0",
        "bridge_address": "10.1.2.1",
        "default_devices": {"root": {"type": "disk", "path": "/", "pool": "default"}},
    }
    return LxdFacts(**{**found, **values})


def bare_lxd(**values: Any) -> LxdFacts:
    """A LXD as its package leaves it."""
    bare = {"pools": (), "bridge": "", "bridge_address": "", "default_devices": {}}
    return lxd(**{**bare, **values})


def facts(of_lxd: LxdFacts | None = None, **values: Any) -> Facts:
    """A host with one user, root, but for ``values``."""
    found: dict[str, Any] = {
        "settings": serve_settings(),
        "specs": Path("/etc/lxdocker-lxd/specs"),
        "cache": Path("/var/cache/lxdocker-lxd"),
        "lxdimages": Path("/var/lib/lxdocker-lxd/images"),
        "configured": False,
        "clients": (client("root", "/root/.config/lxc"),),
        "networks": (IPv4Network("0.0.0.0/0"), IPv4Network("192.168.1.0/24")),
    }
    return Facts(lxd=of_lxd or lxd(), host=HostFacts(**{**found, **values}))


def client(user: str, directory: str, *missing: str) -> ClientFacts:
    """A user's client configuration."""
    return ClientFacts(user=user, directory=Path(directory), missing=tuple(map(Path, missing)))


def wish(**values: Any) -> Wish:
    """The command without options, but for ``values``."""
    return Wish(**{"command": ("/opt/bin/lxdocker-lxd",), **values})
