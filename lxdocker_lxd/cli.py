"""The commands: words into options, one use case, an exit code.

Only ``argparse`` is loaded before a command is chosen, so that ``--help`` and ``--version`` answer
at once; the chosen verb's module is loaded by name. This is the only place that exits, and the only
one that catches everything: no traceback reaches a user unless ``--debug`` asks for it.
"""

import argparse
import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import NoReturn

from lxdocker_lxd import __version__
from lxdocker_lxd.console import Console, discard
from lxdocker_lxd.errors import LxdockerError, StorageError
from lxdocker_lxd.options import convert, lxd, serve, setup, update
from lxdocker_lxd.options.command import IMAGE_FORMATS

EXIT_INTERRUPTED = 130
EXIT_BUG = 70

_EPILOG = """\
exit codes: 0 done, 1 some image failed, 2 wrong usage, 3 not found, 4 credentials refused,
5 network, 6 wrong or unsafe content, 7 LXD, 8 local storage, 9 missing or failing program,
70 a bug, 130 interrupted
"""


def entry() -> NoReturn:
    """Run ``lxdocker-lxd`` with this process's arguments."""
    _run(parser())


def entry_lxdocker() -> NoReturn:
    """Run ``lxdocker``: the converter under its old name and with exactly its old flags."""
    _run(lxdocker_parser())


def entry_imgserver() -> NoReturn:
    """Run ``imgserver``: the image server under its old name and with exactly its old flags."""
    _run(imgserver_parser())


def _run(commands: argparse.ArgumentParser) -> NoReturn:
    # SIGTERM, as from systemd, ends the work as cleanly as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    code = main(commands, sys.argv[1:])
    # What argparse printed comes out here: at exit Python would complain where nobody can help.
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            discard(stream)
    if code == EXIT_INTERRUPTED or threading.active_count() > 1:
        # Python would wait for threads that wait for a network or a slow disk.
        os._exit(code)
    sys.exit(code)


def main(commands: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Run the command that ``arguments`` name and return its exit code."""
    words, command = _split(arguments)
    try:
        options = commands.parse_args(words)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    except OSError as error:
        # Help or version for a reader that went away, or a full disk.
        discard(sys.stdout)
        return 0 if isinstance(error, BrokenPipeError) else StorageError.exit_code
    if command:
        options.command = command
    console = Console.standard(debug=options.debug)
    try:
        verb = importlib.import_module(f"lxdocker_lxd.verbs.{options.verb}")
        code: int = verb.run(options, console)
    except LxdockerError as error:
        _trace(console)
        console.error(error)
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        console.note(f"interrupted; {str(interrupt) or 'nothing half-made was published'}")
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last place where a bug can be told in a line
        _trace(console)
        console.note(f"error: {options.verb}: internal error: {type(error).__name__}: {error}")
        console.note("hint: this is a bug; please report it with the output of --debug")
        return EXIT_BUG
    return code


def _split(arguments: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Return what is ours and, for ``launch``, the instance's command behind the first ``--``.

    argparse gives that up when options stand between the names and the ``--``.
    """
    if list(arguments[:1]) != ["launch"] or "--" not in arguments:
        return arguments, ()
    place = arguments.index("--")
    return arguments[:place], arguments[place + 1 :]


def _trace(console: Console) -> None:
    if console.debug:
        console.note(traceback.format_exc())


def parser() -> argparse.ArgumentParser:
    """Return the parser of ``lxdocker-lxd``."""
    top = argparse.ArgumentParser(
        prog="lxdocker-lxd",
        description="Run application images of OCI registries as plain LXD containers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"lxdocker-lxd {__version__}")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    for topic in (convert, serve, lxd, setup, update):
        topic.add(verbs)
    return top


def lxdocker_parser() -> argparse.ArgumentParser:
    """Return the parser of ``lxdocker``: its four flags and nothing else."""
    top = argparse.ArgumentParser(prog="lxdocker", description=convert.CONVERT)
    top.add_argument("--cache", metavar="PATH", required=True, help="directory for OCI layers")
    top.add_argument("--lxdimages", metavar="PATH", required=True, help="directory for LXD images")
    top.add_argument("--specs", metavar="PATH", required=True, help="directory of specifications")
    top.add_argument(
        "--imageformat", metavar="FORMAT", choices=IMAGE_FORMATS, help="squashfs, gzip or tar"
    )
    top.set_defaults(
        verb="convert",
        debug=False,
        config=None,
        jobs=None,
        name=[],
        dry_run=False,
        busybox=[],
        versions=None,
        lxc=False,
        format="table",
        progress=None,
    )
    return top


def imgserver_parser() -> argparse.ArgumentParser:
    """Return the parser of ``imgserver``: its four flags and nothing else."""
    top = argparse.ArgumentParser(prog="imgserver", description=serve.SERVE)
    top.add_argument(
        "--address", metavar="ADDRESS", default=":443", help="IP:port to listen at (default :443)"
    )
    top.add_argument("--lxdimages", metavar="PATH", required=True, help="directory of LXD images")
    top.add_argument("--key", metavar="PATH", required=True, help="TLS key of the server")
    top.add_argument("--cert", metavar="PATH", required=True, help="TLS certificate of the server")
    top.set_defaults(verb="serve", debug=False, config=None, print_remotes=False, format="table")
    return top
