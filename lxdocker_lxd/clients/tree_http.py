"""A tree behind a URL. The one door to HTTP of all that reads image servers.

Redirects are followed, as LXD does, but never from https to http; where certificates are given, or that
was asked for, only on the same server. Cookies and ``.netrc`` are off; nothing is kept in memory but a
block at a time.
"""

import contextlib
import http.cookiejar
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

import requests
from requests.adapters import HTTPAdapter

from lxdocker_lxd import __version__
from lxdocker_lxd.clients.tree import Body, DamagedError, MissingError, UnreachedError
from lxdocker_lxd.errors import NotFoundError, UsageError

_TIMEOUTS_SECONDS = (15.0, 60.0)
_CHUNK_BYTES = 1 << 18
_MOST_REDIRECTS = 5
_SYSTEM_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
_FOUND = 200
_HINT = "check the URL, that the server is up, and this machine's network"
_PLAIN_HINT = "try https://: a server of images refuses plain HTTP there"
_MISSING = frozenset({401, 403, 404, 410})


class CertificateRefusedError(UnreachedError):
    """The server's certificate can't be verified."""


class RedirectedError(DamagedError):
    """The server sends us to another one, and that was not asked for."""


class _PinnedAdapter(HTTPAdapter):
    """Takes any certificate of the given file for an anchor, a server's own too."""

    def init_poolmanager(self, *words: Any, **named: Any) -> None:  # noqa: ANN401 - as requests has it
        """Make the connections' pool with a context that trusts nothing else."""
        super().init_poolmanager(*words, **named, ssl_context=_empty_context())

    def proxy_manager_for(self, proxy: str, **named: Any) -> Any:  # noqa: ANN401 - as requests has it
        """The same behind a proxy."""
        return super().proxy_manager_for(proxy, **named, ssl_context=_empty_context())


class _Session(requests.Session):
    """A session that may be bound to one server, and remembers nothing of it."""

    def __init__(self, *, stay: bool) -> None:
        super().__init__()
        self._stay = stay
        self.trust_env = False
        self.max_redirects = _MOST_REDIRECTS
        self.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=()))
        self.headers["User-Agent"] = f"lxdocker-lxd/{__version__}"

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return where the answer sends us; raise RedirectedError for where nobody may send us."""
        target = super().get_redirect_target(resp)
        if target is None:
            return None
        place = urljoin(resp.url, target)
        if self._stay and _origin(place) != _origin(resp.url):
            resp.close()
            raise RedirectedError(
                f"{_shown(resp.url)}: the server sends us to another one, {_shown(place)}",
                hint="name that server itself, if it is the one you trust",
            )
        if resp.url.lower().startswith("https://") and _origin(place)[0] != "https":
            resp.close()
            raise RedirectedError(
                f"{_shown(resp.url)}: the server sends us to {_shown(place)}, which isn't https",
                hint="ask who runs the server; whoever is on the way could answer there",
            )
        return target


class _Answer:
    """A body that arrives."""

    def __init__(self, response: requests.Response, name: str) -> None:
        self._chunks = response.iter_content(_CHUNK_BYTES)
        self._rest = b""
        self._name = name

    def read(self, size_bytes: int, /) -> bytes:
        """Return at most so many bytes; raise UnreachedError or DamagedError."""
        if not self._rest:
            try:
                self._rest = next(self._chunks, b"")
            except requests.exceptions.ContentDecodingError as error:
                raise DamagedError(f"{self._name}: broken gzip") from error
            except (requests.exceptions.RequestException, OSError) as error:
                raise UnreachedError(f"{self._name}: the connection broke off") from error
        found, self._rest = self._rest[:size_bytes], self._rest[size_bytes:]
        return found


class HttpTree:
    """What a server gives away below a URL. Each thread has its own connection.

    ``authorities`` is a PEM file: the only certificates that are trusted then, each of them may be the
    server's own, and speaks for that server alone: a redirect to another one is refused
    (RedirectedError). The same with ``stay``.
    """

    is_remote = True

    def __init__(self, url: str, authorities: Path | None = None, *, stay: bool = False) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{url!r}: expected https://host, https://host/path or a directory")
        self._url = url.rstrip("/")
        self.name = _shown(url).rstrip("/")
        self._stay = stay or authorities is not None
        self._pinned = authorities is not None
        self._verify = _authorities(authorities)
        self._proxies: Mapping[str, str] = requests.utils.get_environ_proxies(url, no_proxy=None)
        self._local = threading.local()
        self._sessions: list[requests.Session] = []

    def close(self) -> None:
        """Close all connections."""
        while self._sessions:
            self._sessions.pop().close()

    @contextlib.contextmanager
    def open(self, path: str, *, compressed: bool = False) -> Iterator[Body]:
        """Ask for a path; with ``compressed`` MissingError if the server sends it plain."""
        name = f"{self.name}/{path}"
        try:
            response = self._session().get(
                f"{self._url}/{path}",
                headers={"Accept-Encoding": "gzip" if compressed else "identity"},
                stream=True,
                timeout=_TIMEOUTS_SECONDS,
                verify=self._verify,
                proxies=dict(self._proxies),
            )
        except requests.exceptions.SSLError as error:
            raise _tls_error(self.name, error) from error
        except requests.exceptions.TooManyRedirects as error:
            raise DamagedError(f"{name}: more than {_MOST_REDIRECTS} redirects") from error
        except (requests.exceptions.RequestException, OSError, ValueError) as error:
            raise UnreachedError(
                f"{self.name} can't be reached",
                hint=_PLAIN_HINT if self._url.startswith("http://") else _HINT,
            ) from error
        with contextlib.closing(response):
            _expect(response, name, compressed=compressed)
            yield _Answer(response, name)

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = _Session(stay=self._stay)
            if self._pinned:
                session.mount("https://", _PinnedAdapter())
            self._local.session = session
            self._sessions.append(session)
        return session

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


def _empty_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    return context


def _expect(response: requests.Response, name: str, *, compressed: bool) -> None:
    if response.status_code in _MISSING:
        raise MissingError(f"{name}: the server answers {response.status_code}")
    if response.status_code != _FOUND:
        raise UnreachedError(f"{name}: the server answers {response.status_code}")
    if compressed and response.headers.get("Content-Encoding", "").lower() != "gzip":
        raise MissingError(f"{name}: the server sends it plain")


def _authorities(file: Path | None) -> str | bool:
    """Return what requests calls ``verify``; raise NotFoundError or UsageError."""
    if file is None:
        return _SYSTEM_AUTHORITIES if Path(_SYSTEM_AUTHORITIES).is_file() else True
    try:
        ssl.create_default_context(cafile=str(file))
    except FileNotFoundError as error:
        raise NotFoundError(f"--ca {file}: there is no such file") from error
    except OSError as error:
        raise UsageError(f"--ca {file}: holds no certificate in PEM form") from error
    return str(file)


def _tls_error(name: str, error: Exception) -> UnreachedError:
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text or "doesn't match" in text:
        reason = text.partition("certificate verify failed: ")[2].partition(" (_ssl")[0]
        return CertificateRefusedError(
            f"{name}: its certificate is not trusted: {reason or 'another name'}",
            hint="give the CA that signed it with --ca (ca.crt of the server's --tls-dir)",
        )
    return UnreachedError(f"{name}: no TLS connection", hint="is it an http:// server?")
