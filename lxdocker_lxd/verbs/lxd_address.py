"""Where the LXD is that a command's options name."""

import argparse
import os
from pathlib import Path

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.importing.lxc_directory import LxcDirectory
from lxdocker_lxd.lxd.place import Place, RemotePlace, find_socket


def lxd_place(options: argparse.Namespace) -> Place:
    """Return the place that ``--lxd`` or ``--remote`` names; without both, this machine's LXD.

    Raises UsageError, NotInstalledError, and what reading lxc's configuration raises.
    """
    if getattr(options, "remote", ""):
        if options.lxd:
            raise UsageError(
                f"--lxd {options.lxd} and --remote {options.remote} name a LXD each",
                hint="give one of them",
            )
        return LxcDirectory.find(os.environ).place(options.remote)
    if not options.lxd:
        return find_socket(os.environ)
    if not (options.lxd_cert and options.lxd_key):
        raise UsageError(
            f"reach {options.lxd}: it needs a client certificate",
            hint="give --lxd-cert and --lxd-key; `lxc remote add` makes a pair in ~/.config/lxc",
        )
    pinned = options.lxd_server_cert
    return RemotePlace(
        url=options.lxd,
        client_certificate=Path(options.lxd_cert),
        client_key=Path(options.lxd_key),
        server_certificate=Path(pinned) if pinned else None,
    )
