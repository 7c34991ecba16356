"""What commands are told of signed servers: addresses with a protocol, and whom to believe there."""

import argparse
import os
from pathlib import Path

from lxdocker_lxd.clients.remote_address import names_protocol, parse_address
from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.importing.chain_import import ChainSource
from lxdocker_lxd.verbs.trusted_keys import trust

_SCRATCH = "/var/tmp"  # noqa: S108 - a directory of its own is made there, for large files


def scratch_directory() -> Path:
    """Return where large temporary files may lie: TMPDIR, else a place on a disk."""
    return Path(os.environ.get("TMPDIR") or _SCRATCH)


def chain_source(options: argparse.Namespace) -> ChainSource | None:
    """Return what ``import`` is to bring from a signed server; None where none is named.

    Raises UsageError for keys without such a server, and such a server without keys.
    """
    if not names_protocol(options.server or ""):
        if options.trusted_keys:
            raise UsageError(
                "--trusted-keys goes with a server whose documents are signed",
                hint="name it with --from https+registry://HOST or https+lxc-images://HOST",
            )
        return None
    return ChainSource(
        address=parse_address(options.server, what="--from"),
        trust=trust(options.trusted_keys, options.ca),
        name=options.source,
    )
