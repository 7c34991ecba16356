"""All that a ready host has, in the order in which it is made. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lxdocker_lxd.setup import units
from lxdocker_lxd.setup.client_items import client_items
from lxdocker_lxd.setup.endpoint import Endpoint, endpoint
from lxdocker_lxd.setup.facts import Facts
from lxdocker_lxd.setup.file_items import ADMINISTRATOR, directory, file
from lxdocker_lxd.setup.item import Item
from lxdocker_lxd.setup.lxd_items import Bridge, lxd_items
from lxdocker_lxd.setup.record import SetupState
from lxdocker_lxd.setup.wish import SERVER_USER, USER, Places, Wish

SERVICE_OWNER = f"{USER}:{USER}"
_SERVER_READS = f"root:{SERVER_USER}"

EXAMPLE_SPEC = """\
# An example. Rename it to nginx.yaml, then: lxdocker-lxd convert
# The file's name without its ending is the image's name: lxc launch lxdocker:nginx
image: nginx:1.27
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a run aims at: the items, the server's endpoint, and what to know beside them."""

    items: tuple[Item, ...]
    endpoint: Endpoint
    remarks: tuple[str, ...]


def target(facts: Facts, wish: Wish, state: SetupState, shipped: Mapping[str, str]) -> Target:
    """Return what the host shall have. ``shipped`` are the units' texts. Raises UsageError."""
    bridge = Bridge.of(facts, wish, state)
    found = endpoint(facts, wish, bridge.address)
    makers = _Makers(facts, wish, found)
    items = (
        *lxd_items(facts, wish, bridge),
        *makers.machine(),
        *makers.clients(),
        *makers.services(shipped),
    )
    # A directory may be wanted for two reasons.
    items = tuple({item.key: item for item in items}.values())
    remarks = tuple(_remarks(facts, wish, bridge, makers.remote))
    if found.everywhere and not wish.addresses:
        remarks += ("as the settings say, the server listens at all addresses of this machine",)
    return Target(items=items, endpoint=found, remarks=remarks)


