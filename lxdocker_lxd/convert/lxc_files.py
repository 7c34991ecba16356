"""What an image gets for plain LXC: no init of ours, the image's command is PID 1 as in Docker.

Names at the root of the image::

    /busybox-lxd                         static busybox, the guest's only program
    /.lxdocker/lxc-hook                  network and names, before the command (lxc.hook.start)
    /.lxdocker/lxc-start                 starts a command that LXC's settings can't express
    /.lxdocker/image/{argv,env,working_dir}  that command, as NUL-separated data
    /.lxdocker/{network,launch,prepare}.sh, /lxd-udhcpc-default.script[.real]  as for LXD
    /lxd-image.json                      the image's OCI configuration
    /bin/sh                              a link to busybox, only where the image has no shell:
                                         LXC starts hooks through it

/dev is empty and device nodes are left out: LXC makes its own, and unpacking them would
fail for an unprivileged user. Names and links of the image are treated as for LXD.
"""

import posixpath
from dataclasses import dataclass

from lxdocker_lxd.catalogue import LxcMount, LxcSettings
from lxdocker_lxd.convert.account import Account
from lxdocker_lxd.convert.guest_scripts import GuestScripts
from lxdocker_lxd.convert.guest_writer import (
    PLAIN,
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
from lxdocker_lxd.convert.supervisor import DEFAULT_PATH

_OWN = (b".lxdocker", b"busybox-lxd", b"lxd-image.json")
_MOUNT_POINTS = (b"dev", b"proc", b"sys")
_DEVICES = (Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE)
_OPEN_TO_ALL, _STICKY = ("/tmp", "/var/tmp"), 0o1777  # noqa: S108 - places in the image


@dataclass(frozen=True, slots=True, kw_only=True)
class LxcImage:
    """What is known of an image, the specification's changes applied; see GuestImage."""

    config: ImageConfig
    account: Account
    scripts: GuestScripts
    busybox: HostFile | bytes
    image_json: bytes
    mtime_ns: int
    tmpfs: tuple[str, ...] | None = None


def add_lxc_guest(tree: Tree, image: LxcImage) -> LxcSettings:
    """Add what LXC needs to an image's tree; return what its settings are made from.

    Same tree and record, same result. Raises what
    :func:`~lxdocker_lxd.convert.guest_files.add_guest` raises.
    """
    stop_signal = stop_signal_number(image.config.stop_signal)
    writer = GuestWriter(tree, image.mtime_ns)
    _clear_devices(tree, writer)
    put_volumes(tree, writer, (*image.config.volumes, image.config.working_dir))
    prepare_etc(tree, writer)
    for name in _OWN:
        tree.remove(name)
    _put_programs(writer, image)
    if tree.resolve(b"bin/sh") is None:
        writer.link(b"bin/sh", b"/busybox-lxd")
    _put_data(writer, image)
    paths = free_tmpfs(tree) if image.tmpfs is None else image.tmpfs
    mounts = tuple(_mount(tree, path) for path in paths)
    writer.check()
    account = image.account
    return LxcSettings(
        uid=account.uid,
        gid=account.gid,
        groups=account.groups,
        home=account.home,
        stop_signal=stop_signal,
        tmpfs=mounts,
    )


def _clear_devices(tree: Tree, writer: GuestWriter) -> None:
    tree.remove(b"dev")
    for path in [path for path, inode in tree.walk() if inode.kind in _DEVICES]:
        tree.remove(path)
    for name in _MOUNT_POINTS:
        inode = tree.lookup(name)
        if inode is None or inode.kind is not Kind.DIRECTORY:
            writer.directory(name)


def _put_programs(writer: GuestWriter, image: LxcImage) -> None:
    scripts = image.scripts
    writer.directory(b".lxdocker")
    writer.directory(b".lxdocker/live")
    writer.file(b"busybox-lxd", image.busybox, PROGRAM)
    writer.file(b"lxd-udhcpc-default.script", scripts.udhcpc_default, PROGRAM)
    writer.file(b"lxd-udhcpc-default.script.real", scripts.udhcpc, PROGRAM)
    writer.file(b".lxdocker/lxc-hook", scripts.lxc_hook, PROGRAM)
    writer.file(b".lxdocker/lxc-start", scripts.lxc_start, PROGRAM)
    for name in ("launch", "prepare", "network"):
        writer.file(b".lxdocker/" + name.encode() + b".sh", getattr(scripts, name), PLAIN)
    writer.file(b"lxd-image.json", image.image_json, PLAIN)


def _put_data(writer: GuestWriter, image: LxcImage) -> None:
    config = image.config
    # The last of a name counts; so the weakest come first.
    defaults = (f"PATH={DEFAULT_PATH}", f"HOME={image.account.home}")
    writer.directory(b".lxdocker/image")
    writer.items(b".lxdocker/image/argv", (*config.entrypoint, *config.cmd))
    writer.items(b".lxdocker/image/env", (*defaults, *config.env))
    writer.items(b".lxdocker/image/working_dir", (config.working_dir,))


def _mount(tree: Tree, path: str) -> LxcMount:
    inode = tree.resolve(path.encode("utf-8", "surrogateescape"))
    if inode is not None and inode.kind is Kind.DIRECTORY:
        return LxcMount(path=path, mode=inode.mode, uid=inode.uid, gid=inode.gid)
    open_to_all = posixpath.normpath(path) in _OPEN_TO_ALL
    return LxcMount(path=path, mode=_STICKY if open_to_all else PROGRAM, uid=0, gid=0)
