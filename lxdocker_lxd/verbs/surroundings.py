"""What this process is surrounded by, read once: settings file, environment, user, machine."""

import argparse
import os
import platform
import stat
from pathlib import Path

from lxdocker_lxd import atomic
from lxdocker_lxd.console import Console
from lxdocker_lxd.errors import NotFoundError
from lxdocker_lxd.platform import Platform, host_platform
from lxdocker_lxd.settings import (
    DEFAULT_FILE,
    FILE_VARIABLE,
    SETTINGS,
    Settings,
    Surroundings,
    load,
)
from lxdocker_lxd.spec_yaml import MAX_TEXT_BYTES


def load_settings(options: argparse.Namespace, console: Console | None = None) -> Settings:
    """Return the settings of this run; tell ``console`` of a password that all users can read.

    The default settings file may be missing; one that was named may not. Raises UsageError,
    NotFoundError and StorageError.
    """
    is_open = False
    named = options.config or os.environ.get(FILE_VARIABLE)
    file = Path(named) if named else DEFAULT_FILE
    try:
        with file.open(encoding="utf-8", errors="replace") as stream:
            # One more than is allowed, so that the parser refuses what is too large.
            text = stream.read(MAX_TEXT_BYTES + 1)
            is_open = bool(os.fstat(stream.fileno()).st_mode & stat.S_IROTH)
    except FileNotFoundError as error:
        if named:
            raise NotFoundError(
                f"read settings: {file} does not exist", hint="name another file with --config"
            ) from error
        text = ""
    except OSError as error:
        raise atomic.storage_error("read settings", file, error) from error
    settings = load(
        text,
        file=str(file),
        flags={setting.key: _flag(options, setting.key) for setting in SETTINGS},
        surroundings=Surroundings(
            environment=os.environ, home=os.environ.get("HOME", "/"), user_id=os.getuid()
        ),
    )
    if is_open and console is not None:
        _tell_of_passwords(settings, file, console)
    return settings


def _tell_of_passwords(settings: Settings, file: Path, console: Console) -> None:
    hosts = [
        host
        for host, registry in settings.registries.by_host.items()
        if "@" in (registry.proxy or "")
    ]
    if hosts:
        console.note(
            f"warning: {file}: every user of this machine can read the password of the proxy for"
            f" {', '.join(hosts)}\nhint: leave proxy out there, and give the address with the password"
            " as HTTPS_PROXY to the converter alone (EnvironmentFile= of its unit, mode 0600)"
        )


def _flag(options: argparse.Namespace, key: str) -> object:
    """Return what was given for a setting; flags that may be repeated are one text, as elsewhere."""
    given = getattr(options, key, None)
    return ",".join(given) if isinstance(given, list) else given


def this_platform() -> Platform:
    """Return the platform of this machine."""
    return host_platform(platform.machine())
