"""The health check of a converted image, asked inside its instance: the command and its exit codes."""

from enum import StrEnum

from lxdocker_lxd.lxd.records import Config

HEALTH_COMMAND = ("/.lxdocker/run", "--health")
HEALTH_KEY = "user.lxdocker.health"
_HEALTHY = 0
_NO_CHECK = 124
_NOT_STARTED = 125
# What a shell answers for a program that may not be run, and for one that isn't there.
_NOT_RUN = frozenset({126, 127})


class Health(StrEnum):
    """What one look at a health check found, in Docker's words; ``UNKNOWN``: it could not be asked.

    ``STARTING``: the command was not started yet, so nothing is known of it. ``NONE``: there is no
    check. Only ``HEALTHY`` shows that something works.
    """

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    STARTING = "starting"
    NONE = "none"
    UNKNOWN = "unknown"


def has_health_check(config: Config, *, image: bool) -> bool:
    """Whether the guest has a check to run: its own key's, else the image's if it has one."""
    words = config.get(HEALTH_KEY, "").strip()
    return words != "none" if words else image


def health_of(exit_code: int, *, check: bool, converted: bool = True) -> Health:
    """Return what an exit code of ``HEALTH_COMMAND`` says.

    ``check``: there is one to be run, as far as key and image tell; ``converted``: the image was made
    by this program. Guests of older images answer 0 without a check, and 126 before the command was
    started.
    """
    if exit_code == _HEALTHY:
        return Health.HEALTHY if check else Health.NONE
    if exit_code == _NO_CHECK:
        return Health.NONE
    if exit_code == _NOT_STARTED:
        return Health.STARTING
    if exit_code in _NOT_RUN:
        return Health.STARTING if converted else Health.NONE
    return Health.UNHEALTHY
