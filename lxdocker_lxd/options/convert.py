"""The options of ``convert``, and of the commands that only look."""

import argparse

from lxdocker_lxd.options.command import IMAGE_FORMATS, Verbs, add_common, command

CONVERT = "Pull the image of every specification and publish it as an LXD image."
_IMAGES = "List what the catalogue holds."
_INSPECT = "Show what an image is, without downloading its layers."
_RESOLVE = "Show how Docker, LXE and lxc read an image name."


def add(verbs: Verbs) -> None:
    """Add the commands."""
    _add_convert(command(verbs, "convert", CONVERT))
    _add_images(command(verbs, "images", _IMAGES))
    _add_inspect(command(verbs, "inspect", _INSPECT))
    _add_resolve(command(verbs, "resolve", _RESOLVE))


def _add_convert(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
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
    add_common(parser, progress=True)


def _add_images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lxdimages", metavar="DIR", help="directory with published images")
    parser.add_argument(
        "--verify", action="store_true", help="read every file again and check its digest"
    )
    add_common(parser)


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="REF", help="an image name, oci: or archive source")
    parser.add_argument("--platform", metavar="OS/ARCH", help="which image of a multi-platform one")
    add_common(parser)


def _add_resolve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="REF", help="an image name as written for Docker")
    parser.add_argument(
        "--remote",
        metavar="NAME",
        action="append",
        default=[],
        help="a remote that lxc knows (may be repeated); default: those of its config.yml",
    )
    add_common(parser)
