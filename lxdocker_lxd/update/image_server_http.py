"""Asks an image server for a document: the updater's door to simplestreams servers.

Only HTTPS. With a certificate nothing else is trusted; it may be an authority or the server's own.
An answer is bounded in bytes and in time, whatever the server sends and how slowly. A redirect is
followed on the same server only. No cookies, no ``.netrc``; the document is remembered by nobody here.
"""

import contextlib
import http.cookiejar
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter

from lxdocker_lxd import __version__
from lxdocker_lxd.errors import NetworkError

MOST_BYTES = 24 << 20
"""A listing of ten thousand versions has about half of that."""
_SYSTEM_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
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


class _Pinned(HTTPAdapter):
    """Trusts the given certificates alone, each of them as an anchor."""

    def __init__(self, certificate: str) -> None:
        self._certificate = certificate
        super().__init__()

    def init_poolmanager(self, *words: Any, **named: Any) -> None:  # noqa: ANN401 - as requests has it
        """Make the connections' pool with a context of its own."""
        super().init_poolmanager(*words, **named, ssl_context=_context(self._certificate))

    def proxy_manager_for(self, proxy: str, **named: Any) -> Any:  # noqa: ANN401 - as requests has it
        """The same behind a proxy."""
        return super().proxy_manager_for(proxy, **named, ssl_context=_context(self._certificate))

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:  # noqa: ANN401, ARG002 - as requests has it
        """Require a certificate of the context's; requests would add the system's authorities."""
        conn.cert_reqs = "CERT_REQUIRED"


def _context(certificate: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=certificate)
    return context


def ask(url: str, *, certificate: str = "", tag: str = "", most_bytes: int = MOST_BYTES) -> Answer:
    """Return the document; ``tag`` is its ETag as it was known. Raise AskingError.

    ``certificate`` is what is trusted, in PEM; empty for the system's authorities.
    """
    try:
        if urlsplit(url).scheme != "https":
            raise AskingError("it isn't asked: only https:// can be verified")
        with _session(certificate) as session:
            return _asked(session, url, tag, most_bytes)
    except requests.exceptions.SSLError as error:
        raise AskingError("its certificate isn't trusted, or it speaks no TLS") from error
    except requests.exceptions.Timeout as error:
        raise AskingError("it doesn't answer in time") from error
    except (requests.exceptions.RequestException, OSError, ValueError) as error:
        raise AskingError(f"it can't be reached ({type(error).__name__})") from error


def _session(certificate: str) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=()))
    session.headers["User-Agent"] = f"lxdocker-lxd/{__version__}"
    if certificate:
        session.mount("https://", _Pinned(certificate))
    elif Path(_SYSTEM_AUTHORITIES).is_file():
        session.verify = _SYSTEM_AUTHORITIES
    return session


def _asked(session: requests.Session, url: str, tag: str, most_bytes: int) -> Answer:
    deadline = time.monotonic() + _WHOLE_SECONDS
    for _ in range(_MOST_REDIRECTS + 1):
        response = session.get(
            url,
            headers={"If-None-Match": tag} if tag else {},
            timeout=(_CONNECT_SECONDS, _QUIET_SECONDS),
            allow_redirects=False,
            stream=True,
            proxies=dict(requests.utils.get_environ_proxies(url, no_proxy=None)),
        )
        with contextlib.closing(response):
            if response.status_code not in _REDIRECTS:
                return _answer(response, tag, most_bytes, deadline)
            target = urljoin(url, response.headers.get("Location", ""))
            if urlsplit(target)[:2] != urlsplit(url)[:2]:
                raise AskingError("it sends us to another server")
            url = target
    raise AskingError(f"it sends us on more than {_MOST_REDIRECTS} times")


def _answer(response: requests.Response, tag: str, most_bytes: int, deadline: float) -> Answer:
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
        if time.monotonic() > deadline:
            raise AskingError("it doesn't answer in time")
    return Answer(content=bytes(content), tag=response.headers.get("ETag", "")[:200])
