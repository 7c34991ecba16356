"""What was told already and when, on disk, so that a restart neither forgets nor repeats it."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from lxdocker_lxd import atomic

FILE = "told.json"
# More than the ends a journal keeps, so that none of those is forgotten.
MOST = 5000
_FORMAT = 1


class Told:
    """A file in ``directory``. Methods raise StorageError; a damaged file counts as none."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        self._known: dict[str, datetime] | None = self._load()

    @property
    def is_new(self) -> bool:
        """Whether nothing was ever written down."""
        return self._known is None

    @property
    def when(self) -> Mapping[str, datetime]:
        """When each thing was told last."""
        return MappingProxyType(self._known or {})

    def add(self, keys: Iterable[str], now: datetime) -> None:
        """Return when it is on disk that ``keys`` were told now."""
        known = (self._known or {}) | dict.fromkeys(keys, now)
        newest = sorted(known.items(), key=lambda item: item[1])[-MOST:]
        document = {
            "format": _FORMAT,
            "told": {key: at.astimezone(UTC).isoformat() for key, at in newest},
        }
        atomic.make_directory(self._path.parent, mode=0o700)
        atomic.write(self._path, json.dumps(document).encode() + b"\n", mode=0o600)
        self._known = dict(newest)

    def _load(self) -> dict[str, datetime] | None:
        try:
            told = json.loads(self._path.read_bytes())["told"]
            return {
                str(key): datetime.fromisoformat(at).astimezone(UTC) for key, at in told.items()
            }
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, FileNotFoundError):
            return None
        except OSError as error:
            raise atomic.storage_error("read", self._path, error) from error
