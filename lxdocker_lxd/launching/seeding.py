"""The first content of a volume: what the image has at its path, as Docker copies it.

LXD shows a volume's files to nobody but an instance. So the new instance itself is started once
with a command that waits, its volumes at paths of our own, and busybox copies inside it: owners,
modes, times and links stay; extended attributes do not. Nothing of the image's own runs in that
time. A volume is marked when it is filled: what breaks before that is done again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lxdocker_lxd.errors import LxdError
from lxdocker_lxd.launching.volumes import VolumeWish
from lxdocker_lxd.lxd.calls import Command
from lxdocker_lxd.lxd.failures import WrongStateError
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import disk_paths
from lxdocker_lxd.lxd.resources import Volume

SEEDED_KEY = "user.lxdocker.seeded"
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
# $1 the image's directory, $2 the volume, $3 "new" for one that we made and may fill again.
_SCRIPT = """
set -e
mkdir -p "$1"
[ "$3" = new ] || [ -z "$(ls -A "$2")" ] || exit 0
[ "$3" != new ] || find "$2" -mindepth 1 -maxdepth 1 -exec rm -rf {} +
cp -a "$1/." "$2/"
chown "$(stat -L -c %u:%g "$1")" "$2"
chmod "$(stat -L -c %a "$1")" "$2"
"""


class SeedError(LxdError):
    """A volume could not get its first content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """A volume that has no content yet; ``new``: it was made by us, and nobody has used it.

    What is in a new one is left of a launch that broke, and goes; others are filled if they are empty.
    """

    wish: VolumeWish
    volume: Volume
    new: bool


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
    age = "new" if seed.new and not _is_used(lxd, instance, seed, project=project) else "old"
    words = ("/busybox-lxd", "sh", "-c", _SCRIPT, "seed", seed.wish.path, place, age)
    command = Command(words=words, directory="/", timeout_seconds=_LONGEST_SECONDS)
    result = lxd.guests.execute(instance, command, project=project)
    if result.exit_code != 0:
        said = _in_one_line(result.stderr)
        raise SeedError(
            f"could not copy the image's {seed.wish.path} into the volume {seed.volume.name}:"
            f" {said or f'exit code {result.exit_code}'}",
            hint="leave the volume empty with --volume NAME:PATH:nocopy, or make room in its pool",
        )


def _is_used(lxd: Lxd, instance: str, seed: Seed, *, project: str) -> bool:
    """Whether somebody filled the volume meanwhile, or another instance has it as well."""
    fresh = lxd.volumes.get(seed.volume.pool, seed.volume.name, project=project)
    users = {path.partition("?")[0].rpartition("/")[2] for path in fresh.used_by}
    return fresh.config.get(SEEDED_KEY) == "true" or bool(users - {instance})


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
