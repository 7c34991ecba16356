"""What an image asks of its instances, from the ``/lxd-image.json`` that every one of ours has."""

import json
from dataclasses import dataclass

from lxdocker_lxd.errors import LxdockerError, VerificationError
from lxdocker_lxd.lxd.failures import AbsentError
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.spec_values import volume

PATH = "/lxd-image.json"
_MOST_BYTES = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """Paths it declares as volumes, ports it exposes (``80/tcp``), whether it has a health check.

    ``stop_timeout_seconds`` is how long its command may take to end; None when it doesn't say.
    """

    volumes: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    health: bool = False
    stop_timeout_seconds: int | None = None


def facts_of(lxd: Lxd, instance: str, *, project: str) -> ImageFacts:
    """Return what the image of an instance says; raise VerificationError when it isn't ours."""
    try:
        file = lxd.guests.read_file(instance, PATH, project=project, most_bytes=_MOST_BYTES)
    except AbsentError as error:
        raise VerificationError(
            f"the image of {instance} was not made by lxdocker-lxd: it has no {PATH}",
            hint="use `lxc launch` for other images",
        ) from error
    return parse_facts(file.content)


def parse_facts(content: bytes) -> ImageFacts:
    """Return the facts in the file's content; raise VerificationError."""
    try:
        document = json.loads(content)
        volumes = tuple(dict.fromkeys(_path(text) for text in document.get("volumes") or ()))
        ports = tuple(str(text) for text in document.get("ports") or ())
        check = document.get("healthcheck")
        test = (check.get("Test") if isinstance(check, dict) else None) or ["NONE"]
        config = document.get("config")
        stop = config.get("StopTimeout") if isinstance(config, dict) else None
    except (ValueError, AttributeError, TypeError, LxdockerError) as error:
        raise VerificationError(f"{PATH} of the image can't be understood: {error}") from error
    return ImageFacts(
        volumes=volumes,
        ports=ports,
        health=test[0] != "NONE",
        stop_timeout_seconds=stop if type(stop) is int and stop >= 0 else None,
    )


def _path(text: object) -> str:
    return volume(str(text))
