"""From what stands in a request line to the path of a site, and back. Pure.

Paths are names to be looked up, never places on a disk. So the rule is short: decode once, drop empty
segments (LXC's template writes ``//``), and refuse what no entry can have: dot segments, control
characters and bytes that are no UTF-8. What is encoded twice stays encoded once, and is not found.
"""

import re
from urllib.parse import quote, unquote_to_bytes

from lxdocker_lxd.errors import UsageError

INDEX = "index.html"
_MOST_BYTES = 4096
# A proxy may send the whole URL (RFC 9112 3.2.2); the host in it changes nothing here.
_ABSOLUTE = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)


class PathError(UsageError):
    """A request path that can name nothing; the message is a line for the client."""


def parse(raw: bytes) -> str:
    """Return the site's path for the undecoded path of a request line.

    Without a slash at its beginning; one at its end stays, for it asks for a directory. Raises
    PathError.
    """
    if len(raw) > _MOST_BYTES:
        raise PathError("the path is too long")
    absolute = _ABSOLUTE.match(raw)
    try:
        rest = raw.removeprefix(absolute[0]) or b"/" if absolute else raw
        text = unquote_to_bytes(rest).decode("utf-8")
    except UnicodeDecodeError as error:
        raise PathError("the path is not UTF-8") from error
    if not text.startswith("/"):
        raise PathError("the path does not begin with a slash")
    if not text.isprintable():
        raise PathError("the path has control characters")
    segments = [segment for segment in text.split("/") if segment]
    if ".." in segments or "." in segments or "\\" in text:
        raise PathError("the path has dot segments or backslashes")
    directory = "/" if segments and text.endswith("/") else ""
    return "/".join(segments) + directory


def spell(path: str) -> str:
    """Return the request path, encoded, that leads to ``path``; never one that names another host."""
    return "/" + quote(path, safe="/:@,+=~!$&'()*;")
