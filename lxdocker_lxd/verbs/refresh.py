"""``lxdocker-lxd refresh``: all imports once more, their outcomes into a table or JSON."""

import argparse
from datetime import UTC, datetime

from lxdocker_lxd.console import Console
from lxdocker_lxd.importing.import_directory import ImportDirectory
from lxdocker_lxd.importing.refresh import Refresh
from lxdocker_lxd.lxd.daemon import open_lxd
from lxdocker_lxd.verbs.import_image import render
from lxdocker_lxd.verbs.import_surroundings import convert_options, lxc_directory
from lxdocker_lxd.verbs.progress_listener import progress_listener
from lxdocker_lxd.verbs.surroundings import load_settings


def run(options: argparse.Namespace, console: Console) -> int:
    """Refresh, print what came of each import; 1 when some failed, their code when all did."""
    settings = load_settings(options, console)
    lxc = lxc_directory()
    with progress_listener(settings.progress, console) as progress:
        refresh = Refresh(
            convert_options(settings),
            ImportDirectory(settings.imports),
            lambda remote: open_lxd(lxc.place(remote)),
            progress,
            now=lambda: datetime.now(UTC),
        )
        outcomes = refresh.run(dry_run=options.dry_run)
    console.result(render(outcomes, options.format))
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    for outcome in outcomes:
        if outcome.error is not None:
            console.note(f"error: {outcome.name}: {outcome.error.message}")
            if outcome.error.hint:
                console.note(f"hint: {outcome.error.hint}")
    codes = {error.exit_code for error in errors}
    return codes.pop() if len(errors) == len(outcomes) and len(codes) == 1 else int(bool(codes))
