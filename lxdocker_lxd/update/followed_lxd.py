"""Which LXD a state directory belongs to: its journal means nothing to another one.

LXD is known by its certificate, which a cluster's members share, and which it keeps when its address,
its name or its place on the disk changes. It gets another one when it joins a cluster; then it is known
by what the directory's own updates left in it.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from lxdocker_lxd import atomic
from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.lxd.records import Instance
from lxdocker_lxd.update.journal_record import Entry, accounts
from lxdocker_lxd.update.transaction import Stamp, is_ours, stamp_of

FILE = "lxd.json"
_FORMAT = 1
_SHOWN = 12


class AnotherLxdError(UsageError):
    """The state directory is that of another LXD."""


def _is_another() -> bool:
    return False


def check(
    directory: Path,
    certificate: str,
    place: str,
    *,
    is_same: Callable[[], bool] = _is_another,
) -> bool:
    """Return whether the directory knows its LXD by this certificate.

    Raises AnotherLxdError when it belongs to another one. ``certificate`` is its fingerprint, ``place``
    where it was found, for people. At the place that the directory knows, with another certificate,
    ``is_same`` decides. Raises StorageError.
    """
    file = directory / FILE
    found = _read(file)
    if found is None:
        return False
    known, where = found
    if not certificate or known == certificate:
        return True
    if where == place and is_same():
        return False
    raise AnotherLxdError(
        f"{directory} is the state of {where} (certificate {known[:_SHOWN]}), not of {place}"
        f" (certificate {certificate[:_SHOWN]})",
        hint=f"--state names a directory for each LXD; remove {file} if it is the same one with a"
        " new certificate",
    )


def _read(file: Path) -> tuple[str, str] | None:
    """Return certificate and place, or None when there is no file."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise atomic.storage_error("read", file, error) from error
    try:
        found = json.loads(text)
        known, where = str(found["certificate"]), str(found["place"])
        number = found.get("format", _FORMAT)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise AnotherLxdError(
            f"{file} doesn't say which LXD this directory belongs to: it can't be understood",
            hint="remove it if the directory is this LXD's",
        ) from error
    if number != _FORMAT:
        raise AnotherLxdError(
            f"{file} has the format {number!r}, and this lxdocker-lxd knows {_FORMAT}",
            hint="a newer lxdocker-lxd wrote it: install that one again",
        )
    return known, where


def claim(
    directory: Path,
    certificate: str,
    place: str,
    *,
    is_same: Callable[[], bool] = _is_another,
) -> str:
    """Make the directory that LXD's, if it is nobody's; raises as :func:`check` does.

    Returns a line for people when it is known by a new certificate from now on.
    """
    if not certificate or check(directory, certificate, place, is_same=is_same):
        return ""
    known = (directory / FILE).exists()
    text = json.dumps({"format": _FORMAT, "certificate": certificate, "place": place})
    atomic.write(directory / FILE, f"{text}\n".encode(), mode=0o600)
    if not known:
        return ""
    return (
        f"{place} has a new certificate ({certificate[:_SHOWN]}); it has what earlier updates left, so"
        f" {directory} stays its own"
    )


def has_updates_of(instances: Iterable[Instance], entries: Iterable[Entry]) -> bool:
    """Whether a LXD with these instances is the one that a journal tells of.

    It has instances that the journal's updates left, each where it was left, and among them those of
    all updates whose outage isn't over.
    """
    known = accounts(entries)
    found = set()
    for instance in instances:
        stamp = stamp_of(instance)
        if not isinstance(stamp, Stamp) or not is_ours(instance):
            continue
        account = known.get(stamp.transaction)
        if account is None:
            continue
        one = account.transaction
        if (one.project, one.name) == (instance.project, stamp.name):
            found.add(one.id)
    opened = {one.transaction.id for one in known.values() if one.outage and one.ended is None}
    return bool(found) and opened <= found
