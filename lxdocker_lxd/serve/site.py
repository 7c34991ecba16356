"""All that is served from one catalogue at one moment: each path, and what it leads to.

Pure: a catalogue, settings, a signer and the time in, a :class:`Site` out. The server answers from it and
the export writes it; so both are the same tree by construction. Nothing of it is ever changed: a
new catalogue makes a new site.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from lxdocker_lxd.catalogue import Catalogue, PublishedFile
from lxdocker_lxd.serve.entry import Entry, FileEntry, Signer

LXE_PUBLISH_DELAY_SECONDS = 3900
"""An hour, LXD's cache of stream files, and five minutes for clocks that differ."""

FILE_MEDIA_TYPE = "application/octet-stream"
_AT = re.compile(r"at/[0-9A-Za-z][0-9A-Za-z_.-]{0,63}/(.*)", re.DOTALL)
_IMAGE = re.compile(r"(.*/)?images/([0-9a-f]{64})(\.[a-z0-9.]+)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSettings:
    """``base_url`` without a slash at its end is where clients reach the site.

    A new version is listed without its aliases for ``publish_delay_seconds``; in the views for
    LXE for ``lxe_publish_delay_seconds``. ``certificates`` is the PEM text of what a client has to
    trust: the local authority, or the certificate given; empty where nobody has to be told.
    """

    base_url: str
    remote_name: str = "lxdocker"
    publish_delay_seconds: int = 0
    lxe_publish_delay_seconds: int = LXE_PUBLISH_DELAY_SECONDS
    certificates: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteContext:
    """All a part needs to list its entries."""

    catalogue: Catalogue
    settings: SiteSettings
    at: datetime
    signer: Signer | None = None


class Site:
    """Finds entries by path. ``next_change`` is when the same catalogue makes another site."""

    def __init__(
        self,
        entries: Iterable[Entry],
        *,
        roots: Iterable[str],
        servable: Mapping[str, PublishedFile],
        next_change: datetime | None = None,
    ) -> None:
        self._entries: dict[str, Entry] = {entry.path: entry for entry in entries}
        self._roots = frozenset(roots)
        self._servable = servable
        self.next_change = next_change

    def find(self, path: str) -> Entry | None:
        """Return what ``path`` leads to, or None.

        ``at/SERIAL/…`` leads to the same as the rest of the path: LXD keeps what it read for an
        hour by its URL, so another spelling is fresh at once.
        """
        inner = _AT.fullmatch(path)
        if inner is not None:
            path = inner[1]
        entry = self._entries.get(path)
        return entry if entry is not None else self._image(path)

    def entries(self) -> Iterator[Entry]:
        """Yield every listed entry in the order of paths; files of older listings are left out."""
        for path in sorted(self._entries):
            yield self._entries[path]

    def _image(self, path: str) -> FileEntry | None:
        """Find a file by the digest in its name, under the main tree or a view."""
        match = _IMAGE.fullmatch(path)
        if match is None or (match[1] or "") not in self._roots:
            return None
        file = self._servable.get(match[2])
        if file is None or file.path != f"images/{match[2]}{match[3]}":
            return None
        return FileEntry(path=path, media_type=FILE_MEDIA_TYPE, file=file)
