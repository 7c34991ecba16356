"""``lxdocker-lxd launch``: options into wishes, the image into LXD if need be, its address out."""

import argparse
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from lxdocker_lxd.atomic import storage_error
from lxdocker_lxd.console import Console, document
from lxdocker_lxd.errors import NotFoundError, UsageError
from lxdocker_lxd.importing.image_import import Destination, Importer, Wishes
from lxdocker_lxd.importing.import_directory import ImportDirectory
from lxdocker_lxd.launching.environment import as_config, trimmed, variables
from lxdocker_lxd.launching.launch import Launch, Launched, LaunchWishes, check_name
from lxdocker_lxd.launching.ports import PublishedPort
from lxdocker_lxd.launching.volumes import VolumeWish
from lxdocker_lxd.progress import Progress
from lxdocker_lxd.settings import Settings
from lxdocker_lxd.verbs.import_surroundings import (
    Certificates,
    chosen,
    convert_options,
    destination,
    lxc_directory,
)
from lxdocker_lxd.verbs.progress_listener import progress_listener
from lxdocker_lxd.verbs.surroundings import load_settings

_MOST_FILE_CHARACTERS = 1 << 20
_FILE_HINT = "--env-file takes lines of NAME=VALUE"


def run(options: argparse.Namespace, console: Console) -> int:
    """Launch, print where the instance is reached, return the exit code."""
    settings = load_settings(options)
    wishes = _wishes(options)
    lxc = lxc_directory()
    place = destination(options, lxc)
    check_name(place.lxd, options.name, project=place.project)
    with progress_listener(settings.progress, console) as progress:
        alias = _alias(options, settings, place, progress)
        launch = Launch(place.lxd, options.name, wishes, progress, project=place.project)
        launched = launch.run(alias)
    for key in trimmed(wishes.config):
        console.note(f"note: {key} ends in blanks, which the instance doesn't see")
    console.result(as_json(launched) if options.format == "json" else as_text(launched))
    return 0


def _wishes(options: argparse.Namespace) -> LaunchWishes:
    files = [(name, _text(Path(name))) for name in options.env_files]
    environment = variables(files, options.env, os.environ)
    return LaunchWishes(
        publish=tuple(map(PublishedPort.parse, options.publish)),
        publish_all=options.publish_all,
        volumes=tuple(map(VolumeWish.parse, options.volumes)),
        config={**as_config(environment), **_keys(options.keys)},
        user=options.user,
        command=tuple(options.command),
        profiles=tuple(options.profiles) or ("default",),
        target=options.target,
        update=options.update,
        wait_seconds=options.wait_timeout if options.wait else None,
    )


def _keys(given: list[str]) -> Mapping[str, str]:
    found = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or "." not in key:
            raise UsageError(
                f"--set {key[:80]!r}: expected KEY=VALUE", hint="for example limits.memory=512MiB"
            )
        found[key] = value
    return found


def _text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            text = file.read(_MOST_FILE_CHARACTERS + 1)
    except FileNotFoundError as error:
        raise NotFoundError(
            f"the environment file {path} does not exist", hint="name another one with --env-file"
        ) from error
    except IsADirectoryError as error:
        raise UsageError(
            f"the environment file {path} is a directory", hint="name a file with --env-file"
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"the environment file {path} is not UTF-8 text", hint=_FILE_HINT
        ) from error
    except OSError as error:
        raise storage_error("read", path, error) from error
    if len(text) > _MOST_FILE_CHARACTERS:
        raise UsageError(f"the environment file {path} is longer than 1 MiB", hint=_FILE_HINT)
    return text


def _alias(
    options: argparse.Namespace,
    settings: Settings,
    place: Destination,
    progress: Progress,
) -> str:
    """Return the alias of the image in LXD, after importing it where that is needed."""
    lxc = lxc_directory()
    importer = Importer(
        convert_options(settings),
        ImportDirectory(settings.imports),
        place,
        progress,
        now=lambda: datetime.now(UTC),
        certificate=Certificates(lxc, None),
    )
    if options.pull != "always" and importer.has(options.source):
        return str(options.source)
    choice = chosen(options.source, settings, lxc)
    alias = importer.alias_of(choice)
    if options.pull != "always" and importer.has(alias):
        return alias
    if options.pull == "never":
        raise NotFoundError(
            f"no image {alias} of ours is in project {place.project}",
            hint=f"lxdocker-lxd import {options.source}",
        )
    return importer.run(options.source, choice, Wishes()).aliases[0]


def as_text(launched: Launched) -> str:
    """Return the address, then what else a user may look for."""
    state = launched.address or "running, without an address"
    if launched.exit_code is not None:
        state = f"its command has ended with code {launched.exit_code}"
    lines = [f"{launched.name}: {state}"]
    lines += [f"  port    {port}" for port in launched.ports]
    lines += [f"  volume  {volume.name} at {volume.path}" for volume in launched.volumes]
    return "\n".join(lines)


def as_json(launched: Launched) -> str:
    """Return every field."""
    return document(
        {
            "name": launched.name,
            "project": launched.project,
            "image": launched.alias,
            "fingerprint": launched.fingerprint,
            "address": launched.address or None,
            "exit_code": launched.exit_code,
            "ports": [
                {
                    "address": port.address,
                    "host_port": port.host_port,
                    "port": port.port,
                    "protocol": port.protocol,
                }
                for port in launched.ports
            ],
            "volumes": [
                {"name": volume.name, "path": volume.path, "readonly": volume.readonly}
                for volume in launched.volumes
            ],
        }
    )
