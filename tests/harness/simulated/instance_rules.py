"""What LXD allows an instance to be named and configured; the same for making and for writing."""

from lxdocker_lxd.lxd.failures import PermissionRefusedError, RefusedError
from lxdocker_lxd.lxd.records import Config, InstanceSettings

_LONGEST_NAME = 63


def check_name(name: str) -> None:
    """LXD's rule for names of instances."""
    allowed = name.isascii() and all(letter.isalnum() or letter == "-" for letter in name)
    if not allowed or not name[:1].isalpha() or name[-1:] == "-" or len(name) > _LONGEST_NAME:
        raise RefusedError(f"Invalid instance name {name!r}")


_KEYS = (
    *(
        "boot.",
        "cloud-init.",
        "cluster.",
        "environment.",
        "image.",
        "limits.",
        "linux.",
        "migration.",
    ),
    *("nvidia.", "raw.", "security.", "snapshots.", "user.", "volatile."),
)


def check_config(config: Config) -> None:
    """Only keys LXD knows, without line breaks in an environment."""
    for key, value in config.items():
        if not key.startswith(_KEYS):
            raise RefusedError(f"Unknown configuration key: {key}")
        if key.startswith("environment.") and "\n" in value:
            raise RefusedError(f"Environment variables cannot contain line breaks: {key}")


def check_restrictions(project: Config, name: str, settings: InstanceSettings) -> None:
    """What a restricted project forbids unless it says otherwise, as far as anybody here tries it."""
    if project.get("restricted") != "true":
        return
    characters = [key for key, one in settings.devices.items() if one.get("type") == "unix-char"]
    if characters and project.get("restricted.devices.unix-char") != "allow":
        raise PermissionRefusedError(
            f"could not write {name}: Invalid device {characters[0]!r}: Unix character devices are"
            " forbidden"
        )
    lowlevel = project.get("restricted.containers.lowlevel") != "allow"
    if lowlevel and settings.config.get("raw.lxc"):
        raise PermissionRefusedError(
            f"could not write {name}: Use of low-level config is forbidden"
        )
