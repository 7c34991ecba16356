"""The volumes that images declare, read in instances, and what an update would leave behind of them.

The present image's are read in the instance, the new one's in the stage that was made of it: both
before the outage. What a stage says is the image's own word, since nothing has run in it; it is
remembered for other instances of that image. What an instance says counts for itself alone.
"""

from lxdocker_lxd.errors import LxdError, LxdockerError, UsageError
from lxdocker_lxd.guest_path import followed
from lxdocker_lxd.image_facts import facts_or_none
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Instance, disk_paths
from lxdocker_lxd.update.root_disk import (
    ExposedPath,
    disposing,
    exposed_paths,
    is_covered,
    is_disposable,
    loss,
    wrong_key,
)
from lxdocker_lxd.update.transaction import Role, Transaction

# An instance may declare what it likes; each path takes some requests.
_MOST_FOLLOWED = 16
_MOST_SAID = 3


class RootDiskError(LxdError):
    """An update would leave data behind on the old root disk, or nobody can tell."""


class DeclaredVolumes:
    """Knows the declared volumes of images it has seen, by fingerprint; None is an image without facts."""

    def __init__(self, lxd: Lxd) -> None:
        self._lxd = lxd
        self._known: dict[str, tuple[str, ...] | None] = {}

    def uncovered(self, instance: Instance) -> tuple[ExposedPath, ...] | None:
        """Return what the instance's own image declares that no disk covers; None without facts.

        Raises LxdError and VerificationError when it can't be read.
        """
        volumes = self._volumes_of(instance)
        if volumes is None:
            return None
        return exposed_paths(volumes, volumes, disk_paths(instance.expanded_devices))

    def problem(self, instance: Instance, fingerprint: str) -> str:
        """Return why an update to the image would lose data, as far as that is known; else nothing."""
        if _is_free(instance):
            return ""
        if wrong := wrong_key(instance.expanded_config):
            return wrong
        try:
            old = self._volumes_of(instance)
        except LxdockerError as error:
            return f"it can't be told what its image declares as volumes: {error.message}"
        new = self._known.get(fingerprint, ()) if fingerprint in self._known else old
        return _problem(instance, old, new)

    def check_stage(self, transaction: Transaction) -> bool:
        """Compare the images of a holder and of the stage that is to follow it; raise RootDiskError.

        Returns whether files of the stage were read.
        """
        holder = self._lxd.instances.get(transaction.name, project=transaction.project)
        if _is_free(holder):
            return False
        doing = f"compare the volumes that both images of {holder.name} declare"
        try:
            old = self._volumes_of(holder)
            unknown = transaction.fingerprint not in self._known
            if unknown:
                stage = transaction.parked(Role.NEW)
                self._known[transaction.fingerprint] = self._read(stage, transaction.project)
        except LxdockerError as error:
            raise RootDiskError(f"{doing}: {error.message}", hint=error.hint) from error
        if problem := _problem(holder, old, self._known[transaction.fingerprint]):
            raise RootDiskError(f"{doing}: {problem}")
        return unknown

    # ---- reading

    def _volumes_of(self, instance: Instance) -> tuple[str, ...] | None:
        if instance.base_image in self._known:
            return self._known[instance.base_image]
        facts = facts_or_none(self._lxd, instance.name, project=instance.project)
        if facts is None:
            return None
        mounts = disk_paths(instance.expanded_devices)
        bare = [path for path in facts.volumes if not is_covered(path, mounts)]
        led = {
            path: self._followed(instance.name, path, instance.project)
            for path in bare[:_MOST_FOLLOWED]
        }
        return tuple(led.get(path, path) for path in facts.volumes)

    def _read(self, stage: str, project: str) -> tuple[str, ...] | None:
        facts = facts_or_none(self._lxd, stage, project=project)
        if facts is None:
            return None
        led = {
            path: self._followed(stage, path, project) for path in facts.volumes[:_MOST_FOLLOWED]
        }
        return tuple(led.get(path, path) for path in facts.volumes)

    def _followed(self, name: str, path: str, project: str) -> str:
        """Return where a path leads; a disk is mounted there, not over a link."""
        try:
            return followed(self._lxd, name, path, project=project)
        except UsageError:
            return path


def _is_free(instance: Instance) -> bool:
    """Whether nothing has to be looked at: a virtual machine has no facts of ours."""
    return is_disposable(instance.expanded_config) or instance.type != "container"


def _problem(instance: Instance, old: tuple[str, ...] | None, new: tuple[str, ...] | None) -> str:
    if old and new is None:
        return (
            f"its image declares the volumes {', '.join(old[:_MOST_SAID])}, and the new one doesn't say where it"
            f" keeps data; if that fits: {disposing(instance)}"
        )
    exposed = exposed_paths(old or (), new or (), disk_paths(instance.expanded_devices))
    return loss(instance, exposed) if exposed else ""
