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
from typing import NoReturn, TypeAlias

from lxdocker_lxd import __version__
from lxdocker_lxd.console import Console, discard
from lxdocker_lxd.errors import LxdockerError, StorageError
from lxdocker_lxd.progress import MODES

IMAGE_FORMATS = ("squashfs", "gzip", "tar")
LISTING_FORMATS = ("table", "json")
EXIT_INTERRUPTED = 130
EXIT_BUG = 70

# argparse has no public name for what add_subparsers returns.
_Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001

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
    try:
        options = commands.parse_args(arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    except OSError as error:
        # Help or version for a reader that went away, or a full disk.
        discard(sys.stdout)
        return 0 if isinstance(error, BrokenPipeError) else StorageError.exit_code
    console = Console.standard(debug=options.debug)
    try:
        verb = importlib.import_module(f"lxdocker_lxd.verbs.{options.verb}")
        code: int = verb.run(options, console)
    except LxdockerError as error:
        _trace(console)
        console.error(error)
        return error.exit_code
    except KeyboardInterrupt:
        console.note("interrupted; nothing half-made was published")
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last place where a bug can be told in a line
        _trace(console)
        console.note(f"error: {options.verb}: internal error: {type(error).__name__}: {error}")
        console.note("hint: this is a bug; please report it with the output of --debug")
        return EXIT_BUG
    return code


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
    _add_convert(_command(verbs, "convert", _CONVERT))
    _add_images(_command(verbs, "images", _IMAGES))
    _add_inspect(_command(verbs, "inspect", _INSPECT))
    _add_resolve(_command(verbs, "resolve", _RESOLVE))
    _add_serve(_command(verbs, "serve", _SERVE))
    _add_export(_command(verbs, "export", _EXPORT))
    _add_verify(_command(verbs, "verify", _VERIFY))
    return top


def lxdocker_parser() -> argparse.ArgumentParser:
    """Return the parser of ``lxdocker``: its four flags and nothing else."""
    top = argparse.ArgumentParser(prog="lxdocker", description=_CONVERT)
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
    top = argparse.ArgumentParser(prog="imgserver", description=_SERVE)
    top.add_argument(
        "--address", metavar="ADDRESS", default=":443", help="IP:port to listen at (default :443)"
    )
    top.add_argument("--lxdimages", metavar="PATH", required=True, help="directory of LXD images")
    top.add_argument("--key", metavar="PATH", required=True, help="TLS key of the server")
    top.add_argument("--cert", metavar="PATH", required=True, help="TLS certificate of the server")
    top.set_defaults(verb="serve", debug=False, config=None, print_remotes=False, format="table")
    return top


_CONVERT = "Pull the image of every specification and publish it as an LXD image."
_IMAGES = "List what the catalogue holds."
_INSPECT = "Show what an image is, without downloading its layers."
_RESOLVE = "Show how Docker, LXE and lxc read an image name."
_SERVE = "Serve published images to LXD, Incus and LXC, with a page for people."
_EXPORT = "Write what would be served as files, for any web server."
_VERIFY = "Check every document, hash and signature of a served or exported tree."


def _command(verbs: _Verbs, name: str, text: str) -> argparse.ArgumentParser:
    return verbs.add_parser(name, help=text[0].lower() + text[1:].rstrip("."), description=text)


def _add_convert(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--specs", metavar="DIR", help="directory with one YAML specification per image")
    add("--cache", metavar="DIR", help="directory for downloaded layers")
    add("--lxdimages", metavar="DIR", help="directory where LXD images are published")
    add("--imageformat", choices=IMAGE_FORMATS, help="format of the root filesystem")
    add("--jobs", metavar="N", type=int, help="images and layers worked on at once")
    add(
        "--name",
        metavar="NAME",
        nargs="+",
        action="extend",
        default=[],
        help="convert only these images",
    )
    add(
        "--busybox",
        metavar="ARCH=PATH",
        action="append",
        default=[],
        help="static busybox for images of another architecture (may be repeated)",
    )
    add("--versions", metavar="N", type=int, help="versions of each image to keep")
    add("--lxc", action="store_true", help="also write root filesystems for lxc-create")
    add("--dry-run", action="store_true", help="say what would be done, change nothing")
    _add_common(command, progress=True)


def _add_images(command: argparse.ArgumentParser) -> None:
    command.add_argument("--lxdimages", metavar="DIR", help="directory with published images")
    command.add_argument(
        "--verify", action="store_true", help="read every file again and check its digest"
    )
    _add_common(command)


def _add_inspect(command: argparse.ArgumentParser) -> None:
    command.add_argument("reference", metavar="REF", help="an image name, oci: or archive source")
    command.add_argument(
        "--platform", metavar="OS/ARCH", help="which image of a multi-platform one"
    )
    _add_common(command)


def _add_resolve(command: argparse.ArgumentParser) -> None:
    command.add_argument("reference", metavar="REF", help="an image name as written for Docker")
    command.add_argument(
        "--remote",
        metavar="NAME",
        action="append",
        default=[],
        help="a remote that lxc knows (may be repeated); default: those of its config.yml",
    )
    _add_common(command)


def _add_serve(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--lxdimages", metavar="DIR", help="directory with published images")
    add("--address", metavar="ADDR", help=":PORT, IP:PORT, [IPv6]:PORT or fd://N (default :443)")
    add("--http-address", metavar="ADDR", help="also serve image files over plain HTTP here")
    add("--key", metavar="PEM", help="TLS key; without one a CA and a certificate are made")
    add("--cert", metavar="PEM", help="TLS certificate and its chain")
    add("--tls-dir", metavar="DIR", help="directory for the CA and certificate that are made")
    add("--tls-minimum", choices=("1.3", "1.2"), help="oldest TLS version that is served")
    add(
        "--name",
        metavar="NAME",
        action="append",
        dest="names",
        help="a name or address of the server (may be repeated)",
    )
    _add_site(command)
    add("--connections", metavar="N", help="connections at once")
    add("--downloads", metavar="N", help="downloads at once")
    add("--stall-timeout", metavar="SECONDS", help="until a client that takes nothing is given up")
    add("--stop-timeout", metavar="SECONDS", help="that downloads may still take at the end")
    add("--metrics", choices=("local", "all", "none"), help="who may read /metrics")
    add("--print-remotes", action="store_true", help="print the remotes for a client's config.yml")
    _add_common(command)


def _add_export(command: argparse.ArgumentParser) -> None:
    command.add_argument("directory", metavar="DIR", help="where to write the tree")
    command.add_argument("--lxdimages", metavar="DIR", help="directory with published images")
    _add_site(command)
    command.add_argument("--dry-run", action="store_true", help="say what would be written")
    _add_common(command, progress=True)


def _add_verify(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("target", metavar="TARGET", help="an https:// URL or a directory")
    add("--ca", metavar="FILE", help="PEM file with the CA of the server's certificate")
    add("--keyring", metavar="FILE", help="OpenPGP keys that may have signed the documents")
    add("--jobs", metavar="N", type=int, help="files read at once")
    _add_common(command, progress=True)


def _add_site(command: argparse.ArgumentParser) -> None:
    """Add what decides the contents of a served or exported tree."""
    add = command.add_argument
    add("--url", metavar="URL", help="where clients reach the tree")
    add("--remote-name", metavar="NAME", help="how pages call its remote (default lxdocker)")
    add("--gpg-key", metavar="ID", help="OpenPGP key that signs the documents")
    add("--publish-delay", metavar="SECONDS", help="list a version this long before its aliases")


def _add_common(command: argparse.ArgumentParser, *, progress: bool = False) -> None:
    command.add_argument("--format", choices=LISTING_FORMATS, default="table", help="of the result")
    if progress:
        command.add_argument("--progress", choices=MODES, help="how progress is shown")
    command.add_argument("--config", metavar="FILE", help="settings file")
    command.add_argument("--debug", action="store_true", help="show tracebacks")
