"""The root volume's own settings, which LXD keeps beside the instance: given to the successor's."""

from dataclasses import replace

from lxdocker_lxd.lxd.failures import AbsentError
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Config, Instance

# They say how a volume was made, and can't be changed; the size is the root device's.
_FROM_BIRTH = frozenset(
    {
        "size",
        "block.filesystem",
        "block.type",
        "lvm.stripes",
        "lvm.stripes.size",
        "zfs.block_mode",
        "zfs.blocksize",
    }
)


def carry_settings(lxd: Lxd, holder: Instance, successor: Instance) -> None:
    """Give the successor's root volume what a user set on the holder's.

    Raises RefusedError when LXD doesn't take a setting, and what reading and writing raise; then
    nothing of the holder has been touched.
    """
    try:
        ours = lxd.instances.root_volume(holder)
    except AbsentError:
        # A kind of root that has no such settings.
        return
    wanted = _settable(ours.config)
    if not wanted and not ours.description:
        return
    now = lxd.instances.root_volume(successor)
    if (_settable(now.config), now.description) == (wanted, ours.description):
        return
    born = {key: value for key, value in now.config.items() if not _is_settable(key)}
    lxd.instances.edit_root_volume(
        successor, replace(now, config={**born, **wanted}, description=ours.description)
    )


def _settable(config: Config) -> dict[str, str]:
    return {key: value for key, value in config.items() if _is_settable(key)}


def _is_settable(key: str) -> bool:
    return key not in _FROM_BIRTH and not key.startswith("volatile.")
