"""How an instance stands to its image: whether there is a newer one, and what keeps it. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from lxdocker_lxd.errors import LxdockerError
from lxdocker_lxd.lxd.records import Alias, Image, Instance
from lxdocker_lxd.update.rejection import rejections_of
from lxdocker_lxd.update.source import (
    SOURCE_KEY,
    Source,
    discovered,
    followed_image,
    newest,
    source_of_text,
)
from lxdocker_lxd.update.transaction import Phase, readable_stamp

_COPIES = frozenset({Phase.KEPT, Phase.REJECTED, Phase.RETIRED})


class State(StrEnum):
    """One word for it; empty where nobody knows what the image's name is."""

    UNKNOWN = ""
    CURRENT = "current"
    AVAILABLE = "available"
    REJECTED = "rejected"
    UPDATING = "updating"
    COPY = "copy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How an instance stands; ``newest`` is the image its name means now, where the store has it.

    ``available`` is an image that is in the store, enrolled or not; ``rejected`` one that was tried
    and went back. ``updating`` is in the middle of an update, ``copy`` what an update keeps.
    """

    state: State
    newest: Image | None = None


def standing_of(instance: Instance, images: Iterable[Image], aliases: Iterable[Alias]) -> Standing:
    """Return how an instance stands, from the images and aliases of its project; never raises."""
    stamp = readable_stamp(instance)
    if stamp is not None and stamp.phase in _COPIES and instance.name != stamp.name:
        return Standing(state=State.COPY)
    store = tuple(images)
    source = _source(instance, store)
    image = None if source is None else newest(followed_image(source, instance), store, aliases)
    if stamp is not None and stamp.phase is not Phase.COMMITTED:
        return Standing(state=State.UPDATING, newest=image)
    if image is None or not instance.base_image:
        return Standing(state=State.UNKNOWN, newest=image)
    if image.fingerprint == instance.base_image:
        return Standing(state=State.CURRENT, newest=image)
    tried = image.fingerprint in {one.fingerprint for one in rejections_of(instance.config)}
    return Standing(state=State.REJECTED if tried else State.AVAILABLE, newest=image)


def _source(instance: Instance, images: tuple[Image, ...]) -> Source | None:
    """Where its image comes from: as written down, or as LXD still knows."""
    try:
        if text := instance.expanded_config.get(SOURCE_KEY, ""):
            return source_of_text(text)
        return discovered(instance, images)
    except LxdockerError:
        return None
