"""Text from images as people may see it. Pure.

Names, labels and commands come from strangers. HTML, XML and JSON have their own ways to keep markup out;
here goes what would still deceive or break: control characters, lone surrogates, and the invisible
ones that turn the direction of what follows.
"""

import re
import unicodedata
from urllib.parse import urlsplit

MOST_CHARACTERS = 4000
_KEPT = "\n\t"
# RFC 3986: the characters that an address may have.
_HTTP = re.compile(r"https?://[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]{1,2000}", re.IGNORECASE)


def legible(text: str) -> str:
    r"""Return ``text`` with ``\u202e`` and the like in place of what can't be seen, and not endless."""
    short = text
    if len(text) > MOST_CHARACTERS:
        short = f"{text[:MOST_CHARACTERS]}… ({len(text)} characters)"
    if short.isprintable():
        return short
    return "".join(
        character if _is_harmless(character) else _escaped(character) for character in short
    )


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


def _is_harmless(character: str) -> bool:
    """Whether people see what is there: not so controls, formats, surrogates, what has no meaning."""
    if character.isprintable() or character in _KEPT:
        return True
    return unicodedata.category(character) == "Zs"


def _escaped(character: str) -> str:
    code = ord(character)
    if code <= 0xFF:  # noqa: PLR2004 - two hexadecimal digits
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 - four digits
