"""``lxdocker-lxd logs``: what an instance's command wrote.

Into files and pipes it goes as it was written. A terminal obeys control characters, and whoever runs in
the instance is a stranger to it, so there they are spelled out.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from typing import TextIO

from lxdocker_lxd.console import Console, discard, document
from lxdocker_lxd.control_characters import TerminalText
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
    pieces = log.followed() if options.follow else (log.now(),)
    try:
        for piece in shown(pieces, sys.stdout):
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
    except BrokenPipeError:
        discard(sys.stdout)
    except KeyboardInterrupt:
        # How following usually ends.
        return EXIT_INTERRUPTED
    return 0


def shown(pieces: Iterable[bytes], stream: TextIO) -> Iterator[bytes]:
    """Yield a log's bytes as ``stream`` may have them: as they are, or legible for a terminal."""
    if not stream.isatty():
        yield from pieces
        return
    terminal = TerminalText()
    for piece in pieces:
        yield terminal.shown(piece).encode(stream.encoding, "backslashreplace")
    yield terminal.shown(b"", last=True).encode(stream.encoding, "backslashreplace")
