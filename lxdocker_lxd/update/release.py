"""What an image says of the version it is: its name, its release notes, when it was published. Pure.

All of it is a stranger's word, kept by LXD as properties of the image and of instances made of it.
Texts are made fit to be told, only web addresses are links, and a time counts where it can be true.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from lxdocker_lxd.annotations import CREATED, SOURCE, URL, VERSION, web_address
from lxdocker_lxd.control_characters import spelled_out
from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.lxd.records import Config, Image, Instance
from lxdocker_lxd.update.quantity import LONGEST_AGE, moment_of
from lxdocker_lxd.update.redaction import cleaned

_INSTANCE_PREFIX = "image."
_LONGEST = 100
_MOST_READ = 1000
_MOST_KNOWN = 1024
_SHORT_DIGEST = len("sha256:") + 12
_SERIAL = re.compile(r"([0-9]{8})(?:[_T]([0-9]{4})(?:[0-9]{2})?)?(?![0-9])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What is known of a version; empty is what its image doesn't say.

    ``manifest`` is the digest of all that it was made of: its layers and its configuration.
    """

    version: str = ""
    serial: str = ""
    reference: str = ""
    manifest: str = ""
    notes_url: str = ""


def release_of(image: Image) -> Release:
    """Return what an image says; never raises."""
    return _release(image.properties)


def running_release(instance: Instance, image: Image | None) -> Release:
    """Return what is known of the version an instance runs; ``image`` is its image, if it is there."""
    if image is not None:
        return release_of(image)
    told = {
        key.removeprefix(_INSTANCE_PREFIX): value
        for key, value in instance.config.items()
        if key.startswith(_INSTANCE_PREFIX)
    }
    return _release(told)


def changes_between(old: Release, new: Release) -> tuple[str, ...]:
    """Return what is another in the new version, as far as both say it, in a few words each."""
    pairs = (
        ("version", old.version, new.version),
        ("image", old.reference, new.reference),
        ("build", old.serial, new.serial),
    )
    changes = [
        f"{what} {before} -> {after}" if before else f"{what} {after}"
        for what, before, after in pairs
        if after and before != after
    ]
    if old.manifest and new.manifest:
        changes.append(
            "the same layers and configuration, built anew"
            if old.manifest == new.manifest
            else f"layers or configuration {old.manifest[:_SHORT_DIGEST]} ->"
            f" {new.manifest[:_SHORT_DIGEST]}"
        )
    return tuple(changes)


def published_at(image: Image, now: datetime, earliest: datetime | None) -> datetime | None:
    """Return when a version was published, by the first of its statements that can be true, or None.

    It can't be after LXD got it, in the future, ten years ago, or before ``earliest``: when the name
    is known to have stood for the version that it replaces. So a publisher can't make it look older.
    """
    latest = now if image.uploaded_at is None else min(now, image.uploaded_at)
    oldest = now - LONGEST_AGE if earliest is None else max(earliest, now - LONGEST_AGE)
    return next((said for said in _said(image) if oldest <= said <= latest), None)


def _said(image: Image) -> Iterator[datetime]:
    serial = _moment_of_serial(image.properties.get("serial", ""))
    # The serial of an image that was imported says when that was.
    if image.update_source is not None and serial is not None:
        yield serial
    created = _moment_of_label(image.properties.get(CREATED, ""))
    if created is not None:
        yield created
    if image.created_at is not None:
        yield image.created_at


def _moment_of_label(text: str) -> datetime | None:
    try:
        return moment_of(text)
    except UsageError:
        return None


def _moment_of_serial(text: str) -> datetime | None:
    match = _SERIAL.match(text)
    if match is None:
        return None
    try:
        moment = datetime.strptime(match[1] + (match[2] or "0000"), "%Y%m%d%H%M")  # noqa: DTZ007 - UTC
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC)


def _release(properties: Config) -> Release:
    def told(key: str) -> str:
        return _legible(properties.get(key, "")[:_MOST_READ])

    addresses = (web_address(properties.get(key, "")) for key in (URL, SOURCE))
    return Release(
        version=told(VERSION) or told("version"),
        serial=told("serial"),
        reference=told("requirements.lxdocker.image"),
        manifest=told("requirements.lxdocker.manifest"),
        notes_url=next((_harmless(one) for one in addresses if one is not None), ""),
    )


# Many instances have the same images, and a plan is made again and again.
@lru_cache(maxsize=_MOST_KNOWN)
def _legible(text: str) -> str:
    shown = spelled_out(cleaned(text), kept="")
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"


@lru_cache(maxsize=_MOST_KNOWN)
def _harmless(address: str) -> str:
    return cleaned(address)
