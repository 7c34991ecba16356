"""``lxdocker-lxd ps``: instances made from our images, as a table or JSON."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict

from lxdocker_lxd.console import Console, document, table
from lxdocker_lxd.launching.listing import Listed, listed
from lxdocker_lxd.verbs.import_surroundings import destination, lxc_directory
from lxdocker_lxd.verbs.standing import Standings, health_now


def run(options: argparse.Namespace, console: Console) -> int:
    """List the instances."""
    place = destination(options, lxc_directory())
    standings = Standings(place.lxd)
    found = listed(
        place.lxd,
        project=None if options.all_projects else place.project,
        standing=lambda instance: str(standings.of(instance).state),
        health=lambda instance: health_now(place.lxd, instance),
    )
    console.result(as_json(found) if options.format == "json" else as_table(found))
    return 0


def as_table(found: Sequence[Listed]) -> str:
    """Return one row an instance."""
    rows = [
        (
            one.name,
            one.project,
            one.status if one.exit_code is None else f"{one.status} ({one.exit_code})",
            one.image,
            one.version,
            one.health,
            one.update,
            one.address,
        )
        for one in found
    ]
    head = ("name", "project", "status", "image", "version", "health", "update", "address")
    return table(head, rows)


def as_json(found: Sequence[Listed]) -> str:
    """Return every field of each; what isn't known is null."""
    instances = [
        {key: None if value == "" else value for key, value in asdict(one).items()} for one in found
    ]
    return document({"instances": instances})
