"""What quickstart.sh reads out of JSON documents, one small question each.

python3 answers.py QUESTION [ARGUMENT...] < DOCUMENT

Standard library only. Answers are lines on standard output; no answer is an empty output.
"""

import contextlib
import ipaddress
import json
import random
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any

Document = dict[str, Any]

_SOURCES = ("oci:", "oci-archive:", "docker-archive:", "docker://")
# What LXD takes as an instance's name, less what the quick start puts before it.
_LONGEST_NAME = 40
# What lxdocker_lxd.exposed_port takes, less the protocols that can't be asked; of a range the first.
_PORT = re.compile(r"0*([0-9]{1,5})(?:-0*([0-9]{1,5}))?(?:/tcp)?", re.IGNORECASE)
_LONGEST_PORT = 40
_LAST_PORT = 65535


def name(image: str) -> str:
    """A short name for an image: ``ghcr.io/owner/web:1.2`` is ``web``."""
    text = image.partition("@")[0]
    for prefix in _SOURCES:
        text = text.removeprefix(prefix)
    last = PurePosixPath(text).name.partition(":")[0]
    last = re.sub(r"\.(ya?ml|tar|tar\.gz|tgz)$", "", last)
    word = re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-")
    return word[:_LONGEST_NAME].strip("-") or "image"


def quoted(text: str) -> str:
    """A text as a YAML scalar."""
    return json.dumps(text)


def files(document: Document, image: str, architecture: str) -> Iterator[str]:
    """Fingerprint, metadata file and root filesystem of an image's newest version."""
    for entry in document["images"]:
        if entry["name"] == image and entry["architecture"] == architecture and entry["newest"]:
            yield entry["fingerprint"]
            yield entry["files"]["metadata"]
            yield entry["files"]["rootfs"]


def port(document: Document, image: str) -> Iterator[str]:
    """The first TCP port that the newest version of an image exposes."""
    for product in document["products"]:
        if product["name"] == image and product["versions"]:
            exposed = product["versions"][-1]["config"].get("ExposedPorts") or {}
            # The catalogue may be an older converter's, and an image can call anything a port.
            found = [_PORT.fullmatch(text) for text in exposed if len(text) <= _LONGEST_PORT]
            ranges = [(int(match[1]), int(match[2] or match[1])) for match in found if match]
            yield from [str(one) for one, last in ranges if 1 <= one <= last <= _LAST_PORT][:1]


def address(document: Document) -> Iterator[str]:
    """The first global IPv4 address in an instance's state."""
    for interface in (document.get("network") or {}).values():
        for entry in interface["addresses"]:
            if entry["family"] == "inet" and entry["scope"] == "global":
                with contextlib.suppress(ValueError):
                    yield str(ipaddress.IPv4Address(entry["address"]))
                    return


def value(document: Document, *path: str) -> Iterator[str]:
    """A value inside a document, nothing where there is none."""
    found: object = document
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    if found is not None:
        yield str(found)


def devices(document: Document, kind: str) -> Iterator[str]:
    """Names of a profile's devices of one kind; for ``root`` the disk at ``/``."""
    for key, device in document["devices"].items():
        root = device["type"] == "disk" and device.get("path") == "/"
        if root if kind == "root" else device["type"] == kind:
            yield key


def subnet(routes: list[dict[str, str]]) -> Iterator[str]:
    """An address and prefix for a bridge, in a private /24 that overlaps none of the routes."""
    named = [route["dst"] for route in routes if route.get("dst", "default") != "default"]
    used = [ipaddress.IPv4Network(text, strict=False) for text in named]
    candidates = list(ipaddress.IPv4Network("10.64.0.0/10").subnets(new_prefix=24))
    # Any will do; a random one rarely meets a network that is only sometimes there (a VPN).
    random.shuffle(candidates)
    for candidate in candidates:
        if not any(candidate.overlaps(other) for other in used):
            yield f"{candidate[1]}/24"
            return


_QUESTIONS: dict[str, Callable[..., Iterator[str]]] = {
    "files": files,
    "port": port,
    "address": address,
    "value": value,
    "devices": devices,
    "subnet": subnet,
}


def main(question: str, *arguments: str) -> None:
    """Answer one question."""
    if question == "name":
        answers = [name(*arguments)]
    elif question == "quoted":
        answers = [quoted(*arguments)]
    else:
        answers = list(_QUESTIONS[question](json.load(sys.stdin), *arguments))
    for answer in answers:
        sys.stdout.write(f"{answer}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
