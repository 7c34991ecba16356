"""Whose an instance's keys and kept copies are: LXD copies the keys along with an instance. Pure."""

from collections.abc import Collection

from lxdocker_lxd.lxd.records import Instance
from lxdocker_lxd.update.source import SOURCE_KEY
from lxdocker_lxd.update.transaction import Stamp, stamp_of

HOLDER_KEY = "user.lxdocker.update.of"
"""Which instance was enrolled, as PROJECT/NAME: LXD copies the other keys with an instance."""


def holder_of(instance: Instance) -> str:
    """Return the value of ``HOLDER_KEY`` that fits the instance."""
    return f"{instance.project}/{instance.name}"


def is_successor(holder: Instance, transactions: Collection[str]) -> bool:
    """Whether the instance with a name is the one for which these updates kept their copies.

    It is when its stamp is of one of them, or when it was enrolled under this name. An instance that
    a user made under the name of a deleted one is a stranger to the copies.
    """
    stamp = stamp_of(holder)
    if isinstance(stamp, Stamp) and stamp.transaction in transactions:
        return True
    if HOLDER_KEY in holder.config:
        return holder.config[HOLDER_KEY] == holder_of(holder)
    # Versions before this key have enrolled it.
    return SOURCE_KEY in holder.config
