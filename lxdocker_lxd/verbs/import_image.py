"""``lxdocker-lxd import``: one source into LXD, its outcome into a table or JSON."""

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime

from lxdocker_lxd.console import Console, document, human_size, table
from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.importing.chain_import import ChainImporter, ChainSource
from lxdocker_lxd.importing.image_import import Destination, Importer, ImportOutcome, Wishes
from lxdocker_lxd.importing.import_directory import ImportDirectory
from lxdocker_lxd.importing.remote_look import foreseen
from lxdocker_lxd.importing.source_choice import RemoteChoice
from lxdocker_lxd.settings import Settings
from lxdocker_lxd.spec_values import alias
from lxdocker_lxd.verbs.chain_surroundings import chain_source, scratch_directory
from lxdocker_lxd.verbs.import_surroundings import (
    Certificates,
    chosen,
    convert_options,
    destination,
    from_server,
    lxc_directory,
)
from lxdocker_lxd.verbs.progress_listener import progress_listener
from lxdocker_lxd.verbs.surroundings import load_settings

_SHORT_DIGITS = 12


def run(options: argparse.Namespace, console: Console) -> int:
    """Import, print what came of it, return the exit code."""
    settings = load_settings(options, console)
    lxc = lxc_directory()
    if options.ca and not options.server:
        raise UsageError("--ca goes with --from", hint="name the server with --from")
    signed = chain_source(options)
    if signed is not None:
        outcome = _signed_import(options, signed, settings, destination(options, lxc), console)
        console.result(render([outcome], options.format))
        return 0
    choice = (
        from_server(options.server, options.source, lxc)
        if options.server
        else chosen(options.source, settings, lxc)
    )
    place = destination(options, lxc)
    wishes = _wishes(options)
    certificates = Certificates(lxc, options.ca)
    with progress_listener(settings.progress, console) as progress:
        importer = Importer(
            convert_options(settings),
            ImportDirectory(settings.imports),
            place,
            progress,
            now=lambda: datetime.now(UTC),
            certificate=certificates,
        )
        outcome = importer.run(options.source, choice, wishes, dry_run=options.dry_run)
        if options.dry_run and isinstance(choice, RemoteChoice):
            outcome = foreseen(outcome, choice, place.lxd, certificates(choice.remote))
    console.result(render([outcome], options.format))
    return 0


def _wishes(options: argparse.Namespace) -> Wishes:
    return Wishes(
        aliases=tuple(_alias(text) for text in options.aliases),
        lxe=options.lxe,
        public=options.public,
        replace=options.replace,
        delete_old=None if options.old is None else options.old == "delete",
    )


def _alias(text: str) -> str:
    """Return an alias as ``lxc`` can name it; raise UsageError for another text."""
    hint = "a tag can follow a slash: nginx/1.25"
    if ":" in text:
        raise UsageError(f"--alias: {text!r} holds a colon, where a remote's name ends", hint=hint)
    try:
        return alias(text)
    except ValueError as error:
        raise UsageError(f"--alias: {error}", hint=hint) from error


def _signed_import(
    options: argparse.Namespace,
    source: ChainSource,
    settings: Settings,
    place: Destination,
    console: Console,
) -> ImportOutcome:
    with progress_listener(settings.progress, console) as progress:
        importer = ChainImporter(
            convert_options(settings),
            place,
            progress,
            now=lambda: datetime.now(UTC),
            scratch=scratch_directory(),
        )
        return importer.run(source, _wishes(options), dry_run=options.dry_run)


def render(outcomes: Sequence[ImportOutcome], form: str) -> str:
    """Return outcomes for people, or for programs."""
    return as_json(outcomes) if form == "json" else as_table(outcomes)


def as_table(outcomes: Sequence[ImportOutcome]) -> str:
    """Return one row an image."""
    rows = [
        (
            outcome.name,
            outcome.outcome,
            outcome.project,
            ", ".join(outcome.aliases),
            outcome.serial,
            outcome.fingerprint[:_SHORT_DIGITS],
            human_size(outcome.size_bytes) if outcome.size_bytes is not None else "",
        )
        for outcome in outcomes
    ]
    return table(("name", "outcome", "project", "aliases", "version", "fingerprint", "size"), rows)


def as_json(outcomes: Sequence[ImportOutcome]) -> str:
    """Return every field of each."""
    images = [
        {
            "source": outcome.source,
            "name": outcome.name,
            "outcome": outcome.outcome,
            "remote": outcome.remote or None,
            "project": outcome.project,
            "fingerprint": outcome.fingerprint or None,
            "serial": outcome.serial or None,
            "size_bytes": outcome.size_bytes,
            "aliases": list(outcome.aliases),
            "moved_aliases": list(outcome.moved),
            "deleted_images": list(outcome.deleted),
            "seconds": round(outcome.seconds, 3),
            "error": {
                "message": outcome.error.message,
                "hint": outcome.error.hint,
                "exit_code": outcome.error.exit_code,
            }
            if outcome.error
            else None,
        }
        for outcome in outcomes
    ]
    return document({"images": images})
