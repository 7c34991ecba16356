"""Where an instance's image comes from: the name that is followed, remembered on the instance.

LXD keeps only a fingerprint, and forgets a superseded image together with its server and alias. So
the source is written on the instance when it is enrolled: ``https://HOST:PORT|simplestreams|ALIAS``,
or ``local|ALIAS`` for an alias of the project's own store.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.lxd.records import Alias, Image, Instance

SOURCE_KEY = "user.lxdocker.image"
LOCAL = "local"
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class SourceError(UsageError):
    """An image source that can't be understood, or can't be known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A name that is followed; ``server`` is empty for an alias of the local store."""

    alias: str
    server: str = ""
    protocol: str = LOCAL

    def __str__(self) -> str:
        """Return the key's value."""
        return (
            f"{self.server}|{self.protocol}|{self.alias}" if self.server else f"local|{self.alias}"
        )


def source_of_text(text: str) -> Source:
    """Return the source a key's value names; raise SourceError."""
    match text.split("|"):
        case [protocol, alias] if protocol == LOCAL and alias:
            return Source(alias=alias)
        case [server, protocol, alias] if server and protocol and alias:
            return Source(alias=alias, server=server, protocol=protocol)
    raise SourceError(
        f"{SOURCE_KEY}: {text!r} names no image",
        hint="it is local|ALIAS or https://HOST|simplestreams|ALIAS",
    )


def discovered(instance: Instance, images: Iterable[Image]) -> Source:
    """Return the source of the image an instance was made of; raise SourceError.

    Only what is certain counts: the image is still in the store and was fetched by alias, or has
    exactly one local alias.
    """
    image = next((image for image in images if image.fingerprint == instance.base_image), None)
    if image is None:
        raise SourceError(
            f"{instance.name}: the image it was made of is no longer in the store",
            hint=f"name it: `lxc config set {instance.name} {SOURCE_KEY} 'local|ALIAS'`",
        )
    if image.update_source is not None:
        source = image.update_source
        return Source(alias=source.alias, server=source.server, protocol=source.protocol)
    if len(image.aliases) == 1:
        return Source(alias=image.aliases[0])
    raise SourceError(
        f"{instance.name}: its image has {len(image.aliases) or 'no'} aliases, and no server",
        hint=f"name one: `lxc config set {instance.name} {SOURCE_KEY} 'local|ALIAS'`",
    )


def newest(source: Source, images: Iterable[Image], aliases: Iterable[Alias]) -> Image | None:
    """Return the image a source stands for now; None when the store doesn't hold one."""
    store = tuple(images)
    if not source.server:
        held = {alias.name: alias.fingerprint for alias in aliases}.get(source.alias)
        return next((image for image in store if image.fingerprint == held), None)
    found = [image for image in store if _comes_from(image, source)]
    # During a refresh the old and the new one are both there for a moment.
    return max(found, key=lambda image: image.uploaded_at or _LONG_AGO, default=None)


def _comes_from(image: Image, source: Source) -> bool:
    origin = image.update_source
    return origin is not None and (origin.server, origin.protocol, origin.alias) == (
        source.server,
        source.protocol,
        source.alias,
    )
