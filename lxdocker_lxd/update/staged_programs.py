"""Whether a new version has the programs that it will be asked to run: looked for before the outage.

The successor lies ready, stopped, under a name of its own; LXD shows its files.
"""

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lxdocker_lxd.errors import LxdError
from lxdocker_lxd.lxd.failures import AbsentError
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Config, Instance, disk_paths
from lxdocker_lxd.update.health_check import HEALTH_KEY, Kind, check_of
from lxdocker_lxd.update.hook import Hook, Point, hooks_of
from lxdocker_lxd.update.instance_probe import BUSYBOX
from lxdocker_lxd.update.port_check import may_be_asked_from_outside
from lxdocker_lxd.update.transaction import Role, Transaction

# Where LXD looks for a program that is named without a directory.
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin"
_PATH_KEY = "environment.PATH"
_MOST_DIRECTORIES = 32
# What these hold is run in the instance before its command, and may make any program.
_SCRIPT_KEYS = (
    "user.lxdocker_init_script",
    "cloud-init.user-data",
    "cloud-init.vendor-data",
    "user.user-data",
    "user.vendor-data",
)


class MissingProgramError(LxdError):
    """The new version lacks a program that its gate or a hook needs, so it couldn't pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NeededProgram:
    """A program, and what needs it."""

    path: str
    by: str
    hint: str


class StagedPrograms:
    """Looks for them in the files of a staged version."""

    def __init__(self, lxd: Lxd, hooks: Mapping[str, Hook]) -> None:
        self._lxd = lxd
        self._hooks = hooks

    def check(self, transaction: Transaction) -> bool:
        """Raise MissingProgramError for one that isn't there, UsageError for a key of no sense.

        Returns whether files of the stage were read.

        What can't be known passes: a program on a mounted disk, one that a script of the instance may
        make at its start, the files of a virtual machine, an instance that won't be started.
        """
        holder = self._lxd.instances.get(transaction.name, project=transaction.project)
        config = holder.expanded_config
        check = check_of(config)
        needed = tuple(needed_programs(config, self._hooks, project=transaction.project))
        if not holder.running or holder.type != "container":
            return False
        if check.outside and not may_be_asked_from_outside(holder):
            raise MissingProgramError(
                f"{HEALTH_KEY}: {check.label}: LXD gives none of its NICs an address",
                hint="ask from inside, or give a NIC ipv4.address or a network of LXD",
            )
        if any(config.get(key) for key in _SCRIPT_KEYS):
            return False
        stage = transaction.parked(Role.NEW)
        for program in needed:
            if not self._is_there(stage, program.path, holder):
                raise MissingProgramError(
                    f"{program.by}: the new version has no {program.path}", hint=program.hint
                )
        return bool(needed)

    def _is_there(self, stage: str, program: str, holder: Instance) -> bool:
        disks = disk_paths(holder.expanded_devices)
        for path in _places(program, holder.expanded_config):
            if any(path == disk or path.startswith(f"{disk}/") for disk in disks):
                return True
            try:
                kind = self._lxd.guests.file_kind(stage, path, project=holder.project)
            except AbsentError:
                continue
            if kind != "directory":
                return True
        return False


def needed_programs(
    config: Config, hooks: Mapping[str, Hook], *, project: str
) -> Iterator[NeededProgram]:
    """Yield what the new version is asked to run inside; raise HealthError and HookError."""
    check = check_of(config)
    if check.kind is Kind.EXEC:
        yield NeededProgram(
            path=check.command[0],
            by=f"{HEALTH_KEY}: {check.label}",
            hint="name a program of the image, or another check",
        )
    elif check.kind in {Kind.TCP, Kind.HTTP} and not check.outside:
        yield NeededProgram(
            path=BUSYBOX,
            by=f"{HEALTH_KEY}: {check.label}",
            hint="it comes with converted images; for others user.lxdocker.update.health_from=outside"
            " asks from this machine",
        )
    for hook in hooks_of(config, Point.AFTER, hooks, project=project):
        if hook.where == "instance":
            yield NeededProgram(
                path=hook.words[0],
                by=f"{Point.AFTER.key}: {hook.name}",
                hint="put the hook into the image, or on a mounted disk, or unset the key",
            )


def _places(program: str, config: Config) -> Iterator[str]:
    """Where LXD would find a program that it is to run."""
    if program.startswith("/"):
        yield posixpath.normpath(program)
    elif "/" in program:
        # LXD starts in root's home.
        yield posixpath.normpath(f"/root/{program}")
    else:
        path = config.get(_PATH_KEY) or _DEFAULT_PATH
        for directory in path.split(":")[:_MOST_DIRECTORIES]:
            if directory.startswith("/"):
                yield posixpath.normpath(f"{directory}/{program}")
