"""A tree behind a URL. The one door to HTTP of all that reads image servers.

Redirects are followed, as LXD does, but never from https to http; where certificates are given, or that
was asked for, only on the same server; their bodies are never read. Cookies and ``.netrc`` are off; nothing
is kept in memory but a block at a time. An answer has a time in which it must begin, and a least speed.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urljoin, urlsplit, urlunsplit

import requests

from lxdocker_lxd.clients.tree import Body, DamagedError, MissingError, UnreachedError
from lxdocker_lxd.errors import NotFoundError, UsageError
from lxdocker_lxd.http_deadline import Deadline, LeastSpeed, Pace
from lxdocker_lxd.http_session import (
    Line,
    Lines,
    environment_proxies,
    pinned,
    system_authorities,
)

_TIMEOUTS_SECONDS = (15.0, 60.0)
_HEAD_SECONDS = 90.0
"""Until an answer's body begins, with all redirects."""
_CHUNK_BYTES = 1 << 18
_PIECE_BYTES = 1 << 15
"""What is waited for at once: small, so that the speed of slow lines is seen too."""
_MOST_REDIRECTS = 5
_FOUND = 200
_HINT = "check the URL, that the server is up, and this machine's network"
_PLAIN_HINT = "try https://: a server of images refuses plain HTTP there"
_MISSING = frozenset({401, 403, 404, 410})


class CertificateRefusedError(UnreachedError):
    """The server's certificate can't be verified."""


class RedirectedError(DamagedError):
    """The server sends us to another one, and that was not asked for."""


class _Answer:
    """A body that arrives."""

    def __init__(self, response: requests.Response, name: str, pace: Pace) -> None:
        self._pieces = response.iter_content(_PIECE_BYTES)
        self._rest = b""
        self._name = name
        self._pace = pace

    def read(self, size_bytes: int, /) -> bytes:
        """Return at most so many bytes; raise UnreachedError or DamagedError."""
        wanted = min(size_bytes, _CHUNK_BYTES)
        while len(self._rest) < wanted and (piece := self._next()):
            self._rest += piece
        found, self._rest = self._rest[:wanted], self._rest[wanted:]
        return found

    def _next(self) -> bytes:
        try:
            with self._pace.waiting():
                piece: bytes = next(self._pieces, b"")
            if not piece:
                self._pace.check()
        except (requests.exceptions.RequestException, OSError) as error:
            if self._pace.too_slow:
                raise _slow_error(self._name, self._pace) from error
            if isinstance(error, requests.exceptions.ContentDecodingError):
                raise DamagedError(f"{self._name}: broken gzip") from error
            raise UnreachedError(f"{self._name}: the connection broke off") from error
        self._pace.received(len(piece))
        return piece


