"""HTTP as a client: sessions that keep nothing, believe nothing unasked, and are cut when told to.

For all who ask strangers for something: registries, servers of images, webhooks. No cookies, no
``.netrc`` and no other environment; redirects are never looked at, so that their bodies are never
read: whoever follows one decides so for itself. What takes too long is cut off (``kept_to``), in
whatever part of the connection or answer.

Each address a name stands for is judged just before the connection to it, so that a name which
means another address a moment later gains nothing. What a proxy connects to is the proxy's affair.
"""

import contextlib
import http.cookiejar
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from lxdocker_lxd import __version__
from lxdocker_lxd.http_deadline import Deadline, LeastSpeed, Pace, TooLateError

SYSTEM_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Sequence[tuple[Any, ...]]]
"""Returns what ``socket.getaddrinfo`` returns for a name and port."""
Trust = Callable[[], ssl.SSLContext]
"""Makes the context that alone says which certificates are trusted."""


def system_authorities() -> str | bool:
    """Return what requests calls ``verify`` for the system's authorities; True for its own."""
    return SYSTEM_AUTHORITIES if Path(SYSTEM_AUTHORITIES).is_file() else True


def pinned(*, file: Path | None = None, pem: str | None = None) -> ssl.SSLContext:
    """Return a context that trusts the given certificates alone.

    Each may be an authority or a server's own. Raises OSError (SSLError).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cafile=file, cadata=pem)
    return context


def environment_proxies(url: str) -> dict[str, str]:
    """Return the proxies that HTTPS_PROXY, HTTP_PROXY and NO_PROXY ask for."""
    return dict(requests.utils.get_environ_proxies(url, no_proxy=None))


def resolve(name: str, port: int) -> Sequence[tuple[Any, ...]]:
    """Ask this machine's resolver."""
    return socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)


class Connections:
    """All connections of one session, which serves one request at a time.

    ``permit`` raises for an address that the request under way must not go to; ``peer`` is where it
    went, None behind a proxy. ``deadline`` is its end by the monotonic clock.
    """

    def __init__(self, look_up: Resolve) -> None:
        self.look_up = look_up
        self.permit: Callable[[Address], None] | None = None
        self.peer: Address | None = None
        self.deadline = 0.0
        self._lock = threading.Lock()
        self._cut = False
        self._sockets: dict[HTTPConnection, socket.socket] = {}

    def mount(self, session: requests.Session, trust: Trust | None) -> None:
        """Make the session use these connections only."""
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Adapter(self, trust))

    def begin(self, deadline: float, permit: Callable[[Address], None] | None) -> None:
        """Prepare for a request."""
        self.deadline, self.permit, self.peer = deadline, permit, None
        with self._lock:
            self._cut = False

    def watch(self, connection: HTTPConnection, made: socket.socket) -> None:
        """Remember a connection, so that it can be cut.

        A duplicate is kept: TLS takes the socket itself away, and an answer may outlive its
        connection's object.
        """
        with self._lock:
            if before := self._sockets.pop(connection, None):
                before.close()
            self._sockets[connection] = made.dup()
            cut = self._cut
        if cut:
            made.close()
            raise TimeoutError

    def cut(self) -> None:
        """Break all connections, from any thread: whoever waits for one of them wakes up."""
        with self._lock:
            self._cut = True
            for one in self._sockets.values():
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def tidy(self) -> None:
        """After a request: forget connections that aren't kept."""
        with self._lock:
            for connection in [one for one in self._sockets if one.sock is None]:
                self._sockets.pop(connection).close()

    def close(self) -> None:
        """Forget all connections."""
        with self._lock:
            while self._sockets:
                self._sockets.popitem()[1].close()


def address_of(text: str) -> Address:
    """Return the address that a socket's address names, without its zone."""
    return ipaddress.ip_address(text.partition("%")[0])


class _Watched:
    """A connection whose socket is remembered. Mixed into urllib3's classes."""

    connections: Connections

    def _new_conn(self) -> socket.socket:
        made = cast("socket.socket", super()._new_conn())  # type: ignore[misc]  # the mixed-in class has it
        self.connections.watch(cast("HTTPConnection", self), made)
        return made


class _Direct(_Watched):
    """A connection to the server itself."""

    _peer: Address | None = None

    def putrequest(self, *words: Any, **named: Any) -> None:  # noqa: ANN401 - as the base has it
        """Judge the peer for each request: the connection may be older than this one."""
        if cast("HTTPConnection", self).sock is not None and self._peer is not None:
            if self.connections.permit is not None:
                self.connections.permit(self._peer)
            self.connections.peer = self._peer
        super().putrequest(*words, **named)  # type: ignore[misc]  # the mixed-in class has it

    def _new_conn(self) -> socket.socket:
        connection = cast("HTTPConnection", self)
        try:
            found = self.connections.look_up(connection.host, connection.port)
        except socket.gaierror as error:
            raise NameResolutionError(connection.host, connection, error) from error
        except UnicodeError as error:
            raise NewConnectionError(connection, "not a host name") from error
        failure: OSError = OSError("no address")
        for number, (family, kind, protocol, _name, place) in enumerate(found):
            peer = address_of(str(place[0]))
            if self.connections.permit is not None:
                self.connections.permit(peer)
            # Each may use its share of what is left: some may be addresses of a network that is broken.
            share = 1 / (len(found) - number)
            try:
                made = _connect(
                    connection, self.connections, (family, kind, protocol), place, share=share
                )
            except OSError as error:
                failure = error
                continue
            self._peer = self.connections.peer = peer
            self.connections.watch(connection, made)
            return made
        if isinstance(failure, TimeoutError):
            raise ConnectTimeoutError(connection, "no answer in time") from failure
        raise NewConnectionError(connection, "no connection") from failure


