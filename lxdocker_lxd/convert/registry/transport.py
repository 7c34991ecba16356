"""The one door to HTTP: a request goes out, an answer comes back with its body unread.

Everything else works with :class:`Answer`; no other module of the registry's knows which library
speaks HTTP.
Deliberate choices: redirects are never followed here; ``.netrc``, cookies and compressed
transfer are off, because each of them would change credentials or bytes behind our back; a
session serves one request at a time and goes back to the idle ones with its answer. What is judged of
a URL is judged as the library has prepared it; an answer that takes too long is cut off.
"""

import functools
import http.client
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Self

import requests
import urllib3

from lxdocker_lxd.convert.registry.header_number import parse_count
from lxdocker_lxd.convert.registry.origin import Address, Origin, UnsafeAddressError
from lxdocker_lxd.convert.registry.retry import TemporaryError
from lxdocker_lxd.convert.registry.settings import RegistrySettings, TransferLimits, is_loopback
from lxdocker_lxd.errors import NetworkError, UsageError, VerificationError
from lxdocker_lxd.http_deadline import Deadline, LeastSpeed, Pace
from lxdocker_lxd.http_session import (
    Line,
    Lines,
    Resolve,
    environment_proxies,
    resolve,
    system_authorities,
)

_CHUNK_BYTES = 1 << 18
_DRAIN_BYTES = 1 << 16
_BROKEN = (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError)


class UnreachableError(TemporaryError):
    """Nobody answers: no such host, no route, refused, too slow."""

    most_attempts = 3


class TooSlowError(UnreachableError):
    """The whole of a small answer, or the beginning of a large one, didn't come in time."""

    most_attempts = 2


class NotTlsError(NetworkError):
    """The peer doesn't speak TLS at all."""


class UntrustedCertificateError(NetworkError):
    """The peer's certificate can't be verified."""


class AnswerInterruptedError(TemporaryError):
    """An answer's body broke off."""


class AnswerTooSlowError(AnswerInterruptedError):
    """An answer's body came more slowly than the least speed, and was cut off."""


class AnswerTooLongError(VerificationError):
    """An answer's body is longer than anything sensible of its kind."""


