"""Serves the updater's metrics at ``/metrics``, in threads that never hold the updater up."""

import logging
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import ClassVar, Self

from lxdocker_lxd.errors import NetworkError
from lxdocker_lxd.update.metrics import MEDIA_TYPE

PATH = "/metrics"
_REQUEST_SECONDS = 10.0
_MOST_REQUESTS = 16
_log = logging.getLogger(__name__)


class ListenError(NetworkError):
    """The address can't be listened on."""


class MetricsEndpoint:
    """A context manager that serves what ``read`` returns, for as long as its block lasts.

    ``read`` is called in other threads. At most a few requests are served at once; others are
    closed unanswered.
    """

    def __init__(self, host: str, port: int, read: Callable[[], bytes]) -> None:
        self._host = host
        self._port = port
        self._read = read
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port that is listened on; another one than asked for if that was 0."""
        return self._server.server_address[1] if self._server is not None else self._port

    def __enter__(self) -> Self:
        try:
            self._server = _Server(self._host, self._port, self._read)
        except (OSError, UnicodeError) as error:
            raise ListenError(
                f"serve metrics at {self._host}:{self._port}: {error}",
                hint="choose another address in update: metrics, or none",
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.2,), name="metrics", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        if self._thread is not None:
            self._thread.join(_REQUEST_SECONDS)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    server_address: tuple[str, int]

    def __init__(self, host: str, port: int, read: Callable[[], bytes]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.read = read
        self._room = threading.BoundedSemaphore(_MOST_REQUESTS)
        super().__init__((host, port), _Handler)

    def process_request_thread(self, request: object, client_address: object) -> None:
        """Serve one connection, if there is room."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)  # type: ignore[arg-type]  # the socket, as it came
            return
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]  # as it came
        finally:
            self._room.release()

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - its signature
        """A reader that went away is none of the updater's troubles."""
        _log.debug("a reader of metrics went away", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    timeout: ClassVar[float] = _REQUEST_SECONDS
    server: _Server
    server_version = "lxdocker-lxd"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        found = self.path.partition("?")[0] == PATH
        body = self.server.read() if found else b"metrics are at /metrics\n"
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", MEDIA_TYPE if found else "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its signature
        _log.debug(format, *args)
