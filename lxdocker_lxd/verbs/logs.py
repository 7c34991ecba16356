"""``lxdocker-lxd logs``: what an instance's command wrote, as it wrote it."""

import argparse
import sys

from lxdocker_lxd.console import Console, discard, document
from lxdocker_lxd.launching.instance_log import InstanceLog
from lxdocker_lxd.verbs.import_surroundings import destination, lxc_directory

EXIT_INTERRUPTED = 130


def run(options: argparse.Namespace, console: Console) -> int:
    """Print the log; with ``--follow`` until the instance stops or the reader goes away."""
    place = destination(options, lxc_directory())
    log = InstanceLog(place.lxd, options.name, project=place.project)
    if options.format == "json":
        lines = log.now().decode(errors="replace").splitlines()
        console.result(document({"name": options.name, "lines": lines}))
        return 0
    try:
        for piece in log.followed() if options.follow else (log.now(),):
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
    except BrokenPipeError:
        discard(sys.stdout)
    except KeyboardInterrupt:
        # How following usually ends.
        return EXIT_INTERRUPTED
    return 0