class HttpTree:
    """What a server gives away below a URL. Safe for threads.

    ``authorities`` is a PEM file: the only certificates that are trusted then, each of them may be the
    server's own, and speaks for that server alone: a redirect to another one is refused
    (RedirectedError). The same with ``stay``. An answer's body must begin within ``head_seconds``, and
    come with at least ``speed``.
    """

    is_remote = True

    def __init__(
        self,
        url: str,
        authorities: Path | None = None,
        *,
        stay: bool = False,
        head_seconds: float = _HEAD_SECONDS,
        speed: LeastSpeed | None = None,
    ) -> None:
        if not _is_url(url):
            raise UsageError(f"{url!r}: expected https://host, https://host/path or a directory")
        self._url = url.rstrip("/")
        self.name = _shown(url).rstrip("/")
        self._stay = stay or authorities is not None
        _check_authorities(authorities)
        self._authorities = authorities
        self._proxies: Mapping[str, str] = environment_proxies(url)
        self._head_seconds = head_seconds
        self._speed = speed or LeastSpeed()
        self._lines = Lines(self._line)

    def close(self) -> None:
        """Close all connections."""
        self._lines.close()

    @contextlib.contextmanager
    def open(self, path: str, *, compressed: bool = False) -> Iterator[Body]:
        """Ask for a path; with ``compressed`` MissingError if the server sends it plain."""
        name = f"{self.name}/{path}"
        line = self._lines.borrow()
        pace = Pace(self._speed, line.connections.cut)
        try:
            with contextlib.closing(
                self._asked(line, pace, path, compressed=compressed)
            ) as response:
                _expect(response, name, compressed=compressed)
                pace.sustain()
                yield _Answer(response, name, pace)
        finally:
            pace.end()
            self._lines.give_back(line)

    def _line(self) -> Line:
        given = self._authorities
        if given is not None:
            return Line(trust=lambda: pinned(file=given))
        line = Line()
        line.session.verify = system_authorities()
        return line

    def _asked(self, line: Line, pace: Pace, path: str, *, compressed: bool) -> requests.Response:
        """Return the answer to which the redirects lead, its body unread."""
        name = f"{self.name}/{path}"
        deadline = Deadline.after(self._head_seconds)
        line.connections.begin(deadline.at, None)
        pace.begin(deadline)
        try:
            response = self._followed(line.session, path, "gzip" if compressed else "identity")
            if pace.too_slow:
                # The library takes a head that was cut for a short one.
                response.close()
                pace.check()
        except (requests.exceptions.RequestException, OSError, ValueError) as error:
            if pace.too_slow:
                raise _slow_error(name, pace) from error
            if isinstance(error, requests.exceptions.SSLError):
                raise _tls_error(self.name, error) from error
            raise UnreachedError(
                f"{self.name} can't be reached",
                hint=_PLAIN_HINT if self._url.startswith("http://") else _HINT,
            ) from error
        return response

    def _followed(self, session: requests.Session, path: str, encoding: str) -> requests.Response:
        url = f"{self._url}/{path}"
        credentials = requests.utils.get_auth_from_url(url)
        for _ in range(_MOST_REDIRECTS + 1):
            response = session.get(
                url,
                headers={"Accept-Encoding": encoding},
                auth=credentials if any(credentials) else None,
                stream=True,
                allow_redirects=False,
                timeout=_TIMEOUTS_SECONDS,
                proxies=dict(self._proxies),
            )
            if not response.is_redirect:
                return response
            with contextlib.closing(response):
                target = self._target(response)
            if session.should_strip_auth(response.url, target):  # type: ignore[no-untyped-call]  # requests' own
                credentials = ("", "")
            url = target
        raise DamagedError(f"{self.name}/{path}: more than {_MOST_REDIRECTS} redirects")

    def _target(self, response: requests.Response) -> str:
        """Return where the answer sends us; raise RedirectedError for where nobody may send us."""
        # The library reads headers as latin-1; servers write URLs as UTF-8.
        location = response.headers["Location"].encode("latin-1").decode("utf-8")
        place = _shown(urljoin(response.url, location))
        if self._stay and _origin(place) != _origin(response.url):
            raise RedirectedError(
                f"{_shown(response.url)}: the server sends us to another one, {place}",
                hint="name that server itself, if it is the one you trust",
            )
        if response.url.lower().startswith("https://") and _origin(place)[0] != "https":
            raise RedirectedError(
                f"{_shown(response.url)}: the server sends us to {place}, which isn't https",
                hint="ask who runs the server; whoever is on the way could answer there",
            )
        return place

    def roots(self) -> Sequence[str]:
        """Return the main tree's prefix: a server doesn't list what else it has."""
        return ("",)

    def signed(self, endings: tuple[str, ...]) -> Sequence[tuple[str, str]]:  # noqa: ARG002
        """Return nothing: a server doesn't list what it has."""
        return ()

    def identity(self, path: str) -> object:
        """Return the path."""
        return path


def _shown(url: str) -> str:
    """Return a URL without user and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname or "", parts.port or usual


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _expect(response: requests.Response, name: str, *, compressed: bool) -> None:
    if response.status_code in _MISSING:
        raise MissingError(f"{name}: the server answers {response.status_code}")
    if response.status_code != _FOUND:
        raise UnreachedError(f"{name}: the server answers {response.status_code}")
    if compressed and response.headers.get("Content-Encoding", "").lower() != "gzip":
        raise MissingError(f"{name}: the server sends it plain")


def _check_authorities(file: Path | None) -> None:
    """Raise NotFoundError or UsageError for a file that holds no certificates."""
    if file is None:
        return
    try:
        pinned(file=file)
    except FileNotFoundError as error:
        raise NotFoundError(f"--ca {file}: there is no such file") from error
    except OSError as error:
        raise UsageError(f"--ca {file}: holds no certificate in PEM form") from error


def _slow_error(name: str, pace: Pace) -> UnreachedError:
    return UnreachedError(f"{name}: the server is too slow: {pace.too_slow}", hint=_HINT)


def _tls_error(name: str, error: Exception) -> UnreachedError:
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text or "doesn't match" in text:
        reason = text.partition("certificate verify failed: ")[2].partition(" (_ssl")[0]
        return CertificateRefusedError(
            f"{name}: its certificate is not trusted: {reason or 'another name'}",
            hint="give the CA that signed it with --ca (ca.crt of the server's --tls-dir)",
        )
    return UnreachedError(f"{name}: no TLS connection", hint="is it an http:// server?")
