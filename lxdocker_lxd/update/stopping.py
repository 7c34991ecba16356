"""Stopping an instance with the time that it was promised, and killing it only after that."""

from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.image_facts import facts_of
from lxdocker_lxd.lxd.failures import NotRunningError, StopTimedOutError, UnreachableError
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Instance
from lxdocker_lxd.update.stop_timeout import names_no_timeout, stop_timeout_seconds


def stop_or_kill(lxd: Lxd, instance: Instance) -> int | None:
    """Ask an instance to stop, and kill it when its time is over; ``instance`` as it was just read.

    Return None when it ended by itself, else after how many seconds it was killed. Raises what the
    port ``Power`` raises, but StopTimedOutError.
    """
    name, project = instance.name, instance.project
    seconds = stop_timeout_seconds(instance.expanded_config, _image_seconds(lxd, instance))
    try:
        lxd.power.stop(name, timeout_seconds=seconds, project=project)
    except StopTimedOutError:
        lxd.power.kill(name, project=project)
        return seconds
    return None


def killed_remark(name: str, seconds: int) -> str:
    """Return what people are told of an instance that was killed."""
    return f"{name} didn't stop within {seconds} s and was killed"


def _image_seconds(lxd: Lxd, instance: Instance) -> int | None:
    """What the instance's image says; None when it says nothing, or can't be read."""
    if not names_no_timeout(instance.expanded_config):
        return None
    try:
        return facts_of(lxd, instance.name, project=instance.project).stop_timeout_seconds
    except (NotRunningError, UnreachableError):
        raise
    except LxdockerError:
        return None
