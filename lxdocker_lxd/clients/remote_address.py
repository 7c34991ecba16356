"""Addresses of remotes that say how their server speaks: ``https+registry://HOST``. Pure."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from lxdocker_lxd.errors import UsageError

REGISTRY = "registry"
LXC_IMAGES = "lxc-images"
_PROTOCOLS = (REGISTRY, LXC_IMAGES)
_SHOWN_CHARACTERS = 200
_FORMS = "https+registry://HOST[:PORT] or https+lxc-images://HOST[:PORT]"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteAddress:
    """Where a server is and what it speaks: ``registry`` or ``lxc-images``."""

    protocol: str
    url: str


def names_protocol(text: str) -> bool:
    """Whether a text is an address of this kind, valid or not."""
    return "+" in text.partition("://")[0] and "://" in text


def speaks_known(text: str) -> bool:
    """Whether an address names a protocol that is known here."""
    return text.partition("://")[0].partition("+")[2] in _PROTOCOLS


def parse_address(text: str, *, what: str) -> RemoteAddress:
    """Return the address in ``text``, which is ``what``; raise UsageError.

    Signatures tell who wrote a document, not whether it is an answer from the past; so plain HTTP is
    refused.
    """
    scheme, _, place = text.partition("://")
    # Without a user's password.
    shown = f"{scheme}://{place.rpartition('@')[2]}"[:_SHOWN_CHARACTERS]
    transport, _, protocol = scheme.partition("+")
    if transport == "http":
        raise UsageError(
            f"{what} {shown!r} is plain HTTP: anyone on the way could answer", hint=f"use {_FORMS}"
        )
    if transport != "https" or protocol not in _PROTOCOLS:
        raise UsageError(f"{what} {shown!r} can't be read", hint=f"known are {_FORMS}")
    url = f"https://{place}"
    try:
        parts = urlsplit(url)
        valid = bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not url.isprintable() or any(one in url for one in " ?#\\"):
        raise UsageError(f"{what} {shown!r} has no valid host and port", hint=f"use {_FORMS}")
    return RemoteAddress(protocol=protocol, url=url.rstrip("/"))
