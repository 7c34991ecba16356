"""The site as files, for any web server: the same tree that ``serve`` answers from.

Guarantees. Image files are in place, durable and checked against their digest, before a document that
names them; documents are all written before the first of them is put in place, index documents last.
So a run that is killed at any moment leaves a tree in which everything listed is there, and
the next run finishes it. What stopped belonging to the tree stays for GRACE, because clients keep
listings; then it is removed. (A detached signature and its document are two files and can't change at
the same instant: between the two the signature is missing, never wrong.)
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from zlib import MAX_WBITS, compressobj

from lxdocker_lxd.catalogue import GRACE
from lxdocker_lxd.catalogue_directory import CatalogueDirectory
from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.progress import BytesDone, Notice, Progress, StageStarted
from lxdocker_lxd.serve.export_directory import ExportDirectory
from lxdocker_lxd.serve.export_plan import DocumentGroup, ExportPlan, PlannedFile, companions, plan
from lxdocker_lxd.serve.site import Site

_GZIP_LEVEL = 9
_GZIP_FORMAT = 16 + MAX_WBITS


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportChange:
    """One file that was (or would be) ``written``, ``removed``, or stays until ``until``."""

    action: str
    path: str
    size_bytes: int
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What a run changed; ``unchanged`` counts the files that were right already."""

    changes: tuple[ExportChange, ...]
    unchanged: int

    def count(self, action: str) -> int:
        """Return how many files have ``action``."""
        return sum(change.action == action for change in self.changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ready:
    """A file that waits, complete, for its name."""

    name: str
    temporary: str | None
    sha256: str
    size_bytes: int


def export(
    site: Site,
    source: CatalogueDirectory,
    directory: Path,
    *,
    at: datetime,
    progress: Progress,
    dry_run: bool = False,
) -> ExportReport:
    """Make ``directory`` hold ``site``; with ``dry_run`` only say what that would change.

    Raises ForeignFileError (a place or file that isn't an export's), UnsafeDirectoryError (a place that
    others can change), UsageError (inside the
    catalogue's directory), SourceDamagedError, UnsafePathError, StorageError and what rendering
    raises. The tree is valid afterwards too.
    """
    _expect_apart(source.directory, directory)
    target = ExportDirectory(directory)
    planned = plan(site.entries())
    if dry_run:
        with target.reading():
            return _Run(target, source, progress, at, dry_run=True).done(planned)

    def waiting(holder: str) -> None:
        text = f"waiting for another export: {holder}"
        progress.emit(Notice(image="export", text=text))

    with target.writing(waiting):
        return _Run(target, source, progress, at, dry_run=False).done(planned)


def _expect_apart(source: Path, directory: Path) -> None:
    inner, outer = directory.resolve(), source.resolve()
    if inner == outer or outer in inner.parents or inner in outer.parents:
        raise UsageError(
            f"export to {directory}: it and the catalogue's directory {source} contain each other",
            hint="name a directory outside of it",
        )


class _Run:
    """One run, from a plan to a report."""

    def __init__(
        self,
        target: ExportDirectory,
        source: CatalogueDirectory,
        progress: Progress,
        at: datetime,
        *,
        dry_run: bool,
    ) -> None:
        self._target = target
        self._source = source
        self._progress = progress
        self._at = at
        self._dry_run = dry_run
        self._changes: list[ExportChange] = []
        self._unchanged = 0

    def done(self, planned: ExportPlan) -> ExportReport:
        for name in sorted(planned.paths):
            self._target.expect_ours(name)
        if not self._dry_run:
            self._target.intend(iter(sorted(planned.paths)))
        self._files(planned.files)
        self._documents(planned.groups)
        self._leftovers(planned.paths)
        if not self._dry_run:
            self._target.settle()
            self._target.save()
        return ExportReport(changes=tuple(self._changes), unchanged=self._unchanged)

    def _stage(self, stage: str) -> None:
        self._progress.emit(StageStarted(image="export", stage=stage))

    def _files(self, files: tuple[PlannedFile, ...]) -> None:
        self._stage("files")
        total_bytes = sum(one.file.size_bytes for one in files)
        done_bytes = 0
        for one in files:
            self._file(one)
            done_bytes += one.file.size_bytes
            self._progress.emit(
                BytesDone(
                    image="export",
                    stage="files",
                    digest=None,
                    done_bytes=done_bytes,
                    total_bytes=total_bytes,
                )
            )
        if not self._dry_run:
            self._target.settle()

    def _file(self, one: PlannedFile) -> None:
        """Make every path of a published file hold it: a copy, and names for the copy."""
        sha256, size_bytes = one.file.sha256, one.file.size_bytes
        held = [name for name in one.paths if self._target.holds(name, sha256, size_bytes)]
        self._unchanged += len(held)
        for name in (name for name in one.paths if name not in held):
            if not self._dry_run:
                temporary = self._target.linked(held[0]) if held else None
                if temporary is None:
                    source = self._source.path(one.file)
                    temporary = self._target.copied(source, sha256, size_bytes)
                self._target.place(temporary, name, sha256)
                held.append(name)
            self._changes.append(ExportChange(action="written", path=name, size_bytes=size_bytes))

    def _documents(self, groups: tuple[DocumentGroup, ...]) -> None:
        self._stage("documents")
        ready = [self._prepared(group) for group in groups]
        for index, (group, files) in enumerate(zip(groups, ready, strict=True)):
            if not self._dry_run:
                if index and group.rank != groups[index - 1].rank:
                    self._target.settle()
                self._put(files)
            self._changes += [
                ExportChange(action="written", path=one.name, size_bytes=one.size_bytes)
                for one in files
            ]

    def _prepared(self, group: DocumentGroup) -> list[_Ready]:
        """Return the files of a group that must change, written to temporary ones."""
        contents: list[tuple[str, bytes]] = []
        for document in group.documents:
            content = document.render()
            contents.append((document.path, content))
            if document.twin is not None:
                contents.append((document.twin, _gzip(content)))
        ready: list[_Ready] = []
        for name, content in contents:
            sha256 = hashlib.sha256(content).hexdigest()
            # A companion of a changed document is taken away first, so it has to come back.
            if not any(name in companions(one.name) for one in ready) and self._target.holds(
                name, sha256, len(content)
            ):
                self._unchanged += 1
                continue
            temporary = None if self._dry_run else self._target.staged(content)
            ready.append(
                _Ready(name=name, temporary=temporary, sha256=sha256, size_bytes=len(content))
            )
        return ready

    def _put(self, files: list[_Ready]) -> None:
        for one in files:
            for companion in companions(one.name):
                if companion in self._target.files:
                    self._target.remove(companion)
            if one.temporary is not None:
                self._target.place(one.temporary, one.name, one.sha256)

    def _leftovers(self, wanted: frozenset[str]) -> None:
        """Remove what left the tree long ago; note when the others left it."""
        for name, file in sorted(self._target.files.items()):
            if name in wanted:
                if file.unlisted_at is not None:
                    self._target.files[name] = replace(file, unlisted_at=None)
                continue
            # A clock that was set back must not keep a file for ever.
            left_at = min(file.unlisted_at or self._at, self._at)
            size_bytes = file.size_bytes or 0
            if self._at - left_at < GRACE:
                self._target.files[name] = replace(file, unlisted_at=left_at)
                until = left_at + GRACE
                self._changes.append(
                    ExportChange(action="waiting", path=name, size_bytes=size_bytes, until=until)
                )
            elif self._is_ours(name):
                self._changes.append(
                    ExportChange(action="removed", path=name, size_bytes=size_bytes)
                )
                if not self._dry_run:
                    self._target.remove(name)

    def _is_ours(self, name: str) -> bool:
        """Whether a file still is what the export made; one that was changed is let go."""
        file = self._target.files[name]
        if file.mtime_ns is None or self._target.is_unchanged(name):
            return True
        if self._target.is_there(name):
            text = "changed by somebody else since it was exported: it stays"
            self._progress.emit(Notice(image=name, text=text))
        del self._target.files[name]
        return False


def _gzip(content: bytes) -> bytes:
    """Return ``content`` in gzip form; the same bytes always, without name and time."""
    compressor = compressobj(_GZIP_LEVEL, wbits=_GZIP_FORMAT)
    return compressor.compress(content) + compressor.flush()