class _Makers:
    """Items of the machine, of its users' clients and of its services."""

    def __init__(self, facts: Facts, wish: Wish, found: Endpoint) -> None:
        self._facts = facts
        self._host = facts.host
        self._wish = wish
        self._endpoint = found
        self._places = Places.of(wish)
        self.remote = wish.remote_name or facts.host.settings.remote_name
        self._tls = facts.host.settings.tls_dir
        self._own_certificate = facts.host.settings.cert is not None

    def machine(self) -> Iterator[Item]:
        """User, directories, authority and files below /etc and /var."""
        for name, home, reason in (
            (USER, "/var/lib/lxdocker-lxd", "converts, without any privilege"),
            (SERVER_USER, "/nonexistent", "serves: it reaches neither logins nor layers"),
        ):
            yield Item(
                kind="user",
                name=name,
                wanted={"home": home},
                text=f"system user {name}",
                reason=reason,
                policy="keep",
            )
        for path in self._host.missing_directories:
            yield directory(path, "0755", ADMINISTRATOR, "keep")
        for path, mode, owner in (
            (self._places.config.parent, "0755", ADMINISTRATOR),
            (self._host.specs, "0755", ADMINISTRATOR),
        ):
            yield directory(path, mode, owner, "keep")
        images = self._host.lxdimages
        yield directory(images, "0755", SERVICE_OWNER, "keep", holds="images")
        yield directory(self._host.cache, "0750", SERVICE_OWNER, "keep", holds="cache")
        if not self._own_certificate:
            yield directory(self._places.authority, "0700", ADMINISTRATOR, "ensure")
            yield directory(self._tls, "0750", _SERVER_READS, "ensure")
            yield self._authority()
        if self._host.settings.key is not None:
            yield self._own_key(self._host.settings.key)
        yield file(self._places.config, self._config_text(), "settings", "keep")
        example = self._host.specs / "nginx.yaml.example"
        yield file(example, EXAMPLE_SPEC, "an example of a specification", "keep")

    def _own_key(self, path: Path) -> Item:
        return Item(
            kind="key-group",
            name=str(path),
            wanted={"group": SERVER_USER},
            text=f"group {SERVER_USER} for the key {path}",
            reason=f"the server reads it; {USER} served before",
        )

    def _authority(self) -> Item:
        names = ", ".join(sorted(self._endpoint.names))
        return Item(
            kind="authority",
            name=str(self._places.authority),
            wanted={"names": names, "served": str(self._tls), "owner": _SERVER_READS},
            text="local CA and server certificate",
            reason=f"TLS for {names}; only root can read the CA's key",
            policy="insist",
        )

    def _config_text(self) -> str:
        lines = {
            "address": ",".join(self._endpoint.addresses),
            "url": self._endpoint.url,
            "names": ",".join(self._endpoint.names),
        }
        if self._wish.remote_name:
            lines["remote_name"] = self._wish.remote_name
        if self._wish.root != Path("/"):
            lines |= {"specs": str(self._host.specs), "cache": str(self._host.cache)}
            lines |= {"lxdimages": str(self._host.lxdimages), "tls_dir": str(self._tls)}
        written = "".join(f'{key}: "{value}"\n' for key, value in lines.items())
        return f"# Settings of lxdocker-lxd; its README lists all of them.\n{written}"

    def clients(self) -> Iterator[Item]:
        """What lets the host's own users reach the server by its remote."""
        pinned = None if self._own_certificate else self._tls / "ca.crt"
        trust = self._places.trust if self._wish.system_trust else None
        yield from client_items(
            self._host.clients, self._endpoint.url, self.remote, pinned=pinned, trust=trust
        )

    def services(self, shipped: Mapping[str, str]) -> Iterator[Item]:
        """The units, where systemd runs."""
        if not self._host.systemd:
            return
        updater = self._facts.lxd.packaging in {"package", "snap", "incus"}
        if updater:
            yield directory(self._places.updates, "0700", ADMINISTRATOR, "keep")
        texts = units.installed(
            shipped, self._wish.command, self._endpoint.addresses, updater=updater
        )
        for below in sorted({str(Path(name).parent) for name in texts} - {"."}):
            yield directory(self._places.units / below, "0755", ADMINISTRATOR, "keep")
        for name, text in sorted(texts.items()):
            yield file(self._places.units / name, text, "unit", "ensure", kind="unit-file")
        for name in units.enabled(updater=updater):
            yield Item(
                kind="unit",
                name=name,
                wanted={"enabled": "enabled", "active": "active"},
                text=f"unit {name} enabled and started",
                reason="runs now and at every boot",
            )


def _remarks(facts: Facts, wish: Wish, bridge: Bridge, remote: str) -> Iterator[str]:
    lxd = facts.lxd
    if lxd.packaging == "none":
        pass
    elif not lxd.pools and not bridge.initialise:
        why = "--no-init was given" if not wish.initialise else "it is a cluster"
        yield f"LXD has no storage pool and is left so ({why}): run `lxd init` before launching"
    elif not bridge.address and not lxd.facing:
        yield "LXD has no bridge of its own: the image server listens on loopback only"
    if lxd.config.get("images.auto_update_interval") == "0" and wish.update_hours is None:
        yield (
            "LXD's automatic image updates are off (images.auto_update_interval is 0): turn them on"
            " with --auto-update-interval 6"
        )
    if facts.host.settings.cert is not None:
        yield (
            f"the server has a certificate of your own: no CA is made, and the remote {remote} works"
            " where the system trusts it"
        )
    for program in facts.host.missing_programs:
        yield f"missing: {program}"
    if not facts.host.systemd:
        yield (
            "systemd doesn't run here: start the server with `lxdocker-lxd serve`, and run"
            " `lxdocker-lxd convert`, `lxdocker-lxd refresh` and `lxdocker-lxd setup --renew` daily,"
            " from cron for example"
        )
