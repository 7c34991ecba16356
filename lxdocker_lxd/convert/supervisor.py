"""Who is PID 1: the guest, which supervises the command, or the image's own init.

An image that starts an init of its own (s6, tini, systemd, …) expects to be PID 1. Then the guest
prepares network, files and environment and becomes that program. What ``lxc stop`` does is then up
to the init: LXD sends SIGPWR to PID 1, or signal 37 (SIGRTMIN+3) to one that blocks that signal, as
systemd does. The table says what each makes of it, as seen with Debian 12's packages.
"""

import posixpath
from dataclasses import dataclass
from typing import Literal

from lxdocker_lxd.convert.image_config import ImageConfig
from lxdocker_lxd.convert.layer.headers import Kind
from lxdocker_lxd.convert.layer.inode import Inode
from lxdocker_lxd.convert.layer.tree import Tree

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Docker's, for an image whose environment has no PATH."""

Mode = Literal["supervise", "exec"]

_MOST_LINKS = 40
_SYSTEM_INITS = {b"/sbin/init", b"/usr/sbin/init", b"/bin/init"}
_S6_FILES = (
    b"command/s6-overlay-suexec",
    b"package/admin/s6-overlay",
    b"etc/s6-overlay",
    b"etc/s6",
    b"command/s6-svscan",
    b"bin/s6-svscan",
    b"usr/bin/s6-svscan",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Init:
    """A known init. ``on_stop`` says what it does with the signal of ``lxc stop``: ends cleanly,
    hands SIGPWR itself on to the command, or ends only on SIGTERM.
    """

    title: str
    on_stop: Literal["ends", "forwards", "wants SIGTERM"] = "ends"


_TINI = _Init(title="tini", on_stop="forwards")
_RUNIT = _Init(title="runit")
_S6_OVERLAY = _Init(title="s6-overlay")
_SYSTEM_INIT = _Init(title="init")
# The guest gives s6 a handler for SIGPWR, and dumb-init an option that translates it.
_INITS: dict[bytes, _Init] = {
    b"systemd": _Init(title="systemd"),
    b"s6-svscan": _Init(title="s6"),
    b"s6-linux-init": _Init(title="s6-linux-init"),
    b"dumb-init": _Init(title="dumb-init"),
    b"runit": _RUNIT,
    b"runit-init": _RUNIT,
    b"tini": _TINI,
    b"tini-static": _TINI,
    b"docker-init": _TINI,
    b"catatonit": _Init(title="catatonit", on_stop="forwards"),
    b"openrc-init": _Init(title="openrc", on_stop="wants SIGTERM"),
    b"my_init": _Init(title="my_init", on_stop="wants SIGTERM"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorChoice:
    """``mode`` with its reason in words.

    ``halt_signal`` is set when plain ``lxc stop`` doesn't end the image cleanly by itself: the
    number to put into the instance's ``raw.lxc``. ``init`` names the image's init, if it has one.
    """

    mode: Mode
    reason: str
    init: str
    halt_signal: int | None

    @property
    def halt_hint(self) -> str:
        """The instance setting that makes ``lxc stop`` clean, or an empty text."""
        return "" if self.halt_signal is None else f"raw.lxc: lxc.signal.halt={self.halt_signal}"


def supervisor_choice(
    tree: Tree | None, config: ImageConfig, disable: bool | None, *, stop_signal: int
) -> SupervisorChoice:
    """Return who is PID 1; ``disable`` is the spec's ``disable_supervisor``, None = by itself.

    Without a tree the command's name alone decides: links aren't followed, and /init is taken for
    s6-overlay's, which it nearly always is.
    ``stop_signal`` is what the command expects on a stop.
    """
    found = _init_of(tree, config)
    init = found.title if found else ""
    if disable is False or (disable is None and found is None):
        reason = (
            f"the spec keeps the supervisor in front of {init}"
            if found
            else "the supervisor runs the command"
        )
        return SupervisorChoice(mode="supervise", reason=reason, init=init, halt_signal=None)
    reason = "the spec says disable_supervisor" if disable else f"{init} expects to be PID 1"
    halt_signals = {"ends": None, "forwards": stop_signal, "wants SIGTERM": 15}
    halt_signal = halt_signals[found.on_stop] if found else stop_signal
    return SupervisorChoice(mode="exec", reason=reason, init=init, halt_signal=halt_signal)


def _init_of(tree: Tree | None, config: ImageConfig) -> _Init | None:
    command = (*config.entrypoint, *config.cmd)
    if not command:
        return None
    names = _names(tree, command[0].encode("utf-8", "surrogateescape"), config)
    for name in names:
        if known := _INITS.get(name.rpartition(b"/")[2]):
            return known
    if not names:
        return None
    if names[0] == b"/init" and (tree is None or any(tree.resolve(file) for file in _S6_FILES)):
        return _S6_OVERLAY
    return _SYSTEM_INIT if names[0] in _SYSTEM_INITS else None


def _path(config: ImageConfig) -> bytes:
    paths = [entry.partition("=")[2] for entry in config.env if entry.startswith("PATH=")]
    return (paths[-1] if paths else DEFAULT_PATH).encode("utf-8", "surrogateescape")


def _names(tree: Tree | None, program: bytes, config: ImageConfig) -> list[bytes]:
    """Return the absolute names a program has on the way along its symbolic links.

    Words count from the working directory and are followed as the kernel would; one that leads to
    no file names no init, whatever it is called.
    """
    if tree is None:
        return [program]
    start = config.working_dir.encode("utf-8", "surrogateescape")
    if b"/" in program:
        candidates = [posixpath.join(start, program)]
    else:
        paths = filter(None, _path(config).split(b":"))
        candidates = [posixpath.join(start, path, program) for path in paths]
    names = [candidate for candidate in candidates if _is_file(tree, candidate)][:1]
    for _ in range(_MOST_LINKS):
        inode = tree.lookup_as_kernel(names[-1]) if names else None
        if inode is None or inode.kind is not Kind.SYMLINK:
            break
        names.append(posixpath.join(names[-1].rpartition(b"/")[0] or b"/", inode.target))
    return [b"/" + posixpath.normpath(name).lstrip(b"/") for name in names]


def _is_file(tree: Tree, path: bytes) -> bool:
    inode: Inode | None = tree.resolve(path)
    return inode is not None and inode.kind is Kind.FILE
