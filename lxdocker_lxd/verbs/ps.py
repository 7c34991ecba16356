"""``lxdocker-lxd ps``: instances made from our images, as a table or JSON."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType

from lxdocker_lxd.console import Console, document, table
from lxdocker_lxd.launching.listing import Listed, listed
from lxdocker_lxd.update.liveness import Key
from lxdocker_lxd.update.liveness_monitor import STATE_DIRECTORY, read_liveness
from lxdocker_lxd.verbs.import_surroundings import destination, lxc_directory
from lxdocker_lxd.verbs.standing import Standings, health_now

NOTHING: Mapping[Key, int] = MappingProxyType({})


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
    restarts = {key: len(one.restarts) for key, one in read_liveness(STATE_DIRECTORY).items()}
    console.result(
        as_json(found, restarts) if options.format == "json" else as_table(found, restarts)
    )
    return 0


def as_table(found: Sequence[Listed], restarts: Mapping[Key, int] = NOTHING) -> str:
    """Return one row an instance; ``restarts`` are those that its health made necessary."""
    rows = [
        (
            one.name,
            one.project,
            one.status if one.exit_code is None else f"{one.status} ({one.exit_code})",
            one.image,
            one.version,
            _health(one.health, restarts.get((one.project, one.name), 0)),
            one.update,
            one.address,
        )
        for one in found
    ]
    head = ("name", "project", "status", "image", "version", "health", "update", "address")
    return table(head, rows)


def _health(health: str, restarts: int) -> str:
    return f"{health}, restarted {restarts}x" if restarts else health


def as_json(found: Sequence[Listed], restarts: Mapping[Key, int] = NOTHING) -> str:
    """Return every field of each; what isn't known is null."""
    instances = [
        {key: None if value == "" else value for key, value in asdict(one).items()}
        | {"health_restarts": restarts.get((one.project, one.name), 0)}
        for one in found
    ]
    return document({"instances": instances})
