"""Text from images as people may see it. Pure.

Names, labels and commands come from strangers. HTML, XML and JSON have their own ways to keep markup out;
here goes what would still deceive or break: what can't be seen, what has no end, and links that lead
elsewhere than they say.
"""

import re
from urllib.parse import urlsplit

from lxdocker_lxd.control_characters import spelled_out

MOST_CHARACTERS = 4000
# RFC 3986: the characters that an address may have.
_HTTP = re.compile(r"https?://[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]{1,2000}", re.IGNORECASE)


def legible(text: str) -> str:
    r"""Return ``text`` with ``\u202e`` and the like in place of what can't be seen, and not endless."""
    short = text
    if len(text) > MOST_CHARACTERS:
        short = f"{text[:MOST_CHARACTERS]}… ({len(text)} characters)"
    return spelled_out(short)


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
