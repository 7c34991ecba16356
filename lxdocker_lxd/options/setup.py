"""The options of ``setup``."""

import argparse

from lxdocker_lxd.options.command import Verbs, add_common, add_lxd, command

_SETUP = "Make this host ready: LXD, image server, certificate, remote, timers."


def add(verbs: Verbs) -> None:
    """Add the command."""
    parser = command(verbs, "setup", _SETUP)
    add = parser.add_argument
    add("--dry-run", action="store_true", help="look, show the plan, change nothing")
    add("--yes", action="store_true", help="do it without asking")
    add("--undo", action="store_true", help="take back exactly what setup did")
    add("--renew", action="store_true", help="renew certificates that are due, nothing else")
    add("--no-init", action="store_true", help="leave a LXD without storage and network so")
    add("--no-self-test", action="store_true", help="don't launch a test instance at the end")
    add("--bridge", metavar="NAME", help="what to call a new bridge (default lxdbr0)")
    _add_container(parser)
    _add_server(parser)
    _add_lxd(parser)
    add("--root", metavar="DIR", default="/", help="write files below DIR instead of /")
    add_common(parser)


def _add_container(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--in-container", metavar="NAME", help="let the server live in a container of this LXD")
    add(
        "--container-image",
        metavar="IMAGE",
        default="images:debian/12",
        help="what to make it of: REMOTE:ALIAS or a local image (default images:debian/12)",
    )
    add("--no-lxd", action="store_true", help="make this machine an image server only")


def _add_server(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--address",
        metavar="ADDR",
        action="append",
        dest="addresses",
        help="where to serve (may be repeated; default LXD's bridge and loopback)",
    )
    add("--url", metavar="URL", help="where clients reach the server")
    add(
        "--name",
        metavar="NAME",
        action="append",
        dest="names",
        help="a further name or address of the server (may be repeated)",
    )
    add("--remote-name", metavar="NAME", help="what to call the remote (default lxdocker)")
    add(
        "--user",
        metavar="USER",
        action="append",
        dest="users",
        default=[],
        help="register the remote for this user, too (may be repeated)",
    )
    add("--system-trust", action="store_true", help="let the whole system trust the local CA")


def _add_lxd(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--auto-update-interval", metavar="HOURS", type=int, help="set LXD's, 0 for never")
    add_lxd(parser)
