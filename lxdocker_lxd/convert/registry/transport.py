"""The one door to HTTP: a request goes out, an answer comes back with its body unread.

Everything else works with :class:`Answer`; no other module knows which library speaks HTTP.
Deliberate choices: redirects are never followed here; ``.netrc``, cookies and compressed
transfer are off, because each of them would change credentials or bytes behind our back; a
session serves one request at a time and goes back to the idle ones with its answer.
"""

import functools
import http.client
import http.cookiejar
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import requests
import urllib3

from lxdocker_lxd import __version__
from lxdocker_lxd.convert.registry.origin import Origin
from lxdocker_lxd.convert.registry.retry import TemporaryError
from lxdocker_lxd.convert.registry.settings import RegistrySettings, is_loopback
from lxdocker_lxd.errors import NetworkError, UsageError, VerificationError

CONNECT_TIMEOUT_SECONDS = 15.0
READ_TIMEOUT_SECONDS = 60.0
_CHUNK_BYTES = 1 << 18
_DRAIN_BYTES = 1 << 16
_SYSTEM_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
_BROKEN = (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError)


class UnreachableError(TemporaryError):
    """Nobody answers: no such host, no route, refused, too slow."""

    most_attempts = 3


class NotTlsError(NetworkError):
    """The peer doesn't speak TLS at all."""


class UntrustedCertificateError(NetworkError):
    """The peer's certificate can't be verified."""


class AnswerInterruptedError(TemporaryError):
    """An answer's body broke off."""


class AnswerTooLongError(VerificationError):
    """An answer's body is longer than anything sensible of its kind."""


