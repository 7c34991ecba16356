"""The use case ``ps``: instances made from our images, and how they are.

An instance is ours when LXD noted on it that its image was (``image.*``), or a launch did.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.guest_health import HEALTH_COMMAND, Health, has_health_check, health_of
from lxdocker_lxd.guest_state import read_guest_state
from lxdocker_lxd.image_facts import facts_of
from lxdocker_lxd.launching.launch import IMAGE_KEY
from lxdocker_lxd.launching.waiting import Watch
from lxdocker_lxd.lxd.calls import Command
from lxdocker_lxd.lxd.failures import CommandTimedOutError
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Instance

NO_ANSWER = "no answer"
_AT_ONCE = 8
_CHECK_SECONDS = 15.0
_ORIGIN = "image.requirements.lxdocker.image"
_PRODUCT = "image.lxdocker.product"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One instance.

    ``image`` is what it was made from, ``version`` the serial of its image. ``health`` is
    ``healthy``, ``unhealthy``, ``starting`` (the command was not started yet), ``no answer`` in time,
    ``none`` (no check) or empty where nothing can be asked. ``update`` is what the caller's ``standing``
    says, empty where nobody knows.
    """

    name: str
    project: str
    location: str
    status: str
    image: str
    version: str
    health: str
    update: str
    address: str
    exit_code: int | None = None


def listed(
    lxd: Lxd,
    *,
    project: str | None,
    standing: Callable[[Instance], str] = lambda _instance: "",
    health: Callable[[Instance], str] | None = None,
) -> tuple[Listed, ...]:
    """Return our instances of a project, or of all, in order of project and name.

    ``standing`` says how each stands to its image, ``health`` how a running one does; both are
    called from several threads, and without them the image's own check is asked.
    """
    ours = [one for one in lxd.instances.list(project=project) if is_ours(one)]
    ask = health or (lambda one: image_health(lxd, one))
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="ps") as threads:
        found = threads.map(lambda one: _look(lxd, one, standing, ask), ours)
        return tuple(sorted(found, key=lambda one: (one.project, one.name)))


def is_ours(instance: Instance) -> bool:
    """Whether the instance was made from one of our images."""
    keys = (_ORIGIN, _PRODUCT, IMAGE_KEY)
    return any(instance.config.get(key) for key in keys)


def _look(
    lxd: Lxd,
    instance: Instance,
    standing: Callable[[Instance], str],
    ask: Callable[[Instance], str],
) -> Listed:
    config = instance.config
    followed = config.get(IMAGE_KEY, "").removeprefix("local|")
    code = None
    if instance.running:
        health, address = ask(instance), _address(lxd, instance)
    else:
        health = address = ""
        code = read_guest_state(lxd, instance.name, project=instance.project).exit_code
    return Listed(
        name=instance.name,
        project=instance.project,
        location=instance.location,
        status=instance.status.lower(),
        image=config.get(_ORIGIN) or config.get(_PRODUCT) or followed,
        version=config.get("image.serial", ""),
        health=health,
        update=standing(instance),
        address=address,
        exit_code=code,
    )


def image_health(lxd: Lxd, instance: Instance, *, seconds: float = _CHECK_SECONDS) -> str:
    """Ask the image's own check, or the one that a key puts in its place; see Listed."""
    try:
        facts = facts_of(lxd, instance.name, project=instance.project)
        if not has_health_check(instance.expanded_config, image=facts.health):
            return str(Health.NONE)
        command = Command(words=HEALTH_COMMAND, directory="/", timeout_seconds=seconds)
        result = lxd.guests.execute(instance.name, command, project=instance.project)
    except CommandTimedOutError:
        return NO_ANSWER
    except LxdockerError:
        return ""
    return str(health_of(result.exit_code, check=True))


def _address(lxd: Lxd, instance: Instance) -> str:
    try:
        return Watch(lxd, instance.name, project=instance.project).address()
    except LxdockerError:
        return ""
