"""A path inside an instance without symbolic links on the way: LXD mounts nothing over those."""

import posixpath

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.lxd.failures import AbsentError, TooLongError
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.spec_values import volume

# As many as Linux follows.
_MOST_LINKS = 40


def resolved(lxd: Lxd, instance: str, path: str, *, project: str) -> str:
    """Return where ``path`` leads in a stopped instance; what isn't there yet stays as written.

    Raises UsageError when it leads round in circles or to where no volume can be.
    """
    done, left, links = "/", [part for part in path.split("/") if part], 0
    while left:
        here = posixpath.join(done, left.pop(0))
        target = _link(lxd, instance, here, project=project)
        if target is None:
            done = here
            continue
        links += 1
        if links > _MOST_LINKS:
            raise UsageError(f"{path} of {instance} leads through too many symbolic links")
        whole = posixpath.normpath(posixpath.join(done, target))
        done, left = "/", [*(part for part in whole.split("/") if part), *left]
    try:
        return volume(done)
    except ValueError as error:
        raise UsageError(f"{path} of {instance} leads to {done}: {error}") from error


def _link(lxd: Lxd, instance: str, path: str, *, project: str) -> str | None:
    try:
        file = lxd.guests.read_file(instance, path, project=project)
    except (AbsentError, TooLongError):
        return None
    return file.content.decode("utf-8", "surrogateescape") if file.kind == "symlink" else None
