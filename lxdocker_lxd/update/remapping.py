"""Remapping a successor's files before the outage, by a start that ends before anything runs.

LXD unpacks an image with the image's own owners. Where the kernel can't map them while mounting, the
first start rewrites the owner of each file, and only then starts the instance's devices, templates
and init: the order of LXD 5.0 to 6. So a device that can't be started makes a start that remaps
and nothing else: not a byte of the image runs, no template is used up under the stage's own name, no
network and no volume is touched, and LXD never counts the instance as one that ran.
"""

from dataclasses import replace

from lxdocker_lxd.errors import LxdockerError, UsageError
from lxdocker_lxd.lxd.records import Instance, InstanceSettings
from lxdocker_lxd.update.bounded_json import json_of
from lxdocker_lxd.update.configuration import stamped
from lxdocker_lxd.update.transaction import Stamp

BARRIER_NAME = "lxdocker-barrier"
# Required, as devices are by default, and never there.
BARRIER = {
    "type": "unix-char",
    "source": "/dev/lxdocker-no-such-device",
    "path": "/dev/lxdocker-no-such-device",
}
_ON_DISK = "volatile.last_state.idmap"
_WANTED = "volatile.idmap.next"
# Each forbids the start, or what it does to the files. The successor gets them with its name.
_FORBIDDING = ("security.protection.shift", "security.protection.start")


def needs_remapping(stage: Instance) -> bool:
    """Whether the first start of a container would rewrite its files' owners.

    Also true where the kernel maps them while mounting: LXD doesn't tell. There it costs a moment.
    """
    wanted = stage.config.get(_WANTED, "")
    if stage.type != "container" or not _is_map(wanted):
        return False
    return stage.config.get(_ON_DISK) != wanted


def _is_map(text: str) -> bool:
    try:
        return bool(json_of(text or "[]"))
    except UsageError:
        return False


def barred_settings(stage: Instance, stamp: Stamp) -> InstanceSettings:
    """Return the settings with which a stage's start remaps its files and then fails."""
    forbidding = {
        key: "false" for key in _FORBIDDING if stage.expanded_config.get(key, "false") != "false"
    }
    settings = stamped(stage, stamp)
    return replace(
        settings,
        config={**settings.config, **forbidding},
        devices={**settings.devices, BARRIER_NAME: BARRIER},
    )


def ended_at_barrier(error: LxdockerError) -> bool:
    """Whether a failed start came as far as the barrier, and so remapped everything before."""
    return BARRIER_NAME in error.message
