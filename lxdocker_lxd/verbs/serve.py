"""``lxdocker-lxd serve`` and ``imgserver``: the image server until it is told to stop."""

import argparse
import os
from datetime import UTC, datetime

from lxdocker_lxd.catalogue_directory import CatalogueDirectory
from lxdocker_lxd.console import Console, document
from lxdocker_lxd.serve import remotes
from lxdocker_lxd.serve.listening import addresses
from lxdocker_lxd.serve.server_log import ServerLog, is_journal
from lxdocker_lxd.serve.service import Process, base_url, serve, site_settings
from lxdocker_lxd.settings import Settings
from lxdocker_lxd.verbs.surroundings import load_settings

_STANDARD_ERROR = 2


def run(options: argparse.Namespace, console: Console) -> int:
    """Serve, or print the remotes for clients; return the exit code."""
    settings = load_settings(options)
    if options.print_remotes:
        console.result(_remotes(settings, as_json=options.format == "json"))
        return 0
    log = ServerLog(console.note, now=_now, journal=is_journal(os.environ, _STANDARD_ERROR))
    process = Process(
        environment=os.environ,
        process_id=os.getpid(),
        announce=console.result,
        log=log,
        now=_now,
    )
    serve(settings.lxdimages, settings.serve, process)
    return 0


def _remotes(settings: Settings, *, as_json: bool) -> str:
    """Return the remotes that a client's config.yml needs, without serving anything."""
    port = addresses(settings.serve.address)[0].port
    url = base_url(settings.serve, port=port, certificate=None)
    catalogue = CatalogueDirectory(settings.lxdimages).read()
    found = remotes.remotes(catalogue, site_settings(settings.serve, url))
    return document(remotes.records(found)) if as_json else remotes.config_text(found)


def _now() -> datetime:
    return datetime.now(UTC)
