"""The options of ``serve``, ``export`` and ``verify``."""

import argparse

from lxdocker_lxd.options.command import Verbs, add_common, command

SERVE = "Serve published images to LXD, Incus and LXC, with a page for people."
_EXPORT = "Write what would be served as files, for any web server."
_VERIFY = "Check every document, hash and signature of a served or exported tree."


def add(verbs: Verbs) -> None:
    """Add the commands."""
    _add_serve(command(verbs, "serve", SERVE))
    _add_export(command(verbs, "export", _EXPORT))
    _add_verify(command(verbs, "verify", _VERIFY))


def _add_serve(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
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
    _add_site(parser)
    add("--connections", metavar="N", help="connections at once")
    add("--downloads", metavar="N", help="downloads at once")
    add("--stall-timeout", metavar="SECONDS", help="until a client that takes nothing is given up")
    add("--stop-timeout", metavar="SECONDS", help="that downloads may still take at the end")
    add("--metrics", choices=("local", "all", "none"), help="who may read /metrics")
    add("--print-remotes", action="store_true", help="print the remotes for a client's config.yml")
    add_common(parser)


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="where to write the tree")
    parser.add_argument("--lxdimages", metavar="DIR", help="directory with published images")
    _add_site(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would be written")
    add_common(parser, progress=True)


def _add_verify(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "target",
        metavar="TARGET",
        help="an https:// URL, a directory, or https+registry://HOST: every server named there",
    )
    add("--ca", metavar="FILE", help="PEM file with the CA of the server's certificate")
    add(
        "--keyring",
        "--trusted-keys",
        metavar="FILE",
        help="OpenPGP keys that may have signed the documents",
    )
    add("--jobs", metavar="N", type=int, help="files read at once")
    add_common(parser, progress=True)


def _add_site(parser: argparse.ArgumentParser) -> None:
    """Add what decides the contents of a served or exported tree."""
    add = parser.add_argument
    add("--url", metavar="URL", help="where clients reach the tree")
    add("--remote-name", metavar="NAME", help="how pages call its remote (default lxdocker)")
    add("--gpg-key", metavar="ID", help="OpenPGP key that signs the documents")
    add("--publish-delay", metavar="SECONDS", help="list a version this long before its aliases")
