"""How an instance is enrolled, when somebody asks for it: by what its image says of its data."""

from dataclasses import dataclass

from lxdocker_lxd.lxd.records import Instance
from lxdocker_lxd.update.declared_volumes import DeclaredVolumes, RootDiskError
from lxdocker_lxd.update.enrolment import Mode
from lxdocker_lxd.update.root_disk import is_disposable, loss

_SILENT = (
    "its image doesn't say where it keeps data, and an update replaces the whole root disk with all"
    " that was installed or written there"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrollingMode:
    """The mode that is written, and what its user should know."""

    mode: Mode
    remark: str = ""


def enrolling_mode(
    declared: DeclaredVolumes, instance: Instance, wanted: Mode | None, *, disposable: bool
) -> EnrollingMode:
    """Return how to enrol an instance; ``wanted`` None leaves it to what its image says.

    An image that doesn't say where it keeps data, as a plain system's, is only told of then. Raises
    RootDiskError when updates would lose data on declared volumes and nobody said that they may.
    """
    if instance.type != "container":
        # Its files are inside a disk that only its own agent reads.
        return _silent(wanted)
    exposed = declared.uncovered(instance)
    if exposed is None:
        return _silent(Mode.AUTO if disposable and wanted is None else wanted)
    mode = wanted or Mode.AUTO
    if not exposed or disposable or is_disposable(instance.expanded_config):
        return EnrollingMode(mode=mode)
    if mode is Mode.NOTIFY:
        return EnrollingMode(mode=mode, remark=loss(instance, exposed))
    raise RootDiskError(
        f"enrol {instance.name}: {loss(instance, exposed)}",
        hint="add volumes, or give --root-disk-is-disposable or --mode notify",
    )


def _silent(wanted: Mode | None) -> EnrollingMode:
    if wanted is Mode.AUTO:
        return EnrollingMode(mode=wanted, remark=_SILENT)
    return EnrollingMode(
        mode=Mode.NOTIFY,
        remark=f"new versions are only told: {_SILENT}; `--mode auto` installs them all the same",
    )
