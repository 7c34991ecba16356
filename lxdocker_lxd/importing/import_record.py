"""What was imported where, so that ``refresh`` can do it again: records, and the text they live in.

Pure. The text is JSON, one list, in the order in which imports were first made.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal, cast, get_args

from lxdocker_lxd.errors import VerificationError

FORMAT = 1
_NAME = re.compile(r"[^./\0][^/\0]{0,250}")
Kind = Literal["source", "spec", "catalogue"]


class ImportsError(VerificationError):
    """The file of imports isn't one, or is of a format this program doesn't know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRecord:
    """One image in one project of one LXD.

    ``kind`` tells who describes it: an import's own specification, one of the user's, or (for an
    image that is only in the catalogue) nobody. ``name`` is the product's name, ``source`` what was
    asked for. ``remote`` is empty for this machine's LXD. ``fingerprint`` is what was sent last.
    """

    kind: Kind
    name: str
    source: str
    aliases: tuple[str, ...]
    architecture: str
    fingerprint: str
    remote: str = ""
    project: str = "default"
    public: bool = False
    lxe: bool = False
    keep_old: bool = False

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """What makes two records the same import."""
        return (self.kind, self.name, self.architecture, self.remote, self.project)


def with_record(records: Sequence[ImportRecord], new: ImportRecord) -> tuple[ImportRecord, ...]:
    """Return the records with ``new`` in place of the one it repeats, whose aliases it keeps."""
    found = next((old for old in records if old.key == new.key), None)
    if found is None:
        return (*records, new)
    aliases = tuple(dict.fromkeys((*found.aliases, *new.aliases)))
    merged = replace(new, aliases=aliases, lxe=new.lxe or found.lxe)
    return tuple(merged if old is found else old for old in records)


def render(records: Sequence[ImportRecord]) -> bytes:
    """Return the file's content; :func:`parse` is the exact inverse."""
    document = {"format": FORMAT, "imports": [asdict(record) for record in records]}
    return json.dumps(document, indent=1, ensure_ascii=True).encode() + b"\n"


def parse(content: bytes, *, file: str) -> tuple[ImportRecord, ...]:
    """Return the records in the file's content; raise ImportsError."""
    try:
        document = json.loads(content)
        if document["format"] != FORMAT:
            raise ImportsError(
                f"{file}: format {document['format']!r} is not known",
                hint="it was written by a newer lxdocker-lxd: update this one",
            )
        return tuple(_record(fields) for fields in document["imports"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ImportsError(
            f"{file} is not a list of imports: {type(error).__name__}: {error}",
            hint="move the file away and import the images again",
        ) from error


def _record(fields: dict[str, object]) -> ImportRecord:
    texts = ("kind", "name", "source", "architecture", "fingerprint", "remote", "project")
    values = {key: fields[key] for key in texts}
    aliases = fields["aliases"]
    flags = {key: fields[key] for key in ("public", "lxe", "keep_old")}
    if not isinstance(aliases, list) or not all(isinstance(name, str) for name in aliases):
        raise ValueError("aliases is no list of texts")
    if not all(isinstance(value, str) for value in values.values()):
        raise ValueError("a field is no text")
    if not _NAME.fullmatch(str(values["name"])):
        raise ValueError("a name can't be that of a specification's file")
    if values["kind"] not in get_args(Kind) or not all(type(one) is bool for one in flags.values()):
        raise ValueError("a field has no value that it may have")
    return ImportRecord(aliases=tuple(aliases), **cast("dict[str, str]", values), **flags)  # type: ignore[arg-type]  # checked above
