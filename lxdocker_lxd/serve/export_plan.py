"""What an export writes, and in which order. Pure: entries in, groups of files out.

Files of images come first and index documents last, so that at no moment a document names a file that
isn't there. What belongs to a document (``.gz`` twin, ``.gpg``, ``.asc``) is in its group: it must never
outlive its text.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from lxdocker_lxd.catalogue import PublishedFile
from lxdocker_lxd.errors import VerificationError
from lxdocker_lxd.serve.entry import Document, Entry, FileEntry

STATE_DIRECTORY = ".lxdocker-export"
"""Where an export keeps its own records, in the exported directory."""

RECORD_PATH = f"{STATE_DIRECTORY}/record.json"
PAGE = "index.html"
TWIN_SUFFIX = ".gz"
SIGNATURE_SUFFIXES = (".gpg", ".asc")

_MOST_NAME_BYTES = 255
_COMPRESSED = re.compile(r"(text/|application/(json|javascript|atom\+xml)|image/svg\+xml).*")
_STREAMS = re.compile(r"(.*/)?streams/v1/[^/]+")
_INDEX = re.compile(r"(.*/)?(streams/v1/index\.s?json|meta/1\.0/index-[^/]+|1\.0/index\.json)")


class UnsafePathError(VerificationError):
    """A path of the site that can't be a path of a file."""


class Rank(IntEnum):
    """The order in which documents are put in place."""

    OTHER = 0
    PRODUCTS = 1
    PAGE = 2
    INDEX = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedDocument:
    """One document's path below the export and its text; ``twin`` is the path of a gzip copy."""

    path: str
    render: Callable[[], bytes]
    twin: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentGroup:
    """A document (first) and its signatures."""

    rank: Rank
    documents: tuple[PlannedDocument, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """Every file of the group, twins included."""
        twins = (document.twin for document in self.documents)
        return (*(document.path for document in self.documents), *filter(None, twins))


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFile:
    """A published file and every path under which the export has it."""

    file: PublishedFile
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportPlan:
    """Files in any order, then groups in this order."""

    files: tuple[PlannedFile, ...]
    groups: tuple[DocumentGroup, ...]

    @property
    def paths(self) -> frozenset[str]:
        """Every path of the export."""
        return frozenset(path for file in self.files for path in file.paths) | frozenset(
            path for group in self.groups for path in group.paths
        )


def plan(entries: Iterable[Entry]) -> ExportPlan:
    """Return what to write for ``entries``; raise UnsafePathError."""
    files: dict[str, list[str]] = {}
    published: dict[str, PublishedFile] = {}
    documents: dict[str, Document] = {}
    for entry in entries:
        path = _file_path(entry)
        if isinstance(entry, FileEntry):
            published[entry.file.sha256] = entry.file
            files.setdefault(entry.file.sha256, []).append(path)
        else:
            documents[path] = entry
    return ExportPlan(
        files=tuple(
            PlannedFile(file=published[sha256], paths=tuple(sorted(paths)))
            for sha256, paths in sorted(files.items())
        ),
        groups=tuple(sorted(_groups(documents), key=lambda group: (group.rank, group.paths))),
    )


def _file_path(entry: Entry) -> str:
    """Return where an entry's file is; a page whose path is a directory's becomes its index."""
    path = entry.path
    is_page = isinstance(entry, Document) and entry.media_type.startswith("text/html")
    if is_page and not path.endswith(".html"):
        path = f"{path.rstrip('/')}/{PAGE}".lstrip("/")
    if not is_tree_path(path):
        raise UnsafePathError(f"export {path[:80]!r}: it can't be the path of a file")
    return path


def is_tree_path(path: str) -> bool:
    """Whether it can be the path of a file below the export, and none of its own records."""
    parts = path.split("/")
    return (
        "\0" not in path
        and parts[0] != STATE_DIRECTORY
        and not any(
            part in ("", ".", "..") or len(_bytes(part)) > _MOST_NAME_BYTES for part in parts
        )
    )


def _bytes(text: str) -> bytes:
    # Any text is measured: a lone surrogate is no reason to fail.
    return text.encode("utf-8", "surrogatepass")


def _groups(documents: dict[str, Document]) -> list[DocumentGroup]:
    groups = []
    for path, document in documents.items():
        if _signed(path, documents) is not None:
            continue
        members = [path, *(f"{path}{suffix}" for suffix in SIGNATURE_SUFFIXES)]
        groups.append(
            DocumentGroup(
                rank=_rank(path, document),
                documents=tuple(
                    _planned(member, documents) for member in members if member in documents
                ),
            )
        )
    return groups


def _signed(path: str, documents: dict[str, Document]) -> str | None:
    """Return the document that ``path`` is the signature of, if it is one."""
    for suffix in SIGNATURE_SUFFIXES:
        if path.endswith(suffix) and path.removesuffix(suffix) in documents:
            return path.removesuffix(suffix)
    return None


def _planned(path: str, documents: dict[str, Document]) -> PlannedDocument:
    document = documents[path]
    twin = f"{path}{TWIN_SUFFIX}"
    wanted = _COMPRESSED.fullmatch(document.media_type) and twin not in documents
    return PlannedDocument(path=path, render=document.render, twin=twin if wanted else None)


def _rank(path: str, document: Document) -> Rank:
    if _INDEX.fullmatch(path):
        return Rank.INDEX
    if _STREAMS.fullmatch(path):
        return Rank.PRODUCTS
    return Rank.PAGE if document.media_type.startswith("text/html") else Rank.OTHER


def companions(path: str) -> Sequence[str]:
    """Return the paths whose content follows from ``path``'s, were they made or not."""
    return [f"{path}{suffix}" for suffix in (TWIN_SUFFIX, *SIGNATURE_SUFFIXES)]
