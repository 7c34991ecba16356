"""``lxdocker-lxd resolve``: one image name as Docker, the kubelet, LXE and lxc read it."""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

from lxdocker_lxd.console import Console, document, table
from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.interpretation import INVALID, Reading, interpret
from lxdocker_lxd.spec_yaml import SpecError, compose


def run(options: argparse.Namespace, console: Console) -> int:
    """Print every reader's view; a name Docker can't read is also an error."""
    remotes = tuple(options.remote) or _known_remotes()
    readings = interpret(options.reference, remotes=remotes)
    console.result(as_json(readings) if options.format == "json" else as_table(readings))
    docker = readings[0]
    if docker.meaning == INVALID:
        raise UsageError(
            f"resolve {options.reference[:160]!r}: {docker.note or 'not an image name'}",
            hint="a name looks like nginx:1.27 or ghcr.io/owner/name@sha256:…",
        )
    return 0


def as_table(readings: tuple[Reading, ...]) -> str:
    """Return one row a reader."""
    rows = [(reading.reader, reading.meaning, reading.note) for reading in readings]
    return table(("read by", "as", "note"), rows)


def as_json(readings: tuple[Reading, ...]) -> str:
    """Return the views by key."""
    return document(
        {
            "readings": [
                {"key": reading.key, "meaning": reading.meaning, "note": reading.note}
                for reading in readings
            ]
        }
    )


def _known_remotes() -> tuple[str, ...] | None:
    """Return the remotes of lxc's own configuration, or None when there is none to read."""
    for file in _lxc_files():
        try:
            found = compose(file.read_text(encoding="utf-8"), file=str(file)).mapping()
            return tuple(found["remotes"].mapping())
        except (OSError, UnicodeDecodeError, SpecError, KeyError):
            continue
    return None


def _lxc_files() -> Iterator[Path]:
    """Yield where lxc of Debian and lxc of the snap keep their configuration."""
    if named := os.environ.get("LXD_CONF"):
        yield Path(named) / "config.yml"
    home = Path(os.environ.get("HOME", "/"))
    yield home / ".config" / "lxc" / "config.yml"
    yield home / "snap" / "lxd" / "common" / "config" / "config.yml"
