"""What an export remembers of the files it made: the text of its record. Pure.

The record is written before the first file of a run and after the last one. A file whose ``mtime_ns``
is None was only intended: a run that was killed may have made it or not.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from lxdocker_lxd.errors import VerificationError
from lxdocker_lxd.serve.export_plan import is_tree_path

FORMAT = 1


class ExportRecordError(VerificationError):
    """The record of an export can't be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedFile:
    """A file that the export made. ``unlisted_at`` is when it stopped belonging to the tree."""

    sha256: str | None
    size_bytes: int | None
    mtime_ns: int | None
    unlisted_at: datetime | None = None


INTENDED = ExportedFile(sha256=None, size_bytes=None, mtime_ns=None)


def render(files: Mapping[str, ExportedFile]) -> bytes:
    """Return the record's text."""
    content = {
        "format": FORMAT,
        "files": {
            path: {
                "sha256": file.sha256,
                "size_bytes": file.size_bytes,
                "mtime_ns": file.mtime_ns,
                "unlisted_at": file.unlisted_at.isoformat() if file.unlisted_at else None,
            }
            for path, file in sorted(files.items())
        },
    }
    return json.dumps(content, indent=0).encode() + b"\n"


_DAMAGES = (
    *(ValueError, KeyError, TypeError, AttributeError, RecursionError),
    # A moment of the year 1 or 9999 in a zone far away.
    OverflowError,
)


def parse(content: bytes, *, name: str) -> dict[str, ExportedFile]:
    """Return the files of a record; raise ExportRecordError."""
    try:
        document = json.loads(content)
        if document["format"] != FORMAT:
            raise ExportRecordError(
                f"{name}: expected format {FORMAT}, got {document['format']!r}",
                hint="use the version of lxdocker-lxd that wrote it, or export to a new directory",
            )
        return {_path(path): _parsed(fields) for path, fields in document["files"].items()}
    except _DAMAGES as error:
        raise ExportRecordError(
            f"{name}: not the record of an export: {error}",
            hint="export to a new directory; what is in this one can't be told from other files",
        ) from error


def _path(name: str) -> str:
    # What a record names may be removed, so it is looked at like the word of a stranger.
    if not is_tree_path(name):
        raise ValueError(f"{name[:80]!r} can't be the path of an exported file")
    return name


def _parsed(fields: Mapping[str, object]) -> ExportedFile:
    sha256, size, mtime, unlisted = (
        fields[key] for key in ("sha256", "size_bytes", "mtime_ns", "unlisted_at")
    )
    if (
        not isinstance(sha256, str | None)
        or not isinstance(size, int | None)
        or not isinstance(mtime, int | None)
        or not isinstance(unlisted, str | None)
    ):
        raise TypeError("a field has another type")
    return ExportedFile(
        sha256=sha256,
        size_bytes=size,
        mtime_ns=mtime,
        unlisted_at=datetime.fromisoformat(unlisted).astimezone(UTC) if unlisted else None,
    )
