"""What would be lost with an instance that an update left, and so keeps it from being removed."""

from lxdocker_lxd.lxd.ports import Lxd


def lost_with(lxd: Lxd, name: str, *, project: str) -> str:
    """Return what a user made of an instance and LXD would delete with it; empty for nothing."""
    if lxd.instances.snapshots(name, project=project):
        return "snapshots"
    return "backups" if lxd.instances.backups(name, project=project) else ""
