"""``lxdocker-lxd export``: the served tree as files, and what that changed."""

import argparse
import socket
from datetime import UTC, datetime
from pathlib import Path

from lxdocker_lxd.catalogue_directory import CatalogueDirectory
from lxdocker_lxd.console import Console, document, human_size, table
from lxdocker_lxd.errors import NotFoundError
from lxdocker_lxd.serve import contents
from lxdocker_lxd.serve.export import ExportReport, export
from lxdocker_lxd.serve.export_plan import STATE_DIRECTORY
from lxdocker_lxd.serve.signature_directory import SignatureDirectory
from lxdocker_lxd.serve.signing import SignaturesInMemory, gpg_signer
from lxdocker_lxd.serve.site import SiteContext, SiteSettings
from lxdocker_lxd.settings import Settings
from lxdocker_lxd.verbs.progress_listener import progress_listener
from lxdocker_lxd.verbs.surroundings import load_settings


def run(options: argparse.Namespace, console: Console) -> int:
    """Write the tree, or with ``--dry-run`` say what would be written."""
    settings = load_settings(options)
    source = CatalogueDirectory(settings.lxdimages)
    if not source.document.exists():
        raise NotFoundError(
            f"export: {source.document} does not exist",
            hint="name the directory with --lxdimages, or run lxdocker-lxd convert first",
        )
    directory = Path(options.directory)
    # Kept, so that unchanged content isn't signed anew.
    kept = SignatureDirectory(directory, STATE_DIRECTORY, "signatures")
    now = datetime.now(UTC)
    with progress_listener(settings.progress, console) as progress:
        report = export(
            contents.site(_context(settings, source, kept, now, dry_run=options.dry_run)),
            source,
            directory,
            at=now,
            progress=progress,
            dry_run=options.dry_run,
        )
    if not options.dry_run:
        kept.forget_unused()
    show = as_json if options.format == "json" else as_table
    console.result(show(report, dry_run=options.dry_run))
    return 0


def _context(
    settings: Settings,
    source: CatalogueDirectory,
    kept: SignatureDirectory,
    now: datetime,
    *,
    dry_run: bool,
) -> SiteContext:
    serve = settings.serve
    signer = None
    if serve.gpg_key is not None:
        # Nothing is written by a dry run, no signature either.
        signatures = SignaturesInMemory(before=kept) if dry_run else kept
        signer = gpg_signer(serve.gpg_key, settings.lxdimages, signatures)
    return SiteContext(
        catalogue=source.read(),
        settings=SiteSettings(
            base_url=serve.url or f"https://{socket.gethostname()}",
            remote_name=serve.remote_name,
            publish_delay_seconds=serve.publish_delay,
        ),
        at=now,
        signer=signer,
    )


def as_table(report: ExportReport, *, dry_run: bool) -> str:
    """Return what changed for people, and a last line with the counts."""
    rows = [
        (
            change.action,
            change.path,
            human_size(change.size_bytes),
            f"{change.until:%Y-%m-%d %H:%M}" if change.until else "",
        )
        for change in report.changes
    ]
    would = "would be " if dry_run else ""
    counts = (
        f"{report.count('written')} files {would}written, {report.unchanged} unchanged,"
        f" {report.count('removed')} {would}removed, {report.count('waiting')} kept for a day\n"
    )
    return (table(("action", "file", "size", "until"), rows) + counts) if rows else counts


def as_json(report: ExportReport, *, dry_run: bool) -> str:
    """Return what changed for programs."""
    return document(
        {
            "dry_run": dry_run,
            "unchanged": report.unchanged,
            "changes": [
                {
                    "action": change.action,
                    "path": change.path,
                    "size_bytes": change.size_bytes,
                    "until": change.until.isoformat() if change.until else None,
                }
                for change in report.changes
            ],
        }
    )
