"""Which LXD a state directory belongs to: its journal means nothing to another one.

LXD is known by its certificate, which a cluster's members share, and which it keeps when its address,
its name or its place on the disk changes.
"""

import json
from pathlib import Path

from lxdocker_lxd import atomic
from lxdocker_lxd.errors import UsageError

FILE = "lxd.json"
_SHOWN = 12


class AnotherLxdError(UsageError):
    """The state directory is that of another LXD."""


def check(directory: Path, certificate: str, place: str) -> bool:
    """Return whether the directory knows its LXD; raise AnotherLxdError when it isn't this one.

    ``certificate`` is its fingerprint, ``place`` where it was found, for people. Raises StorageError.
    """
    file = directory / FILE
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return False
    except OSError as error:
        raise atomic.storage_error("read", file, error) from error
    try:
        found = json.loads(text)
        known, where = str(found["certificate"]), str(found["place"])
    except (ValueError, TypeError, KeyError) as error:
        raise AnotherLxdError(
            f"{file} doesn't say which LXD this directory belongs to: it can't be understood",
            hint="remove it if the directory is this LXD's",
        ) from error
    if certificate and known != certificate:
        raise AnotherLxdError(
            f"{directory} is the state of {where} (certificate {known[:_SHOWN]}), not of {place}"
            f" (certificate {certificate[:_SHOWN]})",
            hint=f"--state names a directory for each LXD; remove {file} if it is the same one with a"
            " new certificate",
        )
    return True


def claim(directory: Path, certificate: str, place: str) -> None:
    """Make the directory that LXD's, if it is nobody's; raises as :func:`check` does."""
    if not certificate or check(directory, certificate, place):
        return
    text = json.dumps({"certificate": certificate, "place": place})
    atomic.write(directory / FILE, f"{text}\n".encode(), mode=0o600)
