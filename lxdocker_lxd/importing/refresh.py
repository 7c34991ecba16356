"""The use case ``refresh``: every import looked at again, converted where it changed, sent, named.

An image that a user deleted in LXD, with all its names, is not brought back: its import is
forgotten. One image's failure stops nothing else.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from lxdocker_lxd.convert.pipeline import convert
from lxdocker_lxd.convert.run import ConvertOptions, RunReport
from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.importing.conversion import OnTheWay, Published, outcome_of, published
from lxdocker_lxd.importing.image_import import ImportOutcome, Wishes, word_for
from lxdocker_lxd.importing.import_directory import ImportDirectory
from lxdocker_lxd.importing.import_plan import Clock, Planner
from lxdocker_lxd.importing.import_record import ImportRecord
from lxdocker_lxd.importing.naming import lxe_aliases
from lxdocker_lxd.importing.placing import Shelf
from lxdocker_lxd.importing.routes import Routes
from lxdocker_lxd.importing.sending import send
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.progress import ImageFinished, Progress
from lxdocker_lxd.reference import parse_source

Connect = Callable[[str], Lxd]


class Refresh:
    """One run. ``connect`` opens the LXD that a remote's name stands for."""

    def __init__(
        self,
        options: ConvertOptions,
        directory: ImportDirectory,
        connect: Connect,
        progress: Progress,
        *,
        now: Clock,
    ) -> None:
        self._options = options
        self._directory = directory
        self._connect = connect
        self._progress = progress
        self._now = now
        self._connected: dict[str, Lxd | LxdockerError] = {}

    def run(self, *, dry_run: bool = False) -> tuple[ImportOutcome, ...]:
        """Refresh every import and return what came of each; raises ImportsError, StorageError."""
        records = self._directory.records()
        kept = [record for record in records if not self._forgotten(record)]
        gone = [record for record in records if record not in kept]
        if gone and not dry_run:
            self._forget(gone, kept)
        outcomes = [_bare(record, "forgotten") for record in gone]
        with Routes(kept, self._lxd) as routes:
            reports = self._converted(kept, routes, dry_run=dry_run)
            outcomes += [
                self._refreshed(record, reports, routes, dry_run=dry_run) for record in kept
            ]
        return tuple(outcomes)

    # ---- what is still wanted

    def _lxd(self, remote: str) -> Lxd:
        if remote not in self._connected:
            try:
                self._connected[remote] = self._connect(remote)
            except LxdockerError as error:
                self._connected[remote] = error
        found = self._connected[remote]
        if isinstance(found, LxdockerError):
            raise found
        return found

    def _forgotten(self, record: ImportRecord) -> bool:
        """Whether LXD has neither the image nor one of its names any more."""
        try:
            lxd = self._lxd(record.remote)
            if Shelf(lxd, record.project).image(record.fingerprint) is not None:
                return False
            named = {alias.name for alias in lxd.aliases.list(project=record.project)}
        except LxdockerError:
            # Not known: it will fail again below, and be told there.
            return False
        return not named & set(record.aliases)

    def _forget(self, gone: Sequence[ImportRecord], kept: Sequence[ImportRecord]) -> None:
        keys = {record.key for record in gone}
        self._directory.change(
            lambda records: tuple(record for record in records if record.key not in keys)
        )
        used = {record.name for record in kept if record.kind == "source"}
        for record in gone:
            if record.kind == "source" and record.name not in used:
                self._directory.remove_spec(record.name)

    # ---- converting

    def _converted(
        self, records: Sequence[ImportRecord], routes: Routes, *, dry_run: bool
    ) -> dict[str, RunReport | LxdockerError]:
        """Convert what was imported, once for each kind of specification."""
        reports: dict[str, RunReport | LxdockerError] = {}
        planner = Planner(self._options, self._directory, "")
        own = {record.name for record in records if record.kind == "source"}
        users = {record.name for record in records if record.kind == "spec"}
        if own:
            # Without names the run also cleans up after imports that were forgotten.
            reports["source"] = self._convert(planner.own_options(), routes, dry_run=dry_run)
        for name in sorted(users):
            options = replace(self._options, names=(name,))
            reports[f"spec {name}"] = self._convert(options, None, dry_run=dry_run)
        return reports

    def _convert(
        self, options: ConvertOptions, routes: Routes | None, *, dry_run: bool
    ) -> RunReport | LxdockerError:
        try:
            wanted = replace(options, dry_run=dry_run)
            return convert(wanted, OnTheWay(self._progress), now=self._now, delivery=routes)
        except LxdockerError as error:
            return error

    # ---- sending

    def _refreshed(
        self,
        record: ImportRecord,
        reports: dict[str, RunReport | LxdockerError],
        routes: Routes,
        *,
        dry_run: bool,
    ) -> ImportOutcome:
        started = time.monotonic()
        try:
            outcome = self._brought(record, reports, routes, dry_run=dry_run)
        except LxdockerError as error:
            outcome = replace(_bare(record, "failed"), error=error)
        detail = outcome.error.message if outcome.error else ""
        self._progress.emit(
            ImageFinished(image=record.name, outcome=outcome.outcome, detail=detail)
        )
        return replace(outcome, seconds=time.monotonic() - started)

    def _brought(
        self,
        record: ImportRecord,
        reports: dict[str, RunReport | LxdockerError],
        routes: Routes,
        *,
        dry_run: bool,
    ) -> ImportOutcome:
        planner = Planner(self._options, self._directory, "")
        options = planner.own_options() if record.kind == "source" else self._options
        key = f"spec {record.name}" if record.kind == "spec" else record.kind
        report = reports.get(key)
        if isinstance(report, LxdockerError):
            raise report
        building = False
        if report is not None:
            found = outcome_of(report, record.name, record.architecture)
            if found.error is not None:
                raise found.error
            building = found.outcome == "would-build"
        version = published(options.lxdimages, record.name, record.architecture)
        lxd = self._lxd(record.remote)
        if dry_run:
            there = Shelf(lxd, record.project).image(version.version.fingerprint) is not None
            return _bare(record, "would-keep" if there and not building else "would-import")
        return self._placed(record, version, lxd, routes)

    def _placed(
        self, record: ImportRecord, found: Published, lxd: Lxd, routes: Routes
    ) -> ImportOutcome:
        version = found.version
        extra: tuple[str, ...] = ()
        if record.lxe:
            digests = (version.source.top_digest, version.source.manifest_digest)
            extra = lxe_aliases(parse_source(version.source.reference), digests)
        wishes = Wishes(public=record.public, delete_old=False if record.keep_old else None)
        versions = {one.fingerprint for one in found.product.versions}
        shelf = Shelf(lxd, record.project)
        ours = shelf.without_source(versions | {record.fingerprint})
        naming = replace(wishes.naming(record.aliases, ours), extra=extra)

        def fetch() -> str:
            return send(
                lxd,
                found.directory,
                found.product,
                version,
                project=record.project,
                public=record.public,
                progress=self._progress,
            )

        placed = shelf.place(
            fetch,
            naming,
            fingerprint=version.fingerprint,
            public=record.public,
            brought=routes.hand_over(record, version.fingerprint),
        )
        new = replace(record, fingerprint=placed.fingerprint)
        self._directory.change(
            lambda records: tuple(new if old.key == new.key else old for old in records)
        )
        return replace(
            _bare(record, word_for(placed)),
            fingerprint=placed.fingerprint,
            serial=version.serial,
            size_bytes=version.size_bytes,
            aliases=placed.aliases,
            moved=placed.moved,
            deleted=placed.deleted,
        )


def _bare(record: ImportRecord, outcome: str) -> ImportOutcome:
    return ImportOutcome(
        source=record.source,
        name=record.name,
        outcome=outcome,
        project=record.project,
        remote=record.remote,
        fingerprint=record.fingerprint,
        aliases=record.aliases,
    )
