"""What every page loads: style sheet, script and icon, read once from the package.

Their names carry a digest of their content, so that no page meets those of another release.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType

_DIGITS = 12
_MEDIA_TYPES = {
    "pages.css": "text/css; charset=utf-8",
    "pages.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticFile:
    """A file by its path on the site."""

    path: str
    media_type: str
    content: bytes


def _read(name: str, media_type: str) -> StaticFile:
    content = (resources.files(__package__) / "static" / name).read_bytes()
    stem, _, suffix = name.partition(".")
    digest = hashlib.sha256(content).hexdigest()[:_DIGITS]
    return StaticFile(
        path=f"static/{stem}-{digest}.{suffix}", media_type=media_type, content=content
    )


STATIC_FILES: Mapping[str, StaticFile] = MappingProxyType(
    {name: _read(name, media_type) for name, media_type in _MEDIA_TYPES.items()}
)
"""All of them, by their name in the package."""
