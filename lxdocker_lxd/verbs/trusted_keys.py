"""Whom a command is told to believe."""

from pathlib import Path

from lxdocker_lxd.clients.chain import Trust
from lxdocker_lxd.errors import UsageError


def trust(keys: str | None, authorities: str | None) -> Trust:
    """Return whom to believe; raise UsageError without keys."""
    if not keys:
        raise UsageError(
            "--trusted-keys FILE is missing: without keys nothing from there counts",
            hint="get the public keys from who runs the server, and not from the server alone",
        )
    return Trust(keys=Path(keys), authorities=Path(authorities) if authorities else None)
