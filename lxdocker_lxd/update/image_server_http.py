"""Asks an image server for a document: the updater's door to simplestreams servers.

Only HTTPS. With a certificate nothing else is trusted; it may be an authority or the server's own.
An answer is bounded in bytes and in time, whatever the server sends and how slowly. A redirect is
followed on the same server only, and its body never read. No cookies, no ``.netrc``; the document is
remembered by nobody here.
"""

import contextlib
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import requests

from lxdocker_lxd.errors import NetworkError
from lxdocker_lxd.http_deadline import Deadline, TooLateError
from lxdocker_lxd.http_session import Line, environment_proxies, kept_to, pinned, system_authorities

MOST_BYTES = 24 << 20
"""A listing of ten thousand versions has about half of that."""
_CONNECT_SECONDS = 10.0
_QUIET_SECONDS = 15.0
_WHOLE_SECONDS = 60.0
_PIECE_BYTES = 1 << 16
_MOST_REDIRECTS = 3
_FOUND, _UNCHANGED = 200, 304
_MISSING = frozenset({404, 410})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class AskingError(NetworkError):
    """An image server that can't be asked, or answers what nobody can use."""


class NoSuchDocumentError(AskingError):
    """The server says that it has no such document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A document; ``content`` is None when it is still the one with the tag that was given."""

    content: bytes | None
    tag: str = ""


def ask(
    url: str,
    *,
    certificate: str = "",
    tag: str = "",
    most_bytes: int = MOST_BYTES,
    whole_seconds: float = _WHOLE_SECONDS,
) -> Answer:
    """Return the document; ``tag`` is its ETag as it was known. Raise AskingError.

    ``certificate`` is what is trusted, in PEM; empty for the system's authorities. All of it, with
    redirects, has ``whole_seconds``.
    """
    try:
        if urlsplit(url).scheme != "https":
            raise AskingError("it isn't asked: only https:// can be verified")
        with (
            contextlib.closing(_line(certificate)) as line,
            kept_to(Deadline.after(whole_seconds), line) as pace,
        ):
            answer = _asked(line.session, url, tag, most_bytes)
            pace.check()
            return answer
    except requests.exceptions.SSLError as error:
        raise AskingError("its certificate isn't trusted, or it speaks no TLS") from error
    except (requests.exceptions.Timeout, TooLateError) as error:
        raise AskingError("it doesn't answer in time") from error
    except (requests.exceptions.RequestException, OSError, ValueError) as error:
        raise AskingError(f"it can't be reached ({type(error).__name__})") from error


def _line(certificate: str) -> Line:
    if certificate:
        return Line(trust=lambda: pinned(pem=certificate))
    line = Line()
    line.session.verify = system_authorities()
    return line


def _asked(session: requests.Session, url: str, tag: str, most_bytes: int) -> Answer:
    for _ in range(_MOST_REDIRECTS + 1):
        response = session.get(
            url,
            headers={"If-None-Match": tag} if tag else {},
            timeout=(_CONNECT_SECONDS, _QUIET_SECONDS),
            allow_redirects=False,
            stream=True,
            proxies=environment_proxies(url),
        )
        with contextlib.closing(response):
            if response.status_code not in _REDIRECTS:
                return _answer(response, tag, most_bytes)
            target = urljoin(url, response.headers.get("Location", ""))
            if urlsplit(target)[:2] != urlsplit(url)[:2]:
                raise AskingError("it sends us to another server")
            url = target
    raise AskingError(f"it sends us on more than {_MOST_REDIRECTS} times")


def _answer(response: requests.Response, tag: str, most_bytes: int) -> Answer:
    if response.status_code == _UNCHANGED and tag:
        return Answer(content=None, tag=tag)
    if response.status_code in _MISSING:
        raise NoSuchDocumentError(f"it answers {response.status_code}")
    if response.status_code != _FOUND:
        raise AskingError(f"it answers {response.status_code}")
    content = bytearray()
    for piece in response.iter_content(_PIECE_BYTES):
        content += piece
        if len(content) > most_bytes:
            raise AskingError(f"its document is larger than {most_bytes >> 20} MiB")
    return Answer(content=bytes(content), tag=response.headers.get("ETag", "")[:200])
