"""How long instances were seen running without an end, which proves their root after a day.

LXD's date of the last start alone proves nothing: the clock may have jumped since, and a command that
a supervisor starts again and again makes its instance run all the same.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from lxdocker_lxd.errors import LxdError
from lxdocker_lxd.lxd.failures import NotRunningError, UnreachableError
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Instance
from lxdocker_lxd.update.configuration import stamped
from lxdocker_lxd.update.elapsed_time import ElapsedTimes
from lxdocker_lxd.update.gate import has_guest
from lxdocker_lxd.update.health import Activity
from lxdocker_lxd.update.instance_probe import InstanceProbe
from lxdocker_lxd.update.problem import Apart, together
from lxdocker_lxd.update.retention import LONG_RUN
from lxdocker_lxd.update.transaction import Proof, Stamp, stamp_of

FILE = "uptimes.json"
MOST_AT_ONCE = timedelta(hours=6)
"""What one round adds at most, so that no single jump of the clock makes a day."""


class Uptimes(ElapsedTimes):
    """The times of runs, in a file of the state directory; a run is one start of one command."""

    def __init__(self, directory: Path, *, dry_run: bool = False) -> None:
        super().__init__(directory / FILE, most_at_once=MOST_AT_ONCE, dry_run=dry_run)


def prove_by_running(
    lxd: Lxd,
    uptimes: Uptimes,
    now: datetime,
    instances: Iterable[Instance],
    *,
    unhealthy: Collection[tuple[str, str]] = (),
    apart: Apart = together,
) -> frozenset[tuple[str, str]]:
    """Count the time of these instances, and return those, by project and name, that ran for a day.

    It begins anew with each start, and at each look at which LXD or the guest doesn't say that the
    command runs, or its health check fails. That it ran is written into the stamp of an instance that
    has one; while that isn't written the instance isn't proved. ``apart`` keeps the trouble of one
    from the others. Raises NotRunningError and UnreachableError.
    """
    looked_at = dict[str, Instance]()
    for one in instances:
        with apart(one.project, one.name):
            if (one.project, one.name) not in unhealthy and (run := _run_of(lxd, one)):
                looked_at[run] = one
    if not looked_at and not uptimes.read():
        return frozenset()
    times = uptimes.advance(looked_at, now)
    return frozenset(
        (one.project, one.name)
        for run, one in looked_at.items()
        if times[run] >= LONG_RUN and _write_down(lxd, one)
    )


def _run_of(lxd: Lxd, instance: Instance) -> str:
    """Name the run that the instance's command is in; empty where nobody says that it runs."""
    if instance.last_used_at is None:
        return ""
    try:
        # Images that become virtual machines have no guest of ours.
        asked = instance.type == "container" and has_guest(lxd, instance)
        probe = InstanceProbe(lxd, instance.name, instance.project, converted=asked)
        seen = probe.observe()
    except (NotRunningError, UnreachableError):
        raise
    except LxdError:
        return ""
    if seen.activity is not Activity.RUNNING:
        return ""
    started = instance.last_used_at.isoformat()
    return f"{instance.project}/{instance.name} {started} {seen.process_id} {seen.restarts}"


def _write_down(lxd: Lxd, instance: Instance) -> bool:
    """Say in the stamp that the root ran for a day; return whether it is so and can be forgotten."""
    stamp = stamp_of(instance)
    if not isinstance(stamp, Stamp):
        return True
    try:
        fresh = lxd.instances.get(instance.name, project=instance.project)
        if stamp_of(fresh) != stamp or fresh.last_used_at != instance.last_used_at:
            return False
        proved = stamped(fresh, replace(stamp, proof=Proof.RAN, check="", ran=True))
        lxd.instances.replace(fresh.name, proved, etag=fresh.etag, project=fresh.project)
    except (NotRunningError, UnreachableError):
        raise
    except LxdError:
        # The next round tries again; until then the copies stay.
        return False
    return True
