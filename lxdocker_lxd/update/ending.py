"""How a stopped instance ended, by what its guest wrote down before."""

from collections.abc import Callable

from lxdocker_lxd.guest_state import read_guest_state
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Instance


def has_crashed(lxd: Lxd, instance: Instance, pause: Callable[[float], None]) -> bool:
    """Whether a stopped instance's command ended by itself, with an error.

    A guest that was killed together with its host, and the guest of a foreign image, leave no word:
    that is neither a crash nor a wish. ``pause`` is for a look that LXD refuses for a moment.
    """
    state = read_guest_state(lxd, instance.name, project=instance.project, pause=pause)
    by_itself = state.status == "exited" and state.stop_requested is False
    return by_itself and state.exit_code != 0
