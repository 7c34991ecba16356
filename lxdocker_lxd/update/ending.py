"""Why an instance is stopped: because it was asked to, because its command ended, or nobody knows."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from lxdocker_lxd.guest_state import read_guest_state
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Instance


class EndReason(Enum):
    """Why it ended. ``CRASHED``: its command ended by itself, with an error."""

    ASKED = auto()
    FINISHED = auto()
    CRASHED = auto()
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Why an instance is stopped, and with which exit code its command ended, if that is known."""

    reason: EndReason
    exit_code: int | None = None


def has_crashed(lxd: Lxd, instance: Instance, pause: Callable[[float], None]) -> bool:
    """Whether a stopped instance fell over: then its next version is started, and gated."""
    ending = ending_of(lxd, instance.name, project=instance.project, pause=pause)
    return ending.reason is EndReason.CRASHED


def ending_of(lxd: Lxd, name: str, *, project: str, pause: Callable[[float], None]) -> Ending:
    """Return why a stopped instance ended, by what its guest wrote down before.

    A guest that was killed together with its host, and the guest of a foreign image, leave no word:
    that is unknown, and neither a crash nor a wish.
    """
    state = read_guest_state(lxd, name, project=project, pause=pause)
    if state.status != "exited" or state.stop_requested is None:
        return Ending(reason=EndReason.UNKNOWN, exit_code=state.exit_code)
    if state.stop_requested:
        return Ending(reason=EndReason.ASKED, exit_code=state.exit_code)
    reason = EndReason.FINISHED if state.exit_code == 0 else EndReason.CRASHED
    return Ending(reason=reason, exit_code=state.exit_code)
