"""The options of ``import``, ``refresh``, and of the commands for instances made from our images."""

import argparse

from lxdocker_lxd.options.command import Verbs, add_common, command

_IMPORT = "Convert an image and put it straight into LXD, without a server."
_REFRESH = "Convert and send again what was imported, where it changed."


def add(verbs: Verbs) -> None:
    """Add the commands."""
    _add_import(command(verbs, "import", _IMPORT))
    _add_refresh(command(verbs, "refresh", _REFRESH))


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--project", metavar="NAME", default="default", help="of LXD")
    parser.add_argument(
        "--target-remote", metavar="REMOTE", default="", help="a LXD that lxc knows by this name"
    )


def _add_import(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    # "import" can't be a module's name.
    parser.set_defaults(verb="import_image")
    add(
        "source",
        metavar="SOURCE",
        help="an image name, oci: or archive source, a specification's name, an image of the"
        " catalogue, or REMOTE/ALIAS",
    )
    add(
        "--alias",
        metavar="NAME",
        action="append",
        default=[],
        dest="aliases",
        help="the image's name in LXD, instead of its own (may be repeated)",
    )
    add("--lxe", action="store_true", help="also the aliases under which LXE looks for it")
    add("--public", action="store_true", help="let anyone who reaches LXD copy the image")
    add(
        "--replace",
        choices=("keep", "delete"),
        nargs="?",
        const="keep",
        help="take aliases from other images too, and keep those (or delete them)",
    )
    add("--from", metavar="SERVER", dest="server", help="let LXD pull SOURCE from this server")
    add("--ca", metavar="FILE", help="PEM file with the CA of that server's certificate")
    add("--imports", metavar="DIR", help="directory where imports are remembered")
    add("--dry-run", action="store_true", help="say what would be done, change nothing")
    _add_place(parser)
    add_common(parser, progress=True)


def _add_refresh(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--imports", metavar="DIR", help="directory where imports are remembered")
    add("--dry-run", action="store_true", help="say what would be done, change nothing")
    add_common(parser, progress=True)
