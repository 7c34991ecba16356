"""Permissions that groups of identities hold on an instance: they stay with its old root.

LXD keeps them by the instance and not by its name, and only who manages identities may grant them. So
they are told, with the command for each, and not moved.
"""

from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Instance

ACCESS_EXTENSION = "access_management"
_MOST = 5


def permissions_left_with(lxd: Lxd, copy: Instance, name: str) -> str:
    """Return what to do about permissions on a copy that are missed on the name; empty for none."""
    path = f"/1.0/instances/{copy.name}"
    commands = [
        f"`lxc auth group permission add {one.group} instance {name} {one.entitlement}"
        f" project={copy.project}`"
        for one in lxd.server.permissions()
        if (one.kind, one.path, one.project) == ("instance", path, copy.project)
    ]
    if not commands:
        return ""
    more = f" and {len(commands) - _MOST} more" if len(commands) > _MOST else ""
    return (
        f"{len(commands)} permissions of groups stay with {copy.name}; to grant them again:"
        f" {', '.join(commands[:_MOST])}{more}"
    )
