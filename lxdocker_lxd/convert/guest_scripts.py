"""The guest's shell scripts, read from this package, and a digest over all the guest is made of."""

import hashlib
from dataclasses import dataclass
from importlib import resources

from lxdocker_lxd.digest import Digest

_FILES = (
    "init.sh",
    "launch.sh",
    "lxc-hook.sh",
    "lxc-start.sh",
    "words.sh",
    "prepare.sh",
    "logger.sh",
    "network.sh",
    "run.sh",
    "udhcpc-default.sh",
    "udhcpc.sh",
)

_MODULES = (
    "instance_keys.py",
    "secret_value.py",
    "convert/account.py",
    "convert/guest_files.py",
    "convert/guest_writer.py",
    "convert/lxc_files.py",
    "convert/metadata.py",
    "convert/stop_signal.py",
    "convert/supervisor.py",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestScripts:
    """The scripts by file name; the same for every image and architecture."""

    init: bytes
    launch: bytes
    words: bytes
    prepare: bytes
    logger: bytes
    network: bytes
    run: bytes
    udhcpc_default: bytes
    udhcpc: bytes
    lxc_hook: bytes
    lxc_start: bytes


def load_guest_scripts() -> GuestScripts:
    """Return the scripts of this release."""
    directory = resources.files("lxdocker_lxd") / "convert" / "guest"
    contents = {
        name.removesuffix(".sh").replace("-", "_"): (directory / name).read_bytes()
        for name in _FILES
    }
    return GuestScripts(**contents)


def guest_digest(busybox: Digest) -> Digest:
    """Return a digest that changes with anything this release and ``busybox`` add to an image.

    It covers the scripts and the sources of the modules that place them, so it also changes with a
    release in which only their words did; an image is then built once more.
    """
    package = resources.files("lxdocker_lxd")
    names = [f"convert/guest/{name}" for name in _FILES] + list(_MODULES)
    sums = [hashlib.sha256((package / name).read_bytes()).hexdigest() for name in names]
    return Digest.of("\n".join([str(busybox), *sums]).encode())