class Answer:
    """Status, headers and an unread body; close it, or use it as a context manager."""

    def __init__(
        self,
        response: requests.Response,
        url: str,
        origin: Origin,
        pace: Pace,
        release: Callable[[], None],
    ) -> None:
        self._response = response
        self._pace = pace
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
        return parse_count(self.header("Content-Length"))

    @property
    def media_type(self) -> str:
        """Content-Type in lower case, without parameters; empty when it wasn't sent."""
        return (self.header("Content-Type") or "").partition(";")[0].strip().lower()

    def sustain(self) -> None:
        """Let the body take any time, as long as it comes fast enough; for blobs."""
        self._pace.sustain()

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
                with self._pace.waiting():
                    piece: bytes = self._response.raw.read1(wanted - got, decode_content=False)
            except _BROKEN as error:
                self._pending = self._interrupted(_reason(error))
                self._pending.__cause__ = error
                if pieces:
                    break
                raise self._pending from error
            if not piece:
                if self._pace.too_slow:
                    # A body of unknown length ends, for its reader, where it was cut.
                    self._pending = self._interrupted("")
                    if not pieces:
                        raise self._pending
                break
            self._pace.received(len(piece))
            pieces.append(piece)
            got += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _interrupted(self, reason: str) -> AnswerInterruptedError:
        if self._pace.too_slow:
            return AnswerTooSlowError(f"{self.origin.host}: {self._pace.too_slow}")
        return AnswerInterruptedError(f"{self.origin.host}: {reason}")

    def read_all(self, limit_bytes: int, *, what: str) -> bytes:
        """Return the whole body; raise AnswerTooLongError instead of reading past the limit."""
        announced = self.content_length
        pieces: list[bytes] = []
        seen = 0
        if announced is None or announced <= limit_bytes:
            try:
                while seen <= limit_bytes and (piece := self.read(limit_bytes + 1 - seen)):
                    pieces.append(piece)
                    seen += len(piece)
            except AnswerTooSlowError as error:
                raise _too_slow(self.origin, self._pace, what) from error
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
        self._pace.end()
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
        limits: TransferLimits | None = None,
        *,
        proxy_of: Callable[[str], Mapping[str, str]] | None = None,
        look_up: Resolve = resolve,
    ) -> None:
        self.limits = limits or TransferLimits()
        self._environment_proxies = proxy_of or environment_proxies
        self._look_up = look_up
        self._speed = LeastSpeed(
            window_seconds=self.limits.window_seconds,
            least_bytes_per_second=self.limits.least_bytes_per_second,
        )
        self._lines = Lines(self._line)
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
        deadline: Deadline | None = None,
        permit: Callable[[Address], None] | None = None,
    ) -> Answer:
        """Send one request and return its answer, whatever its status.

        ``settings`` are those of the URL's host. Without ``deadline`` it has the time of a document.
        ``permit`` raises for an address that must not be connected to. Raises UnreachableError
        (TooSlowError), NotTlsError, UntrustedCertificateError, UsageError (a CA file that can't be
        used), UnsafeAddressError.
        """
        verify = self._authorities(settings)
        deadline = deadline or Deadline.after(self.limits.document_seconds)
        line = self._lines.borrow()
        pace = Pace(self._speed, line.connections.cut)
        try:
            request = requests.Request(method, url, headers=headers, data=form)
            prepared, origin = _prepared(line.session, request, what)
            line.connections.begin(deadline.at, permit)
            pace.begin(deadline)
            response = line.session.send(
                prepared,
                stream=True,
                allow_redirects=False,
                timeout=(self.limits.connect_seconds, self.limits.quiet_seconds),
                verify=verify,
                proxies=dict(self._proxies(url, settings)),
            )
            if pace.too_slow:
                # The library takes a head that was cut for a short one.
                response.close()
                pace.check()
        except (requests.exceptions.RequestException, *_BROKEN) as error:
            self._give_back(line, pace)
            raise _sending_error(error, pace, origin, settings, what) from error
        except BaseException:
            self._give_back(line, pace)
            raise
        origin = replace(origin, peer=line.connections.peer)
        return Answer(response, url, origin, pace, functools.partial(self._give_back, line, pace))

    def close(self) -> None:
        """Close every connection; those in use when their answer is closed."""
        self._lines.close()

    def _line(self) -> Line:
        line = Line(self._look_up)
        line.session.headers["Accept-Encoding"] = "identity"
        return line

    def _give_back(self, line: Line, pace: Pace) -> None:
        pace.end()
        self._lines.give_back(line)

    def _authorities(self, settings: RegistrySettings) -> str | bool:
        """Return what requests calls ``verify``: a file of authorities, or its own (True)."""
        if settings.ca_file is None:
            return system_authorities()
        if settings.ca_file not in self._checked_authorities:
            _check_authorities(settings.ca_file, settings.host)
            self._checked_authorities.add(settings.ca_file)
        return settings.ca_file

    def _proxies(self, url: str, settings: RegistrySettings) -> Mapping[str, str]:
        if settings.proxy is not None:
            return {"http": settings.proxy, "https": settings.proxy} if settings.proxy else {}
        return {} if is_loopback(settings.host) else self._environment_proxies(url)


def _prepared(
    session: requests.Session, request: requests.Request, what: str
) -> tuple[requests.PreparedRequest, Origin]:
    """Return the request as the library will send it, and where it goes.

    Callers judged the URL as they had it: raises UnsafeAddressError if the library reads another origin.
    """
    judged = Origin.of(request.url, what=what)
    try:
        prepared = session.prepare_request(request)
    except (requests.exceptions.RequestException, ValueError) as error:
        raise UnsafeAddressError(f"{what}: the address is not a URL") from error
    origin = Origin.of(prepared.url or "", what=what)
    if origin != judged:
        raise UnsafeAddressError(f"{what}: an address that may mean {judged} or {origin}")
    return prepared, origin


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


def _too_slow(origin: Origin, pace: Pace, what: str) -> TooSlowError:
    """Return the error for an answer that was cut off."""
    return TooSlowError(
        f"{what}: {origin.host} is too slow: {pace.too_slow}",
        hint=f"check {origin.host} and this machine's network, then run it again",
    )


def _sending_error(
    error: BaseException, pace: Pace, origin: Origin, settings: RegistrySettings, what: str
) -> NetworkError:
    if pace.too_slow:
        return _too_slow(origin, pace, what)
    if isinstance(error, requests.exceptions.SSLError):
        return _tls_error(error, origin, settings, what)
    return UnreachableError(
        f"{what}: {origin.host} can't be reached: {_reason(error)}",
        hint=_unreachable_hint(error, origin, settings),
    )


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
