"""What was asked of setup. Pure."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
USER = "lxdocker-lxd"
"""The system user that converts: it owns images and cache, and has the logins of registries."""

SERVER_USER = "lxdocker-lxd-serve"
"""The system user that serves: it owns nothing, and reads images and its certificate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """The command's options.

    ``root`` is put before every path of the machine. ``initialise``: give a bare LXD storage,
    network and profile. ``bridge``: how to call that network, empty to choose. ``addresses``,
    ``url``, ``names`` and ``remote_name``: of the image server; empty to choose. ``update_hours``:
    LXD's interval of image updates, None to leave it. ``command``: how units start this program.
    ``container``: the instance that shall hold the server, made of ``container_image``; empty for
    this machine. ``lxd``: whether there is a LXD to set up.
    """

    command: tuple[str, ...]
    root: Path = ROOT
    initialise: bool = True
    bridge: str = ""
    addresses: tuple[str, ...] = ()
    url: str = ""
    names: tuple[str, ...] = ()
    remote_name: str = ""
    system_trust: bool = False
    update_hours: int | None = None
    users: tuple[str, ...] = ()
    container: str = ""
    container_image: str = ""
    lxd: bool = True

    def at(self, path: str | Path) -> Path:
        """Return where a path of the machine is."""
        return self.root / str(path).lstrip("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Paths of the machine that setup fills beside those of the settings."""

    config: Path
    state: Path
    authority: Path
    units: Path
    trust: Path
    self_test: Path
    updates: Path
    hosts: Path

    @classmethod
    def of(cls, wish: Wish) -> "Places":
        """Return them for a wish."""
        return cls(
            config=wish.at("/etc/lxdocker-lxd/config.yaml"),
            state=wish.at("/var/lib/lxdocker-lxd/setup.json"),
            authority=wish.at("/var/lib/lxdocker-lxd/authority"),
            units=wish.at("/etc/systemd/system"),
            self_test=wish.at("/var/lib/lxdocker-lxd/self-test"),
            updates=wish.at("/var/lib/lxdocker-lxd/update"),
            hosts=wish.at("/etc/hosts"),
            trust=wish.at("/usr/local/share/ca-certificates/lxdocker-lxd.crt"),
        )
