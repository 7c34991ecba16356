"""The container in which an image server lives: its name, its definition, its volumes. Pure.

``examples/instances/lxdocker.yaml`` is the same definition for people who apply it by hand.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from lxdocker_lxd.errors import UsageError

DESCRIPTION = "Image server: application images of OCI registries, for this LXD"
MARK = "user.lxdocker-lxd.setup"
"""The key of instances and volumes that setup made."""

DATA = "/var/lib/lxdocker-lxd"
SETTINGS = "/etc/lxdocker-lxd"
# Of instances: a label of DNS (RFC 1123) that doesn't begin with a digit.
_NAME = re.compile(r"[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_CONFIG = {
    "boot.autostart": "true",
    # The sandbox of the server's and the converter's units is made of mounts of their own.
    "security.nesting": "true",
    MARK: "image-server",
}


def checked_name(text: str) -> str:
    """Return the text if LXD takes it as an instance's name; raise UsageError."""
    if not _NAME.fullmatch(text):
        raise UsageError(
            f"--in-container {text}: that is no name of an instance",
            hint="letters, digits and hyphens, beginning with a letter: lxdocker",
        )
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Contained:
    """Where the container shall be: ``pool`` of its volumes, ``network`` and ``address`` on it.

    ``image`` is a local alias or fingerprint that it is made of. ``host_name`` is how others call
    it.
    """

    name: str
    host_name: str
    image: str
    pool: str
    network: str
    address: str

    @property
    def volumes(self) -> Mapping[str, str]:
        """Names of the volumes that outlive the container, by what they are mounted at."""
        return {DATA: f"{self.name}-data", SETTINGS: f"{self.name}-settings"}

    @property
    def url(self) -> str:
        """Where LXD and its clients reach the server."""
        return f"https://{self.host_name}"

    @property
    def config(self) -> Mapping[str, str]:
        """The instance's own keys."""
        return dict(_CONFIG)

    @property
    def devices(self) -> Mapping[str, Mapping[str, str]]:
        """The instance's own devices; its root disk is that of the default profile."""
        nic = {
            "type": "nic",
            "name": "eth0",
            "network": self.network,
            "ipv4.address": self.address,
        }
        disks = {
            volume.removeprefix(f"{self.name}-"): {
                "type": "disk",
                "pool": self.pool,
                "source": volume,
                "path": path,
            }
            for path, volume in self.volumes.items()
        }
        return {"eth0": nic, **disks}

    @property
    def definition(self) -> str:
        """Config and devices as one text, to compare."""
        return definition_text(self.config, self.devices)


def address_in(definition: str) -> str:
    """Return the address that a text of :func:`definition_text` fixes."""
    address: str = json.loads(definition)["devices"]["eth0"]["ipv4.address"]
    return address


def definition_text(
    config: Mapping[str, str | None], devices: Mapping[str, Mapping[str, str]]
) -> str:
    """Return config and devices as one text, always the same for the same ones."""
    content = {"config": dict(config), "devices": {key: dict(one) for key, one in devices.items()}}
    return json.dumps(content, sort_keys=True)
