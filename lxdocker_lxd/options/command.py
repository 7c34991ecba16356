"""What the commands' options have in common."""

import argparse
from typing import TypeAlias

from lxdocker_lxd.progress import MODES

IMAGE_FORMATS = ("squashfs", "gzip", "tar")
LISTING_FORMATS = ("table", "json")

# argparse has no public name for what add_subparsers returns.
Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001


def command(verbs: Verbs, name: str, text: str) -> argparse.ArgumentParser:
    """Add the command ``name`` with its ``text`` for ``--help`` and return its parser."""
    return verbs.add_parser(name, help=text[0].lower() + text[1:].rstrip("."), description=text)


def add_lxd(parser: argparse.ArgumentParser) -> None:
    """Add how a LXD elsewhere is named."""
    add = parser.add_argument
    add("--lxd", metavar="URL", help="a LXD elsewhere: https://HOST:8443")
    add("--lxd-cert", metavar="PEM", help="client certificate it trusts")
    add("--lxd-key", metavar="PEM", help="key of that certificate")
    add("--lxd-server-cert", metavar="PEM", help="certificate of that LXD, or of its CA")


def add_common(parser: argparse.ArgumentParser, *, progress: bool = False) -> None:
    """Add what every command has; with ``progress`` how its work is shown."""
    parser.add_argument("--format", choices=LISTING_FORMATS, default="table", help="of the result")
    if progress:
        parser.add_argument("--progress", choices=MODES, help="how progress is shown")
    parser.add_argument("--config", metavar="FILE", help="settings file")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
