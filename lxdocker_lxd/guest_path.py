"""A path inside an instance without symbolic links on the way: LXD mounts nothing over those."""

import posixpath

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.lxd.failures import AbsentError
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.spec_values import volume

# As many as Linux follows.
_MOST_LINKS = 40
_MOST_LOOKS = 256
# What the kernel and LXD put there is no content of an image; to copy it would never end.
_MACHINERY = ("/proc", "/sys", "/dev")


def volume_path(text: str) -> str:
    """Return the path of a volume; raise ValueError for one at which none can be."""
    path = volume(text)
    if path.startswith(tuple(f"{root}/" for root in _MACHINERY)) or path in _MACHINERY:
        raise ValueError(f"{path} is the kernel's or LXD's")
    return path


def resolved(lxd: Lxd, instance: str, path: str, *, project: str) -> str:
    """Return where ``path`` leads in a stopped instance; what isn't there yet stays as written.

    Raises UsageError when it leads round in circles, to a file, or to where no volume can be.
    """
    done = followed(lxd, instance, path, project=project)
    try:
        return volume_path(done)
    except ValueError as error:
        raise UsageError(
            f"{path} of {instance} leads to {done}: {error}",
            hint="choose another path with --volume, or another image",
        ) from error


def followed(lxd: Lxd, instance: str, path: str, *, project: str) -> str:
    """Return where ``path`` leads, whatever is there; UsageError for circles and files."""
    done, left, links, looks = "/", [part for part in path.split("/") if part], 0, 0
    while left:
        looks += 1
        if looks > _MOST_LOOKS:
            raise UsageError(f"{path[:80]} of {instance} is too long a way")
        here = posixpath.join(done, left.pop(0))
        try:
            kind = lxd.guests.file_kind(instance, here, project=project)
        except AbsentError:
            # Nothing is below it either.
            done, left = posixpath.join(here, *left), []
            continue
        if kind == "file":
            raise UsageError(
                f"{path} of {instance}: {here} is a file in the image, and no directory",
                hint="a volume takes the place of a directory: choose another path with --volume",
            )
        if kind == "directory":
            done = here
            continue
        links += 1
        if links > _MOST_LINKS:
            raise UsageError(f"{path} of {instance} leads through too many symbolic links")
        whole = posixpath.normpath(posixpath.join(done, _target(lxd, instance, here, project)))
        done, left = "/", [*(part for part in whole.split("/") if part), *left]
    return done


def _target(lxd: Lxd, instance: str, link: str, project: str) -> str:
    content = lxd.guests.read_file(instance, link, project=project).content
    return content.decode("utf-8", "surrogateescape")
