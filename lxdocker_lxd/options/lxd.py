"""The options of ``import``, ``refresh``, and of the commands for instances made from our images."""

import argparse

from lxdocker_lxd.options.command import Verbs, add_common, command

_IMPORT = "Convert an image and put it straight into LXD, without a server."
_REFRESH = "Convert and send again what was imported, where it changed."
_LAUNCH = "Import an image if LXD hasn't got it, and start an instance with what it asks for."
_PS = "List instances made from our images."
_LOGS = "Show what an instance's command wrote."


def add(verbs: Verbs) -> None:
    """Add the commands."""
    _add_import(command(verbs, "import", _IMPORT))
    _add_refresh(command(verbs, "refresh", _REFRESH))
    _add_launch(command(verbs, "launch", _LAUNCH))
    _add_ps(command(verbs, "ps", _PS))
    _add_logs(command(verbs, "logs", _LOGS))


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--project", metavar="NAME", help="of LXD (default: the remote's, else default)"
    )
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
    add("--replace", action="store_true", help="take aliases from other images too")
    add(
        "--old",
        choices=("keep", "delete"),
        help="what becomes of images that lose their last alias (default: earlier versions of the"
        " same import are deleted, others kept)",
    )
    add(
        "--from",
        metavar="SERVER",
        dest="server",
        help="let LXD pull SOURCE from this server; or follow signatures from"
        " https+registry://HOST or https+lxc-images://HOST",
    )
    add("--ca", metavar="FILE", help="PEM file with the CA of that server's certificate")
    add(
        "--trusted-keys",
        metavar="FILE",
        help="OpenPGP keys that must have signed what https+... servers say",
    )
    add("--imports", metavar="DIR", help="directory where imports are remembered")
    add("--dry-run", action="store_true", help="say what would be done, change nothing")
    _add_place(parser)
    add_common(parser, progress=True)


def _add_refresh(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--imports", metavar="DIR", help="directory where imports are remembered")
    add("--dry-run", action="store_true", help="say what would be done, change nothing")
    add_common(parser, progress=True)


def _add_launch(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    parser.usage = "%(prog)s [options] SOURCE NAME [-- ARGUMENT ...]"
    # What stands behind "--"; the command line is split there before it is read.
    parser.set_defaults(command=())
    add("source", metavar="SOURCE", help="as for import, or an alias of one of our images in LXD")
    add("name", metavar="NAME", help="of the instance")
    _add_asked_for(parser)
    add("--user", metavar="USER[:GROUP]", default="", help="who runs the command")
    add(
        "--profile",
        metavar="NAME",
        action="append",
        dest="profiles",
        default=[],
        help="of LXD, instead of default (may be repeated)",
    )
    add("--target", metavar="MEMBER", default="", help="of the cluster")
    add("--update", choices=("auto", "notify", "off"), default="", help="follow newer images")
    add(
        "--pull",
        choices=("missing", "always", "never"),
        default="missing",
        help="when the image is imported (default missing)",
    )
    add("--wait", action="store_true", help="until it is healthy, or its first port answers")
    add(
        "--wait-timeout",
        metavar="SECONDS",
        type=float,
        default=120.0,
        help="the longest wait (default 120)",
    )
    add("--imports", metavar="DIR", help="directory where imports are remembered")
    _add_place(parser)
    add_common(parser, progress=True)


def _add_asked_for(parser: argparse.ArgumentParser) -> None:
    """Add what Docker's run has by the same name."""

    def several(name: str, metavar: str, text: str, dest: str) -> None:
        parser.add_argument(
            name, metavar=metavar, action="append", default=[], dest=dest, help=text
        )

    several("--publish", "[ADDR:]PORT:PORT", "let the host answer at a port", "publish")
    parser.add_argument(
        "--publish-all", action="store_true", help="publish every port the image exposes"
    )
    several("--volume", "NAME:PATH", "a custom volume at a path; :ro, :nocopy", "volumes")
    several("--env", "NAME=VALUE", "a variable; without = the caller's own", "env")
    several("--env-file", "FILE", "a file of variables, one a line", "env_files")
    several("--set", "KEY=VALUE", "a key of the instance's configuration", "keys")


def _add_ps(parser: argparse.ArgumentParser) -> None:
    _add_place(parser)
    parser.add_argument("--all-projects", action="store_true", help="of every project")
    add_common(parser)


def _add_logs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="of the instance")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until it stops")
    _add_place(parser)
    add_common(parser)
