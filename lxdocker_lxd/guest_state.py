"""What the guest of a converted image says of its command: the file ``/.lxdocker/state``.

The file is written inside the instance, so whatever it holds is a stranger's word: bounded, parsed
once here, and no more than a hint about that one instance.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.lxd.failures import NotRunningError, RefusedError, UnreachableError
from lxdocker_lxd.lxd.ports import Lxd

STATE_PATH = "/.lxdocker/state"
_MOST_BYTES = 1 << 16
_LONGEST_TEXT = 200
_READS = 8
_PAUSE_SECONDS = 1.0
_MOST_RESTARTS = 1 << 31
_STATUSES = frozenset({"starting", "running", "restarting", "exited"})
_HIGHEST_CODE = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestState:
    """What the command does. ``status`` is starting, running, restarting, exited, or empty.

    Empty, and None, are what isn't known: there is no such file, it can't be read, or an older guest
    doesn't say it. ``exit_code`` is that of the command's last end. ``stop_requested`` tells whether
    the end was asked for from outside (``lxc stop``, a shutdown of LXD).
    """

    status: str = ""
    exit_code: int | None = None
    restarts: int | None = None
    stop_requested: bool | None = None
    problem: str = ""


UNKNOWN_STATE = GuestState()


def read_guest_state(
    lxd: Lxd, name: str, *, project: str, pause: Callable[[float], None] | None = None
) -> GuestState:
    """Return the guest's word, of a stopped instance too; unknown where there is none.

    LXD may refuse for a moment to read a file of an instance that just ended; with ``pause`` it is asked
    again for some seconds. Raises NotRunningError and UnreachableError when LXD itself is away.
    """
    for left in reversed(range(_READS if pause is not None else 1)):
        try:
            file = lxd.guests.read_file(name, STATE_PATH, project=project, most_bytes=_MOST_BYTES)
        except (NotRunningError, UnreachableError):
            raise
        except RefusedError:
            if pause is not None and left:
                pause(_PAUSE_SECONDS)
        except LxdockerError:
            break
        else:
            return parse_guest_state(file.content)
    return UNKNOWN_STATE


def parse_guest_state(content: bytes) -> GuestState:
    """Return what the file's content says; what is out of bounds is unknown. Never raises."""
    try:
        document = json.loads(content[:_MOST_BYTES])
    except (ValueError, RecursionError):
        return UNKNOWN_STATE
    if not isinstance(document, dict):
        return UNKNOWN_STATE
    status, asked = document.get("status"), document.get("stop_requested")
    problem = document.get("problem")
    return GuestState(
        status=status if isinstance(status, str) and status in _STATUSES else "",
        exit_code=_number(document.get("exit_code"), _HIGHEST_CODE),
        restarts=_number(document.get("restarts"), _MOST_RESTARTS),
        stop_requested=asked if isinstance(asked, bool) else None,
        problem=problem[:_LONGEST_TEXT] if isinstance(problem, str) else "",
    )


def _number(value: object, highest: int) -> int | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= highest else None
