"""The annotations of the OCI image specification that an image keeps in LXD, and what is taken of them.

They are a stranger's words: what is long, or has characters that can't be seen, is left out.
"""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

CREATED = "org.opencontainers.image.created"
SOURCE = "org.opencontainers.image.source"
URL = "org.opencontainers.image.url"
VERSION = "org.opencontainers.image.version"
KEPT = (CREATED, SOURCE, URL, VERSION)
_LONGEST = 400
# RFC 3986: the characters that an address may have.
_HTTP = re.compile(r"https?://[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]{1,2000}", re.IGNORECASE)


def kept_annotations(labels: Mapping[str, object]) -> dict[str, str]:
    """Return those of an image's labels that its LXD image gets as properties."""
    return {
        name: value
        for name in KEPT
        if isinstance(value := labels.get(name), str)
        and 0 < len(value) <= _LONGEST
        and value.isprintable()
    }


def web_address(text: str) -> str | None:
    """Return ``text`` if it is an http or https address that a link may lead to, else None."""
    if not _HTTP.fullmatch(text):
        return None
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    # "https://bank.example@evil.example/" reads as another place than it is.
    return text if parts.hostname and "@" not in parts.netloc else None