def _connect(
    connection: HTTPConnection,
    connections: Connections,
    kind: tuple[int, int, int],
    place: tuple[Any, ...],
    *,
    share: float,
) -> socket.socket:
    left = (connections.deadline - time.monotonic()) * share
    if left <= 0:
        raise TimeoutError
    timeout = connection.timeout
    made = socket.socket(*kind)
    try:
        for option in connection.socket_options or ():
            made.setsockopt(*option)
        made.settimeout(min(left, timeout) if isinstance(timeout, float | int) else left)
        made.connect(place)
        made.settimeout(timeout)
    except BaseException:
        made.close()
        raise
    return made


class _Session(requests.Session):
    """A session that never looks where an answer sends us; its library would read all of the body."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return that it sends us nowhere."""


class Line:
    """A session of requests with its connections; for one request at a time.

    ``trust`` says which certificates are trusted, instead of requests' ``verify``.
    """

    def __init__(self, look_up: Resolve = resolve, *, trust: Trust | None = None) -> None:
        self.connections = Connections(look_up)
        self.session = _Session()
        self.connections.mount(self.session, trust)
        self.session.trust_env = False
        self.session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=()))
        self.session.headers["User-Agent"] = f"lxdocker-lxd/{__version__}"

    def close(self) -> None:
        """Close all connections."""
        self.session.close()
        self.connections.close()


class Lines:
    """The idle lines of one client, each made by ``make``. Safe for threads."""

    def __init__(self, make: Callable[[], Line]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._idle: list[Line] = []
        self._closed = False

    def borrow(self) -> Line:
        """Return a line that nobody uses."""
        with self._lock:
            return self._idle.pop() if self._idle else self._make()

    def give_back(self, line: Line) -> None:
        """Keep a line for the next request; after ``close`` close it."""
        line.connections.tidy()
        with self._lock:
            if not self._closed:
                self._idle.append(line)
                return
        line.close()

    def close(self) -> None:
        """Close all lines; those in use when they are given back."""
        with self._lock:
            self._closed = True
            while self._idle:
                self._idle.pop().close()


@contextlib.contextmanager
def kept_to(deadline: Deadline, line: Line, speed: LeastSpeed | None = None) -> Iterator[Pace]:
    """Cut the line at the deadline, whatever the block waits for then.

    What fails in the block because of that becomes TooLateError. A body of unknown length doesn't
    fail, it ends: ``Pace.check`` tells.
    """
    pace = Pace(speed or LeastSpeed(), line.connections.cut)
    line.connections.begin(deadline.at, None)
    pace.begin(deadline)
    try:
        yield pace
    except (requests.exceptions.RequestException, OSError) as error:
        if pace.too_slow:
            raise TooLateError(pace.too_slow) from error
        raise
    finally:
        pace.end()


class _Adapter(HTTPAdapter):
    """Takes connections of ours, behind a proxy too; trusts what it is told to, if anything."""

    def __init__(self, connections: Connections, trust: Trust | None) -> None:
        self._connections = connections
        self._trust = trust
        super().__init__()

    def init_poolmanager(self, *words: Any, **named: Any) -> None:  # noqa: ANN401 - as requests has it
        """Make the pools of direct connections."""
        super().init_poolmanager(*words, **(named | self._context()))
        self._use(self.poolmanager, _Direct)

    def proxy_manager_for(self, proxy: str, **named: Any) -> Any:  # noqa: ANN401 - as requests has it
        """Make the pools of connections to a proxy."""
        known = proxy in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **(named | self._context()))
        if not known:
            self._use(manager, _Watched)
        return manager

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:  # noqa: ANN401 - as requests has it
        """With a context of ours require a certificate that it trusts: requests would add others."""
        if self._trust is None:
            super().cert_verify(conn, url, verify, cert)  # type: ignore[no-untyped-call]  # requests' own
        else:
            conn.cert_reqs = "CERT_REQUIRED"

    def _context(self) -> dict[str, Any]:
        return {} if self._trust is None else {"ssl_context": self._trust()}

    def _use(self, manager: urllib3.PoolManager, mixed: type[_Watched]) -> None:
        """Keep what the manager's own classes do (a SOCKS proxy has others), and watch it."""
        classes: Mapping[str, Any] = manager.pool_classes_by_scheme
        manager.pool_classes_by_scheme = {
            scheme: self._watched(pool, mixed) for scheme, pool in classes.items()
        }

    def _watched(self, pool: Any, mixed: type[_Watched]) -> Any:  # noqa: ANN401 - classes of urllib3
        own = {"connections": self._connections}
        connection = type(f"Our{pool.ConnectionCls.__name__}", (mixed, pool.ConnectionCls), own)
        return type(f"Our{pool.__name__}", (pool,), {"ConnectionCls": connection})
