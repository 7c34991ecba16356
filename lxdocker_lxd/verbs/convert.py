"""``lxdocker-lxd convert``: options into one run, its report into a table or JSON."""

import argparse
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from lxdocker_lxd.console import Console, document, human_size, table
from lxdocker_lxd.convert.pipeline import convert
from lxdocker_lxd.convert.report_document import fields_of
from lxdocker_lxd.convert.run import ConvertOptions, RunReport
from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.platform import Platform
from lxdocker_lxd.verbs.progress_listener import progress_listener
from lxdocker_lxd.verbs.surroundings import load_settings, this_platform

_SHORT_DIGITS = 12


def run(options: argparse.Namespace, console: Console) -> int:
    """Convert, print the report, return the exit code."""
    settings = load_settings(options, console)
    wanted = ConvertOptions(
        specs=settings.specs,
        cache=settings.cache,
        lxdimages=settings.lxdimages,
        host=this_platform(),
        registries=settings.registries,
        image_format=settings.imageformat,
        jobs=settings.jobs,
        names=tuple(options.name),
        dry_run=options.dry_run,
        busybox=MappingProxyType(dict(map(_busybox, options.busybox))),
        versions=settings.versions,
        lxc=options.lxc,
        limits=settings.limits,
        settings_file=settings.file,
    )
    with progress_listener(settings.progress, console) as progress:
        report = convert(wanted, progress, now=lambda: datetime.now(UTC))
    console.result(as_json(report) if options.format == "json" else as_table(report))
    for outcome in report.outcomes:
        if outcome.error:
            where = "/".join(filter(None, (outcome.name, outcome.architecture)))
            console.note(f"error: {where}: {outcome.error.message}")
            if outcome.error.hint:
                console.note(f"hint: {outcome.error.hint}")
    return report.exit_code


def as_table(report: RunReport) -> str:
    """Return the report for people; reasons of failures are told apart from it."""
    rows = [
        (
            outcome.name,
            outcome.architecture,
            outcome.outcome,
            outcome.serial or "",
            (outcome.fingerprint or "")[:_SHORT_DIGITS],
            human_size(outcome.size_bytes) if outcome.size_bytes is not None else "",
            "" if outcome.error else outcome.reason,
        )
        for outcome in report.outcomes
    ]
    return table(("name", "arch", "outcome", "version", "fingerprint", "size", "reason"), rows)


def as_json(report: RunReport) -> str:
    """Return the report for programs."""
    return document(fields_of(report))


def _busybox(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not equals or not path:
        raise UsageError(
            f"--busybox {text!r}: expected ARCH=PATH",
            hint="for example --busybox arm64=/srv/busybox",
        )
    return Platform.parse(name).lxd_architecture, Path(path)
