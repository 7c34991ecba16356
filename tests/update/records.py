"""Instances and images as records, for tests of the pure parts."""

from collections.abc import Mapping
from datetime import UTC, datetime

from lxdocker_lxd.lxd.records import Config, Devices, Image, Instance

OLD_IMAGE, NEW_IMAGE = "a" * 64, "b" * 64
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ROOT = {"type": "disk", "path": "/", "pool": "default"}
NIC = {"type": "nic", "network": "br0", "name": "eth0"}


def instance(
    name: str = "web",
    *,
    project: str = "default",
    status: str = "Running",
    config: Config | None = None,
    devices: Devices | None = None,
    profile_devices: Devices | None = None,
    profile_config: Config | None = None,
    base_image: str = OLD_IMAGE,
    ephemeral: bool = False,
    kind: str = "container",
    location: str = "none",
) -> Instance:
    """An instance of one profile with a root disk and a NIC."""
    own = {"volatile.base_image": base_image, "volatile.eth0.hwaddr": "00:16:3e:00:00:01"}
    own |= dict(config or {})
    below: Mapping[str, Mapping[str, str]] = (
        {"root": ROOT, "eth0": NIC} if profile_devices is None else profile_devices
    )
    return Instance(
        name=name,
        project=project,
        status=status,
        location=location,
        type=kind,
        architecture="x86_64",
        ephemeral=ephemeral,
        stateful=False,
        description="what it is",
        profiles=("default",),
        config=own,
        devices=dict(devices or {}),
        expanded_config={**(profile_config or {}), **own},
        expanded_devices={**below, **(devices or {})},
        etag="e1",
    )


def image(
    fingerprint: str = NEW_IMAGE,
    *,
    aliases: tuple[str, ...] = ("web",),
    uploaded_at: datetime | None = NOW,
    architecture: str = "x86_64",
    kind: str = "container",
) -> Image:
    """An image of the store."""
    return Image(
        fingerprint=fingerprint,
        project="default",
        type=kind,
        architecture=architecture,
        size_bytes=1,
        aliases=aliases,
        uploaded_at=uploaded_at,
    )
