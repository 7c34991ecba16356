"""The use case ``ps``: instances made from our images, and how they are.

An instance is ours when LXD noted on it that its image was (``image.*``), or a launch did.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.launching.image_facts import facts_of
from lxdocker_lxd.launching.launch import IMAGE_KEY
from lxdocker_lxd.launching.waiting import HEALTH_COMMAND, Watch, guest_state
from lxdocker_lxd.lxd.calls import Command
from lxdocker_lxd.lxd.ports import Lxd
from lxdocker_lxd.lxd.records import Instance

_AT_ONCE = 8
_CHECK_SECONDS = 15.0
_ORIGIN = "image.requirements.lxdocker.image"
_PRODUCT = "image.lxdocker.product"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One instance.

    ``image`` is what it was made from, ``version`` the serial of its image. ``health`` is
    ``healthy``, ``unhealthy``, ``none`` (the image has no check) or empty where nothing can be
    asked. ``update`` is ``current``, ``available`` or empty where its name can't be followed.
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


def listed(lxd: Lxd, *, project: str | None) -> tuple[Listed, ...]:
    """Return our instances of a project, or of all, in order of project and name."""
    ours = [one for one in lxd.instances.list(project=project) if is_ours(one)]
    aliases = {name: _aliases(lxd, name) for name in {one.project for one in ours}}
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="ps") as threads:
        found = threads.map(lambda one: _look(lxd, one, aliases[one.project]), ours)
        return tuple(sorted(found, key=lambda one: (one.project, one.name)))


def is_ours(instance: Instance) -> bool:
    """Whether the instance was made from one of our images."""
    keys = (_ORIGIN, _PRODUCT, IMAGE_KEY)
    return any(instance.config.get(key) for key in keys)


def _aliases(lxd: Lxd, project: str) -> Mapping[str, str]:
    try:
        return {alias.name: alias.fingerprint for alias in lxd.aliases.list(project=project)}
    except LxdockerError:
        return {}


def _look(lxd: Lxd, instance: Instance, aliases: Mapping[str, str]) -> Listed:
    config = instance.config
    followed = config.get(IMAGE_KEY, "").removeprefix("local|")
    code = None
    if instance.running:
        health, address = _health(lxd, instance), _address(lxd, instance)
    else:
        health = address = ""
        found = guest_state(lxd, instance.name, project=instance.project).get("exit_code")
        code = found if isinstance(found, int) else None
    return Listed(
        name=instance.name,
        project=instance.project,
        location=instance.location,
        status=instance.status.lower(),
        image=config.get(_ORIGIN) or config.get(_PRODUCT) or followed,
        version=config.get("image.serial", ""),
        health=health,
        update=_update(instance, aliases.get(followed)),
        address=address,
        exit_code=code,
    )


def _update(instance: Instance, newest: str | None) -> str:
    if not newest or not instance.base_image:
        return ""
    return "current" if newest == instance.base_image else "available"


def _health(lxd: Lxd, instance: Instance) -> str:
    try:
        if instance.config.get("user.lxdocker.health") == "none":
            return "none"
        own = bool(instance.config.get("user.lxdocker.health"))
        if not own and not facts_of(lxd, instance.name, project=instance.project).health:
            return "none"
        command = Command(words=HEALTH_COMMAND, directory="/", timeout_seconds=_CHECK_SECONDS)
        result = lxd.guests.execute(instance.name, command, project=instance.project)
    except LxdockerError:
        return ""
    return "healthy" if result.exit_code == 0 else "unhealthy"


def _address(lxd: Lxd, instance: Instance) -> str:
    try:
        return Watch(lxd, instance.name, project=instance.project).address()
    except LxdockerError:
        return ""
