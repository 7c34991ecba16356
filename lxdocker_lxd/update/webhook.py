"""Tells by HTTP: webhooks, and the dead man's ping. The one door of ``update`` to HTTP as a client.

Certificates are verified. A redirect is followed only on the same host, scheme and port, and only
where it keeps method and body (307, 308): a token in a header never reaches anybody else. No
cookies, no ``.netrc``. A URL may hold a token, so no message of ours repeats one.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import requests

from lxdocker_lxd.http_deadline import Deadline, Pace, TooLateError
from lxdocker_lxd.http_session import Line, environment_proxies, kept_to, system_authorities
from lxdocker_lxd.update.delivery import Delivery, Result, delivery_of_status
from lxdocker_lxd.update.message_template import BodyTemplate
from lxdocker_lxd.update.notification import Message, Severity
from lxdocker_lxd.update.settings import problem_of_url

_KEPT_REDIRECTS = frozenset({307, 308})
_MOST_REDIRECTS = 3
_LONGEST_CONNECT_SECONDS = 10.0
_MOST_ANSWER_BYTES = 1 << 16
_PIECE_BYTES = 1 << 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where to send to. ``url`` and ``headers`` may be secret and aren't shown.

    The files are read at each request, so that they may change; ``url_file`` holds the URL instead
    of ``url``, ``header_files`` one header's value each. ``insecure`` allows plain HTTP to others.
    """

    url: str = field(default="", repr=False)
    url_file: Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    header_files: Mapping[str, Path] = field(default_factory=dict)
    ca_file: Path | None = None
    insecure: bool = False
    timeout_seconds: float = 30.0


class _FileError(Exception):
    """A file of the address that can't be read."""


def _now() -> datetime:
    return datetime.now(UTC)


def ask(
    address: Address,
    method: str,
    body: bytes | None,
    headers: Mapping[str, str],
    *,
    clock: Callable[[], datetime] = _now,
) -> Delivery:
    """Send one request and say what became of it; never raises for what the server does."""
    try:
        return _asked(address, method, body, headers, clock)
    except _FileError as error:
        reason = str(error)
    except requests.exceptions.SSLError:
        reason = "the server's certificate isn't trusted"
    except (requests.exceptions.Timeout, TooLateError):
        reason = "the server doesn't answer in time"
    except requests.exceptions.ConnectionError:
        reason = "the server can't be reached"
    except (requests.exceptions.RequestException, OSError, ValueError) as error:
        # Only the kind: the text may hold the URL.
        reason = f"the request failed ({type(error).__name__})"
    return Delivery(result=Result.LATER, reason=reason)


def _asked(
    address: Address,
    method: str,
    body: bytes | None,
    headers: Mapping[str, str],
    clock: Callable[[], datetime],
) -> Delivery:
    url = _content(address.url_file) if address.url_file is not None else address.url
    problem = problem_of_url(url, insecure=address.insecure)
    if problem:
        return Delivery(result=Result.LATER, reason=problem)
    secret = {name: _content(path) for name, path in address.header_files.items()}
    sent = {**headers, **address.headers, **secret}
    seconds = address.timeout_seconds
    with (
        contextlib.closing(_line(address)) as line,
        kept_to(Deadline.after(seconds), line) as pace,
    ):
        status, retry_after = _follow(line.session, pace, seconds, method, url, body, sent)
    return delivery_of_status(status, retry_after, clock())


def _content(path: Path) -> str:
    try:
        text = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise _FileError(f"read {path}: {type(error).__name__}") from error
    if not text or "\n" in text or "\r" in text:
        raise _FileError(f"read {path}: one line is expected")
    return text


def _line(address: Address) -> Line:
    line = Line()
    line.session.verify = system_authorities() if not address.ca_file else str(address.ca_file)
    return line


def _follow(
    session: requests.Session,
    pace: Pace,
    seconds: float,
    method: str,
    url: str,
    body: bytes | None,
    headers: Mapping[str, str],
) -> tuple[int, str]:
    """Return the last answer's status and Retry-After."""
    hops = 0
    while True:
        response = session.request(
            method,
            url,
            data=body,
            headers=dict(headers),
            timeout=(min(seconds, _LONGEST_CONNECT_SECONDS), seconds),
            allow_redirects=False,
            stream=True,
            proxies=environment_proxies(url),
        )
        with contextlib.closing(response):
            pace.check()  # The library takes a head that was cut for a short one.
            status = response.status_code
            target = urljoin(url, response.headers.get("Location", ""))
            kept = status in _KEPT_REDIRECTS and _origin(target) == _origin(url)
            if not kept or hops == _MOST_REDIRECTS:
                _read_off(response)
                return status, response.headers.get("Retry-After", "")
        url, hops = target, hops + 1


def _read_off(response: requests.Response) -> None:
    """Read an answer to its end, or as far as is good for us: its status is what counts."""
    read = 0
    with contextlib.suppress(requests.exceptions.RequestException, OSError):
        for piece in response.iter_content(_PIECE_BYTES):
            read += len(piece)
            if read > _MOST_ANSWER_BYTES:
                return


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    return (parts.scheme, parts.hostname, port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Implements :class:`Receiver`: one POST for each message."""

    name: str
    address: Address
    body: BodyTemplate = field(default_factory=BodyTemplate)
    minimum: Severity = Severity.INFO
    clock: Callable[[], datetime] = _now

    def wants(self, message: Message) -> bool:
        """Whether the message matters enough."""
        return message.severity.rank >= self.minimum.rank

    def deliver(self, message: Message) -> Delivery:
        """Send the message once; its id lets the receiver see that it has it already."""
        headers = {"Content-Type": self.body.content_type, "Idempotency-Key": message.id}
        return ask(self.address, "POST", self.body.render(message), headers, clock=self.clock)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """The dead man's switch: who isn't asked for a while raises the alarm. Never kept for later."""

    address: Address

    def good_round(self) -> Delivery:
        """Ask the URL once, after a round in which nothing went wrong."""
        return ask(self.address, "GET", None, {})
