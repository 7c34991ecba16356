"""Settings: the settings file, then the environment, then flags; the later one wins.

Each setting is one declaration below; the file's keys, the environment's names and README's table
follow from it. Nothing here reads a file or the environment: callers pass both.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from lxdocker_lxd.convert.layer.limits import CONFIGURABLE, LayerLimits
from lxdocker_lxd.convert.registry.settings import (
    RegistriesSettings,
    RegistrySettings,
    credential_search,
)
from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.progress import MODES
from lxdocker_lxd.serve.settings import SETTINGS as SERVE_SETTINGS
from lxdocker_lxd.serve.settings import ServeSettings
from lxdocker_lxd.setting import Setting, choice, number, path
from lxdocker_lxd.spec_yaml import Value, compose
from lxdocker_lxd.update.settings import UpdateSettings, update_settings

DEFAULT_FILE = Path("/etc/lxdocker-lxd/config.yaml")
FILE_VARIABLE = "LXDOCKER_LXD_CONFIG"
IMAGE_FORMATS = ("squashfs", "gzip", "tar")

ImageFormat = Literal["squashfs", "gzip", "tar"]
_MOST_JOBS = 64
_MOST_VERSIONS = 1000
_GREATEST_LIMIT = 10**18 - 1


_OWN: tuple[Setting, ...] = (
    Setting(
        key="specs",
        meaning="directory of image specifications",
        default="/etc/lxdocker-lxd/specs",
        parse=path,
    ),
    Setting(
        key="cache",
        meaning="directory for downloaded layers",
        default="/var/cache/lxdocker-lxd",
        parse=path,
    ),
    Setting(
        key="lxdimages",
        meaning="directory where LXD images are published",
        default="/var/lib/lxdocker-lxd/images",
        parse=path,
    ),
    Setting(
        key="imports",
        meaning="directory where imports are remembered and converted",
        default="/var/lib/lxdocker-lxd/imports",
        parse=path,
    ),
    Setting(
        key="imageformat",
        meaning="format of the root filesystem: squashfs, gzip or tar",
        default="squashfs",
        parse=choice(*IMAGE_FORMATS),
    ),
    Setting(
        key="jobs",
        meaning="images and layers worked on at once",
        default="3",
        parse=number(1, _MOST_JOBS),
    ),
    Setting(
        key="versions",
        meaning="versions of each image to keep",
        default="3",
        parse=number(1, _MOST_VERSIONS),
    ),
    Setting(
        key="progress",
        meaning="how progress is shown: auto, plain, rich, json or none",
        default="auto",
        parse=choice(*MODES),
    ),
)
SETTINGS = (*_OWN, *SERVE_SETTINGS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one run; ``file`` is the one that was read, None where there was none."""

    file: Path | None
    specs: Path
    cache: Path
    lxdimages: Path
    imports: Path
    imageformat: ImageFormat
    jobs: int
    versions: int
    progress: str
    serve: ServeSettings
    registries: RegistriesSettings
    limits: LayerLimits
    update: UpdateSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """What the settings file says."""

    values: Mapping[str, object] = field(default_factory=dict)
    registries: Mapping[str, RegistrySettings] = field(default_factory=dict)
    limits: LayerLimits = field(default_factory=LayerLimits)
    update: UpdateSettings = field(default_factory=UpdateSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the process knows about its user; needed to find credentials."""

    environment: Mapping[str, str]
    home: str
    user_id: int


def load(
    text: str, *, file: str, flags: Mapping[str, object], surroundings: Surroundings
) -> Settings:
    """Return the settings from the file's ``text`` (may be empty), environment and flags.

    A flag that is None is not given. Raises UsageError (SpecError for the file) that names the
    file and line, the variable or the flag.
    """
    written = _parse_file(text, file) if text.strip() else _File()
    values: dict[str, object] = {}
    for setting in SETTINGS:
        flag = flags.get(setting.key)
        variable = surroundings.environment.get(setting.variable)
        if flag is not None:
            values[setting.key] = _parsed(setting, str(flag), setting.flag)
        elif variable is not None:
            values[setting.key] = _parsed(setting, variable, setting.variable)
        else:
            values[setting.key] = written.values.get(setting.key, setting.parse(setting.default))
    of_server = {setting.key: values.pop(setting.key) for setting in SERVE_SETTINGS}
    return Settings(
        file=Path(file) if text else None,
        **values,  # type: ignore[arg-type]  # each declaration parses to its field's type
        serve=ServeSettings(**of_server),  # type: ignore[arg-type]  # here as well
        registries=RegistriesSettings(
            by_host=MappingProxyType(written.registries),
            credential_files=credential_search(
                surroundings.environment,
                home=surroundings.home,
                user_id=surroundings.user_id,
            ),
        ),
        limits=written.limits,
        update=written.update,
    )


def _parsed(setting: Setting, text: str, where: str) -> object:
    try:
        return setting.parse(text)
    except ValueError as error:
        raise UsageError(f"{where}: expected {error}, got {text[:80]!r}") from error


def _parse_file(text: str, file: str) -> _File:
    by_key = {setting.key: setting for setting in SETTINGS}
    found = compose(text, file=file).mapping({*by_key, "registries", "limits", "update"})
    registries = _entries(found.pop("registries", None))
    limits = _entries(found.pop("limits", None), CONFIGURABLE)
    update = update_settings(found.pop("update", None))
    values: dict[str, object] = {}
    for key, value in found.items():
        try:
            values[key] = by_key[key].parse(value.text())
        except ValueError as error:
            raise value.error(f"expected {error}, got {value.text()[:80]!r}") from error
    bounds = {key: value.integer(least=1, most=_GREATEST_LIMIT) for key, value in limits.items()}
    return _File(
        values=values,
        registries={host: _parse_registry(host, value) for host, value in registries.items()},
        limits=LayerLimits(**bounds),
        update=update,
    )


def _entries(value: Value | None, known: Collection[str] | None = None) -> dict[str, Value]:
    return {} if value is None or value.is_null else value.mapping(known)


def _parse_registry(host: str, value: Value) -> RegistrySettings:
    found = value.mapping({"mirrors", "ca_file", "insecure", "proxy"})
    if not host or "/" in host or "@" in host:
        raise value.error("a registry is named by host or host:port, without https:// and path")
    mirrors = (
        tuple(mirror.text() for mirror in found["mirrors"].items()) if "mirrors" in found else ()
    )
    if any("@" in mirror for mirror in mirrors):
        # The text isn't repeated: it holds a password.
        raise found["mirrors"].error(
            "credentials don't belong here", hint="use docker login or podman login for the mirror"
        )
    proxy = found["proxy"].text() if "proxy" in found else None
    if proxy and not proxy.startswith(("http://", "https://")):
        raise found["proxy"].error("expected http://host:port")
    return RegistrySettings(
        host=host,
        mirrors=mirrors,
        ca_file=found["ca_file"].text() if "ca_file" in found else None,
        insecure=found["insecure"].boolean() if "insecure" in found else False,
        proxy=proxy,
    )


def table() -> str:
    """Return README's table of settings, as Markdown."""
    rows = ["| key | environment | default | meaning |", "|---|---|---|---|"]
    rows += [
        f"| `{setting.key}` | `{setting.variable}` | {_shown(setting.default)} | {setting.meaning} |"
        for setting in SETTINGS
    ]
    return "\n".join(rows) + "\n"


def _shown(default: str) -> str:
    return f"`{default}`" if default else "none"
