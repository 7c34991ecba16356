"""Where an instance's image comes from: the name that is followed, remembered on the instance.

LXD keeps only a fingerprint, and forgets a superseded image together with its server and alias. So
the source is written on the instance when it is enrolled: ``https://HOST:PORT|simplestreams|ALIAS``,
or ``local|ALIAS`` for an alias of the project's own store.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.lxd.records import Alias, Image, Instance
from lxdocker_lxd.update.quantity import quoted

SOURCE_KEY = "user.lxdocker.image"
CERTIFICATE_KEY = "user.lxdocker.image.certificate"
"""What LXD trusts for the server, in PEM: LXD forgets it together with the image."""
LOCAL = "local"
AGAIN_PATH = "/at/updater-"
"""Where the updater lets LXD read a server anew: the rest of the name is a version's."""
_AGAIN = re.compile(re.escape(AGAIN_PATH) + r"[A-Za-z0-9._-]+/?$")
_LONGEST_TEXT = 2048
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


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowedImage:
    """The image that an instance follows: the same name has one for each type and architecture.

    ``type`` is ``container`` or ``virtual-machine``, ``architecture`` LXD's word, as ``x86_64``.
    """

    source: Source
    type: str
    architecture: str

    def fits(self, image: Image) -> bool:
        """Whether an instance of this type and architecture can be made of the image."""
        return (image.type or "container", image.architecture) == (self.type, self.architecture)


def followed_image(source: Source, instance: Instance) -> FollowedImage:
    """Return what an instance follows where its key names ``source``."""
    return FollowedImage(source=source, type=instance.type, architecture=instance.architecture)


def source_of_text(text: str) -> Source:
    """Return the source a key's value names; raise SourceError."""
    understood = len(text) <= _LONGEST_TEXT and text.isprintable()
    match text.split("|") if understood else []:
        case [protocol, alias] if protocol == LOCAL and alias:
            return Source(alias=alias)
        case [server, protocol, alias] if server and protocol and alias:
            return Source(alias=alias, server=server, protocol=protocol)
    raise SourceError(
        f"{SOURCE_KEY}: {quoted(text)} names no image",
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
        server = plain_server(source.server)
        return Source(alias=source.alias, server=server, protocol=source.protocol)
    if len(image.aliases) == 1:
        return Source(alias=image.aliases[0])
    raise SourceError(
        f"{instance.name}: its image has {len(image.aliases) or 'no'} aliases, and no server",
        hint=f"name one: `lxc config set {instance.name} {SOURCE_KEY} 'local|ALIAS'`",
    )


def plain_server(server: str) -> str:
    """Return the server itself, where the updater had LXD read it anew under another URL."""
    return _AGAIN.sub("", server)


def is_fetched_anew(image: Image) -> bool:
    """Whether LXD has the image from a URL that only the updater uses."""
    origin = image.update_source
    return origin is not None and _AGAIN.search(origin.server) is not None


def newest(
    followed: FollowedImage,
    images: Iterable[Image],
    aliases: Iterable[Alias],
    standing: frozenset[str] = frozenset(),
) -> Image | None:
    """Return the image that is followed, as it is now; None when the store doesn't hold one.

    ``standing`` are fingerprints of which the server itself says that the name stands for one.
    """
    store = tuple(image for image in images if followed.fits(image))
    if not followed.source.server:
        return held_by_alias(followed.source, store, aliases)
    for image in store:
        if image.fingerprint in standing:
            return image
    found = [image for image in store if comes_from(image, followed.source)]
    # LXD's own update may bring an older version than was fetched anew: it reads once an hour.
    anew = any(is_fetched_anew(image) for image in found)
    # During a refresh the old and the new one are both there for a moment.
    return max(
        found,
        key=lambda one: (
            one.properties.get("serial", "") if anew else "",
            one.uploaded_at or _LONG_AGO,
        ),
        default=None,
    )


def held_by_alias(
    source: Source, images: Iterable[Image], aliases: Iterable[Alias]
) -> Image | None:
    """Return the image a local alias names, of whatever type; None for a server's, or without."""
    if source.server:
        return None
    held = {alias.name: alias.fingerprint for alias in aliases}.get(source.alias)
    return next((image for image in images if image.fingerprint == held), None)


def certificate_of(source: Source, images: Iterable[Image]) -> str:
    """Return what LXD itself trusts for the server, as it says with an image; or nothing."""
    origins = (image.update_source for image in images)
    found = (
        origin.certificate
        for origin in origins
        if origin is not None and plain_server(origin.server) == source.server
    )
    return next((certificate for certificate in found if certificate), "")


def comes_from(image: Image, source: Source) -> bool:
    """Whether LXD fetched the image by this name, of whatever type and architecture it is."""
    origin = image.update_source
    return origin is not None and (plain_server(origin.server), origin.protocol, origin.alias) == (
        source.server,
        source.protocol,
        source.alias,
    )
