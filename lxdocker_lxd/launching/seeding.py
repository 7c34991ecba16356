"""The first content of a volume: what the image has at its path, as Docker copies it.

LXD shows a volume's files to nobody but an instance. So the new instance itself is started once
with a command that waits, its volumes at paths of our own, and busybox copies inside it: owners,
modes, times and links stay; extended attributes do not. Nothing of the image's own runs in that
time. A volume is marked when it is filled; what breaks before that is finished by the next launch that
names the volume, and nothing that others wrote into it meanwhile is touched.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lxdocker_lxd.errors import LxdError
from lxdocker_lxd.launching.volumes import VolumeWish
from lxdocker_lxd.lxd.calls import Command
from lxdocker_lxd.lxd.failures import WrongStateError
from lxdocker_lxd.lxd.paths import instances_of
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import disk_paths
from lxdocker_lxd.lxd.resources import Volume

# "true" on a volume that was filled, "pending" until then. DOUBTFUL was written by versions that
# filled volumes in place.
SEEDED_KEY = "user.lxdocker.seeded"
PENDING, DOUBTFUL = "pending", "false"
_PLACE = "/.lxdocker/volume"
_LONGEST_SECONDS = 3600.0
_WAITING: Mapping[str, str] = {
    "user.lxdocker.entrypoint": '["/busybox-lxd", "sleep", "1000000"]',
    "user.lxdocker.cmd": "",
    "user.lxdocker.user": "0:0",
    "user.lxdocker.working_dir": "/",
    "user.lxdocker.supervisor": "true",
    "user.lxdocker.restart": "no",
    "user.lxdocker.network_wait": "0",
    "user.lxdocker.log_size": "0",
}
# What the script says where it can't tell whose content a volume has.
_WHOSE_CODE = 3
# $1 the image's directory, $2 the volume, $3 who copies, $4 "alone" when no other instance has the
# volume, $5 "doubtful" for a volume that an older version began to fill in place.
# The copy is made in a directory of our own, and its parts are renamed when it is whole: so whatever
# else is in the volume was written by others, and nothing of it is ever removed.
SCRIPT = """
set -e
own=.lxdocker-seed
finish() {
    for part in "$1"/content/* "$1"/content/.[!.]* "$1"/content/..?*; do
        [ -e "$part" ] || [ -L "$part" ] || continue
        place="$2/${part##*/}"
        [ -e "$place" ] || [ -L "$place" ] || mv "$part" "$2/"
    done
    chown "$(stat -c %u:%g "$1/content")" "$2"
    chmod "$(stat -c %a "$1/content")" "$2"
    rm -rf "$1"
}
mkdir -p "$1"
for left in "$2/$own-"*; do
    [ -d "$left" ] || continue
    [ "$4" = alone ] || [ "$left" = "$2/$own-$3" ] || continue
    if [ -e "$left/whole" ]; then finish "$left" "$2"; else rm -rf "$left"; fi
done
if ls -A "$2" | grep -v -e "^$own-" -e '^lost+found$' | grep -q .; then
    [ "$5" != doubtful ] || exit 3
    exit 0
fi
copy="$2/$own-$3"
mkdir -m 700 "$copy" "$copy/content"
cp -a "$1/." "$copy/content/"
chown "$(stat -L -c %u:%g "$1")" "$copy/content"
chmod "$(stat -L -c %a "$1")" "$copy/content"
: >"$copy/whole"
finish "$copy" "$2"
"""


class SeedError(LxdError):
    """A volume could not get its first content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """A volume that may have no content yet: it is filled if it is empty."""

    wish: VolumeWish
    volume: Volume


def fill(lxd: Lxd, instance: str, seeds: Sequence[Seed], *, project: str) -> None:
    """Fill the volumes from the stopped instance; it is stopped again, as it was, afterwards.

    Raises SeedError, StartFailedError and what LXD refuses.
    """
    before = lxd.instances.get(instance, project=project)
    places = {f"{_PLACE}{number}": seed for number, seed in enumerate(seeds)}
    # What profiles mount is not the image's, and hides what is.
    hidden = {name: {"type": "none"} for name in disk_paths(before.expanded_devices).values()}
    devices = {
        f"seed{number}": replace(seed.wish, path=place, readonly=False).device(seed.volume.pool)
        for number, (place, seed) in enumerate(places.items())
    }
    config = {**before.config, **_WAITING}
    settings = replace(
        before.settings,
        config={key: value for key, value in config.items() if value},
        devices={**before.devices, **hidden, **devices},
    )
    lxd.instances.replace(instance, settings, etag=before.etag, project=project)
    try:
        lxd.power.start(instance, project=project)
        for place, seed in places.items():
            _copy(lxd, instance, seed, place, project=project)
    finally:
        _stop(lxd, instance, project=project)
        now = lxd.instances.get(instance, project=project)
        own = {key: value for key, value in now.config.items() if key not in _WAITING}
        own |= {key: value for key, value in before.config.items() if key in _WAITING}
        back = replace(now.settings, config=own, devices=before.devices)
        lxd.instances.replace(instance, back, etag=now.etag, project=project)
    for place, seed in places.items():
        lxd.guests.delete_file(instance, place, project=project)
        fresh = lxd.volumes.get(seed.volume.pool, seed.volume.name, project=seed.volume.project)
        lxd.volumes.edit(replace(fresh, config={**fresh.config, SEEDED_KEY: "true"}))


def _copy(lxd: Lxd, instance: str, seed: Seed, place: str, *, project: str) -> None:
    fresh = lxd.volumes.get(seed.volume.pool, seed.volume.name, project=project)
    alone = "alone" if instances_of(fresh.used_by) <= {(project, instance)} else "shared"
    age = "doubtful" if fresh.config.get(SEEDED_KEY) == DOUBTFUL else "new"
    words = (*("/busybox-lxd", "sh", "-c", SCRIPT, "seed"), seed.wish.path, place, instance)
    command = Command(words=(*words, alone, age), directory="/", timeout_seconds=_LONGEST_SECONDS)
    result = lxd.guests.execute(instance, command, project=project)
    if result.exit_code == _WHOSE_CODE:
        where = f"{seed.volume.pool} {seed.volume.name}"
        raise SeedError(
            f"the volume {seed.volume.name} isn't empty, and a launch that began to fill it didn't"
            " come to the end: it may hold half of what the image has there, or data of yours",
            hint=f"to keep what it holds: lxc storage volume unset {where} {SEEDED_KEY};"
            f" to begin anew: lxc storage volume delete {where}",
        )
    if result.exit_code != 0:
        said = _in_one_line(result.stderr)
        raise SeedError(
            f"could not copy the image's {seed.wish.path} into the volume {seed.volume.name}:"
            f" {said or f'exit code {result.exit_code}'}",
            hint="leave the volume empty with --volume NAME:PATH:nocopy, or make room in its pool",
        )


def _in_one_line(stderr: bytes) -> str:
    """Return the first of many complaints, and how many more there are."""
    lines = [line for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    more = f" (and {len(lines) - 1} more such lines)" if len(lines) > 1 else ""
    return f"{lines[0].strip()[:300]}{more}" if lines else ""


def _stop(lxd: Lxd, instance: str, *, project: str) -> None:
    try:
        lxd.power.kill(instance, project=project)
    except WrongStateError:
        return