class Answer:
    """Status, headers and an unread body; close it, or use it as a context manager."""

    def __init__(
        self, response: requests.Response, url: str, origin: Origin, release: Callable[[], None]
    ) -> None:
        self._response = response
        self._release: Callable[[], None] | None = release
        self._pending: AnswerInterruptedError | None = None
        self.url = url
        self.origin = origin
        # Where the request that ended here began; differs after redirects.
        self.first_origin = origin
        self.status: int = response.status_code

    def header(self, name: str) -> str | None:
        """Return a header's value, None when it wasn't sent."""
        value: str | None = self._response.headers.get(name)
        return value

    def headers(self, name: str) -> tuple[str, ...]:
        """Return every value of a header that was sent several times."""
        return tuple(self._response.raw.headers.getlist(name))

    @property
    def lower_headers(self) -> Mapping[str, str]:
        """All headers by lower-case name."""
        return {name.lower(): value for name, value in self._response.headers.items()}

    @property
    def content_length(self) -> int | None:
        """The announced size of the body in bytes, None when there is none."""
        text = self.header("Content-Length")
        return int(text) if text and text.isascii() and text.isdigit() else None

    @property
    def media_type(self) -> str:
        """Content-Type in lower case, without parameters; empty when it wasn't sent."""
        return (self.header("Content-Type") or "").partition(";")[0].strip().lower()

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` raw bytes; whatever came before a break is returned before it.

        Raises AnswerInterruptedError.
        """
        if self._pending is not None:
            raise self._pending
        wanted = _CHUNK_BYTES if size < 0 else size
        pieces: list[bytes] = []
        got = 0
        while got < min(wanted, _CHUNK_BYTES):
            try:
                # read1 hands over what one system call brought, so a reset loses nothing.
                piece: bytes = self._response.raw.read1(wanted - got, decode_content=False)
            except _BROKEN as error:
                self._pending = AnswerInterruptedError(f"{self.origin.host}: {_reason(error)}")
                self._pending.__cause__ = error
                if pieces:
                    break
                raise self._pending from error
            if not piece:
                break
            pieces.append(piece)
            got += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read_all(self, limit_bytes: int, *, what: str) -> bytes:
        """Return the whole body; raise AnswerTooLongError instead of reading past the limit."""
        announced = self.content_length
        pieces: list[bytes] = []
        seen = 0
        if announced is None or announced <= limit_bytes:
            while piece := self.read(limit_bytes + 1 - seen):
                pieces.append(piece)
                seen += len(piece)
                if seen > limit_bytes:
                    break
        if seen > limit_bytes or (announced or 0) > limit_bytes:
            raise AnswerTooLongError(
                f"{what}: {self.origin.host} answers with more than {limit_bytes} bytes"
            )
        return b"".join(pieces)

    def close(self) -> None:
        """Give the connection back; a short rest of the body is read so that it can be reused."""
        if self._release is None:
            return
        try:
            length = self.content_length
            if length is not None and length <= _DRAIN_BYTES and self._pending is None:
                self._response.raw.read(_DRAIN_BYTES, decode_content=False)
        except _BROKEN:
            pass
        self._response.close()
        self._release()
        self._release = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Transport:
    """Sends requests. Safe for threads; ``close`` ends all its connections."""

    def __init__(
        self,
        *,
        connect_timeout_seconds: float = CONNECT_TIMEOUT_SECONDS,
        read_timeout_seconds: float = READ_TIMEOUT_SECONDS,
        proxy_of: Callable[[str], Mapping[str, str]] | None = None,
    ) -> None:
        self._timeouts = (connect_timeout_seconds, read_timeout_seconds)
        self._environment_proxies = proxy_of or _environment_proxies
        self._lock = threading.Lock()
        self._idle: list[requests.Session] = []
        self._closed = False
        self._checked_authorities: set[str] = set()

    def send(
        self,
        method: str,
        url: str,
        *,
        settings: RegistrySettings,
        what: str,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request and return its answer, whatever its status.

        ``settings`` are those of the URL's host. Raises UnreachableError, NotTlsError,
        UntrustedCertificateError, UsageError (a CA file that can't be used).
        """
        origin = Origin.of(url, what=what)
        verify = self._authorities(settings)
        session = self._borrow()
        try:
            response = session.request(
                method,
                url,
                headers=dict(headers or {}),
                data=None if form is None else dict(form),
                stream=True,
                allow_redirects=False,
                timeout=self._timeouts,
                verify=verify,
                proxies=dict(self._proxies(url, settings)),
            )
        except requests.exceptions.SSLError as error:
            self._give_back(session)
            raise _tls_error(error, origin, settings, what) from error
        except (requests.exceptions.RequestException, *_BROKEN) as error:
            self._give_back(session)
            raise UnreachableError(
                f"{what}: {origin.host} can't be reached: {_reason(error)}",
                hint=_unreachable_hint(error, origin, settings),
            ) from error
        return Answer(response, url, origin, functools.partial(self._give_back, session))

    def close(self) -> None:
        """Close every connection; those in use when their answer is closed."""
        with self._lock:
            self._closed = True
            while self._idle:
                self._idle.pop().close()

    def _borrow(self) -> requests.Session:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        session = requests.Session()
        session.trust_env = False
        session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=()))
        session.headers.update(
            {"Accept-Encoding": "identity", "User-Agent": f"lxdocker-lxd/{__version__}"}
        )
        return session

    def _give_back(self, session: requests.Session) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(session)
                return
        session.close()

    def _authorities(self, settings: RegistrySettings) -> str | bool:
        """Return what requests calls ``verify``: a file of authorities, or its own (True)."""
        if settings.ca_file is None:
            return _SYSTEM_AUTHORITIES if Path(_SYSTEM_AUTHORITIES).is_file() else True
        if settings.ca_file not in self._checked_authorities:
            _check_authorities(settings.ca_file, settings.host)
            self._checked_authorities.add(settings.ca_file)
        return settings.ca_file

    def _proxies(self, url: str, settings: RegistrySettings) -> Mapping[str, str]:
        if settings.proxy is not None:
            return {"http": settings.proxy, "https": settings.proxy} if settings.proxy else {}
        return {} if is_loopback(settings.host) else self._environment_proxies(url)


def _environment_proxies(url: str) -> Mapping[str, str]:
    """Return the proxies HTTPS_PROXY, HTTP_PROXY and NO_PROXY ask for."""
    return requests.utils.get_environ_proxies(url, no_proxy=None)


def _check_authorities(file: str, host: str) -> None:
    hint = f"check ca_file of {host} under registries: in the settings file"
    try:
        ssl.create_default_context(cafile=file)
    except ssl.SSLError as error:
        raise UsageError(f"{file}: holds no certificate in PEM form", hint=hint) from error
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}", hint=hint) from error


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and all it wraps; the libraries hide causes in four different places."""
    pending: list[object] = [error]
    seen: set[int] = set()
    while pending:
        one = pending.pop(0)
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            pending += [*one.args, getattr(one, "reason", None), one.__cause__, one.__context__]


def _reason(error: BaseException) -> str:
    """Return a few words a user understands; never a URL, which may hold secrets."""
    for one in _chain(error):
        if isinstance(one, OSError) and one.strerror and not isinstance(one, ssl.SSLError):
            return one.strerror
    for one in _chain(error):
        if isinstance(one, urllib3.exceptions.ConnectTimeoutError | TimeoutError):
            return "no answer in time"
        if isinstance(one, urllib3.exceptions.ReadTimeoutError):
            return "it stopped sending"
        if isinstance(one, urllib3.exceptions.IncompleteRead | http.client.IncompleteRead):
            return "the connection was closed too early"
        if isinstance(one, http.client.RemoteDisconnected):
            return "the connection was closed without an answer"
    return type(error).__name__


def _unreachable_hint(error: BaseException, origin: Origin, settings: RegistrySettings) -> str:
    if any(isinstance(one, urllib3.exceptions.ProxyError) for one in _chain(error)):
        where = "its proxy under registries: in the settings file"
        return f"the proxy refused or can't be reached: check {where}, or HTTPS_PROXY"
    if any(isinstance(one, socket.gaierror) for one in _chain(error)):
        return f"check the spelling of {origin.host}, and this machine's name resolution"
    proxy = "" if settings.proxy is None else " and the proxy set for it"
    return f"check that {origin.host} is up and this machine's network{proxy}"


def _tls_error(
    error: BaseException, origin: Origin, settings: RegistrySettings, what: str
) -> NetworkError:
    for one in _chain(error):
        if isinstance(one, ssl.SSLCertVerificationError):
            reason = one.verify_message
            if settings.ca_file:
                hint = (
                    f"{settings.ca_file}, the ca_file of {settings.host}, must hold its authority"
                )
            else:
                hint = (
                    f"for a private authority, set ca_file of {settings.host} under registries:"
                    " in the settings file"
                )
            return UntrustedCertificateError(
                f"{what}: the certificate of {origin.host} can't be verified: {reason}", hint=hint
            )
    reset = any(isinstance(one, ConnectionError | ssl.SSLEOFError) for one in _chain(error))
    plain = any("WRONG_VERSION" in str(one) or "RECORD_LAYER" in str(one) for one in _chain(error))
    if reset and not plain:
        return UnreachableError(
            f"{what}: {origin.host} closed the connection during the TLS greeting"
        )
    return NotTlsError(
        f"{what}: {origin.host} doesn't speak TLS",
        hint=f"if plain http is meant, set insecure: true for {settings.host} under registries:"
        " in the settings file",
    )
