"""What every converted image gets: busybox, init, DHCP scripts, and the image's settings as data.

Names at the root of the image::

    /busybox-lxd                         static busybox, the guest's only program
    /sbin/init                           the guest's PID 1 (convert/guest/init.sh)
    /lxd-realinit                        the image's own /sbin/init, bound back over ours at start
    /lxd-prelaunch                       rendered from user.lxdocker_init_script
    /lxd-udhcpc-default.script[.real]    what the DHCP client runs
    /lxd-image.json                      the image's OCI configuration
    /.lxdocker/image/*                   what to run, as NUL-separated data
    /.lxdocker/in/*                      rendered by LXD from instance configuration
    /.lxdocker/run                       runs a program as the entrypoint runs
    /.lxdocker/*.sh                      the guest's scripts
    /.lxdocker/{live,log,log.1,state}    made at run time

Nothing from the image or its configuration becomes part of a script. Parents are resolved inside
the image; the last part of a name replaces what the image has there and is never followed. In the
end every name must still lead to what was put there, whatever links and volumes the image has.
"""

from dataclasses import dataclass

from lxdocker_lxd.convert.guest_scripts import GuestScripts
from lxdocker_lxd.convert.guest_writer import (
    PLAIN,
    PRIVATE,
    PROGRAM,
    GuestWriter,
    free_tmpfs,
    prepare_etc,
    put_volumes,
)
from lxdocker_lxd.convert.image_config import ImageConfig
from lxdocker_lxd.convert.layer.headers import Kind
from lxdocker_lxd.convert.layer.inode import HostFile
from lxdocker_lxd.convert.layer.tree import Tree
from lxdocker_lxd.convert.stop_signal import stop_signal_number
from lxdocker_lxd.convert.supervisor import SupervisorChoice, supervisor_choice

DEFAULT_STOP_TIMEOUT_SECONDS = 10
_OWN = (b".lxdocker", b"busybox-lxd", b"lxd-image.json", b"lxd-prelaunch", b"lxd-realinit")


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestImage:
    """What the guest must know of an image, the specification's changes applied.

    ``disable_supervisor`` None chooses by the image's init. ``tmpfs`` None mounts /tmp and /run where
    the image ships nothing there. ``image_json`` becomes /lxd-image.json. ``mtime_ns`` dates every
    file, so that equal images stay equal.
    """

    config: ImageConfig
    scripts: GuestScripts
    busybox: HostFile | bytes
    image_json: bytes
    mtime_ns: int
    disable_supervisor: bool | None = None
    restart: str = "no"
    tmpfs: tuple[str, ...] | None = None
    stop_timeout_seconds: int = DEFAULT_STOP_TIMEOUT_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestReport:
    """What was decided while looking at the image.

    ``etc_templates``: /etc/hostname and /etc/hosts are plain files of a plain directory, so LXD may
    render there. ``tmpfs`` are the mounts made at start. ``real_init``: the image had a /sbin/init.
    """

    supervisor: SupervisorChoice
    etc_templates: bool
    tmpfs: tuple[str, ...]
    real_init: bool


def add_guest(tree: Tree, guest: GuestImage) -> GuestReport:
    """Add the guest to an image's tree and tell what was decided.

    Same tree and record, same result. Raises StopSignalError for a stop signal that is none, the
    tree's UnsafeLinkError where a parent is a circle of links and BlockedNameError where one is no
    directory, and GuestNameError.
    """
    stop_signal = stop_signal_number(guest.config.stop_signal)
    choice = supervisor_choice(
        tree, guest.config, guest.disable_supervisor, stop_signal=stop_signal
    )
    tmpfs = free_tmpfs(tree) if guest.tmpfs is None else guest.tmpfs
    writer = GuestWriter(tree, guest.mtime_ns)
    put_volumes(tree, writer, guest.config.volumes)
    etc_templates = prepare_etc(tree, writer)
    for name in _OWN:
        tree.remove(name)
    _put_programs(writer, guest)
    real_init = _move_init(tree, writer)
    writer.file(b"sbin/init", guest.scripts.init, PROGRAM)
    _put_settings(writer, guest, choice, stop_signal, tmpfs)
    writer.check()
    return GuestReport(
        supervisor=choice, etc_templates=etc_templates, tmpfs=tmpfs, real_init=real_init
    )


def _put_programs(writer: GuestWriter, guest: GuestImage) -> None:
    scripts = guest.scripts
    writer.directory(b".lxdocker")
    writer.file(b"busybox-lxd", guest.busybox, PROGRAM)
    writer.file(b"lxd-udhcpc-default.script", scripts.udhcpc_default, PROGRAM)
    writer.file(b"lxd-udhcpc-default.script.real", scripts.udhcpc, PROGRAM)
    writer.file(b".lxdocker/run", scripts.run, PROGRAM)
    for name in ("launch", "words", "prepare", "logger", "network"):
        writer.file(b".lxdocker/" + name.encode() + b".sh", getattr(scripts, name), PLAIN)
    writer.file(b"lxd-image.json", guest.image_json, PLAIN)
    # Placeholders: a rendered template keeps the mode of the file it replaces.
    writer.file(b"lxd-prelaunch", b"", 0o700)
    writer.directory(b".lxdocker/in", 0o700)
    writer.file(b".lxdocker/in/settings", b"", PRIVATE)
    writer.directory(b".lxdocker/live")


def _put_settings(
    writer: GuestWriter,
    guest: GuestImage,
    choice: SupervisorChoice,
    stop_signal: int,
    tmpfs: tuple[str, ...],
) -> None:
    config = guest.config
    writer.directory(b".lxdocker/image")
    writer.items(b".lxdocker/image/env", config.env, PRIVATE)
    writer.items(b".lxdocker/image/entrypoint", config.entrypoint)
    writer.items(b".lxdocker/image/cmd", config.cmd)
    writer.items(b".lxdocker/image/tmpfs", tmpfs)
    writer.items(b".lxdocker/image/health", config.healthcheck_command)
    timeout = (config.healthcheck.timeout_seconds if config.healthcheck else None) or 30
    settings = {
        "user": config.user,
        "working_dir": config.working_dir,
        "stop_signal": str(stop_signal),
        "stop_timeout": str(guest.stop_timeout_seconds),
        "restart": guest.restart,
        "mode": choice.mode,
        "init": choice.init,
        "halt_signal": "" if choice.halt_signal is None else str(choice.halt_signal),
        "health_timeout": f"{max(timeout, 1):.0f}",
    }
    writer.items(
        b".lxdocker/image/settings", tuple(f"{name}={value}" for name, value in settings.items())
    )


def _move_init(tree: Tree, writer: GuestWriter) -> bool:
    """Move the image's /sbin/init aside; a link keeps leading where it led."""
    inode = tree.lookup(b"sbin/init")
    if inode is None:
        return False
    if inode.kind is not Kind.SYMLINK:
        writer.move(b"sbin/init", b"lxd-realinit")
        return True
    target = inode.target if inode.target.startswith(b"/") else b"/sbin/" + inode.target
    tree.remove(b"sbin/init")
    writer.link(b"lxd-realinit", target)
    return True
