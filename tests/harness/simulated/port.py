"""What the simulated ports share: ETags, their comparison, and paths of users."""

import hashlib

from lxdocker_lxd.lxd.failures import ChangedMeanwhileError
from lxdocker_lxd.lxd.records import DEFAULT_PROJECT, Config
from tests.harness.simulated.call_log import CallLog
from tests.harness.simulated.store import Box, Store


def etag_of(*covered: object) -> str:
    """An ETag over what is given."""
    return hashlib.sha256(repr(covered).encode()).hexdigest()


def sorted_config(config: Config) -> list[tuple[str, str]]:
    return sorted(config.items())


def compare(etag: str, held: str, what: str) -> None:
    if etag and etag != held:
        raise ChangedMeanwhileError(f"could not write {what}: ETag doesn't match", hint="again")


def path_of(box: Box) -> str:
    place = "" if box.project == DEFAULT_PROJECT else f"?project={box.project}"
    return f"/1.0/instances/{box.name}{place}"


class Port:
    def __init__(self, store: Store, log: CallLog) -> None:
        self._store = store
        self._log = log
