"""The TCP connections of one session: to permitted addresses only, and cut when told to.

Each address a name stands for is judged just before the connection to it, so that a name which
means another address a moment later gains nothing. What a proxy connects to is the proxy's affair.
"""

import contextlib
import http.cookiejar
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from lxdocker_lxd import __version__
from lxdocker_lxd.convert.registry.origin import Address

Resolve = Callable[[str, int], Sequence[tuple[Any, ...]]]
"""Returns what ``socket.getaddrinfo`` returns for a name and port."""


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

    def mount(self, session: requests.Session) -> None:
        """Make the session use these connections only."""
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Adapter(self))

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
        for family, kind, protocol, _name, place in found:
            peer = address_of(str(place[0]))
            if self.connections.permit is not None:
                self.connections.permit(peer)
            try:
                made = _connect(connection, self.connections, (family, kind, protocol), place)
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
) -> socket.socket:
    left = connections.deadline - time.monotonic()
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
    """A session of requests with its connections; for one request at a time."""

    def __init__(self, look_up: Resolve) -> None:
        self.connections = Connections(look_up)
        self.session = _Session()
        self.connections.mount(self.session)
        self.session.trust_env = False
        self.session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=()))
        self.session.headers.update(
            {"Accept-Encoding": "identity", "User-Agent": f"lxdocker-lxd/{__version__}"}
        )

    def close(self) -> None:
        """Close all connections."""
        self.session.close()
        self.connections.close()


class _Adapter(HTTPAdapter):
    """Takes connections of ours, behind a proxy too."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        super().__init__()

    def init_poolmanager(self, *words: Any, **named: Any) -> None:  # noqa: ANN401 - as requests has it
        """Make the pools of direct connections."""
        super().init_poolmanager(*words, **named)
        self._use(self.poolmanager, _Direct)

    def proxy_manager_for(self, proxy: str, **named: Any) -> Any:  # noqa: ANN401 - as requests has it
        """Make the pools of connections to a proxy."""
        known = proxy in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **named)
        if not known:
            self._use(manager, _Watched)
        return manager

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
