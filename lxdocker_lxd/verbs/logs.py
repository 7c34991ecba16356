"""``lxdocker-lxd logs``: what an instance's command wrote, as it wrote it."""

import argparse
import sys

from lxdocker_lxd.console import Console, discard, document
from lxdocker_lxd.launching.instance_log import InstanceLog
from lxdocker_lxd.lxd.daemon import open_lxd
from lxdocker_lxd.verbs.import_surroundings import lxc_directory


def run(options: argparse.Namespace, console: Console) -> int:
    """Print the log; with ``--follow`` until the instance stops or the reader goes away."""
    lxd = open_lxd(lxc_directory().place(options.target_remote))
    log = InstanceLog(lxd, options.name, project=options.project)
    if options.format == "json":
        lines = log.now().decode(errors="replace").splitlines()
        console.result(document({"name": options.name, "lines": lines}))
        return 0
    for piece in log.followed() if options.follow else (log.now(),):
        try:
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            discard(sys.stdout)
            return 0
    return 0
