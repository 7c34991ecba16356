"""What LXD would fetch from an image server: read there by us, for a look beforehand."""

import contextlib
import tempfile
from dataclasses import replace
from pathlib import Path

from lxdocker_lxd.atomic import storage_error
from lxdocker_lxd.clients.simplestreams import StreamVersion, find_image
from lxdocker_lxd.clients.tree_http import HttpTree
from lxdocker_lxd.importing.image_import import ImportOutcome
from lxdocker_lxd.importing.lxc_remotes import SIMPLESTREAMS
from lxdocker_lxd.importing.source_choice import Choice, RemoteChoice
from lxdocker_lxd.lxd.failures import AbsentError
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.platform import Platform


def foreseen(outcome: ImportOutcome, choice: Choice, lxd: Lxd, certificate: str) -> ImportOutcome:
    """Return a dry run's outcome with what the image server says now.

    Only simplestreams can be asked. ``certificate`` is the PEM text that is trusted for the server,
    empty for the system's authorities. Raises what reading the tree raises, UnknownAliasError where
    the import would fail.
    """
    if not isinstance(choice, RemoteChoice) or choice.remote.protocol != SIMPLESTREAMS:
        return outcome
    version = _listed(choice, lxd, certificate)
    try:
        lxd.images.get(version.fingerprint, project=outcome.project)
        word = "would-keep"
    except AbsentError:
        word = outcome.outcome
    return replace(
        outcome,
        outcome=word,
        fingerprint=version.fingerprint,
        serial=version.serial,
        size_bytes=version.size_bytes,
    )


def _listed(choice: RemoteChoice, lxd: Lxd, certificate: str) -> StreamVersion:
    kernel = lxd.server.info().architectures[0]
    architectures = (kernel, Platform.parse(kernel).lxd_architecture)
    with contextlib.ExitStack() as stack:
        authorities = None
        if certificate:
            file = stack.enter_context(tempfile.NamedTemporaryFile(prefix="lxdocker-ca-"))
            authorities = Path(file.name)
            try:
                authorities.write_text(certificate, encoding="ascii")
            except OSError as error:
                raise storage_error("write", authorities, error) from error
        tree = HttpTree(choice.remote.address, authorities)
        with contextlib.closing(tree):
            return find_image(tree, choice.alias, architectures)
