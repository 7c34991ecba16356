"""A small threaded HTTP server on a free loopback port, for fakes; ends with its block."""

import contextlib
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class LoopbackServer(ThreadingHTTPServer):
    """Forgets connections a client broke off: faulty peers are what these servers are for."""

    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing; a test sees the client's side."""

    @property
    def host(self) -> str:
        """``127.0.0.1:PORT``."""
        return f"127.0.0.1:{self.server_address[1]}"


@contextlib.contextmanager
def serving(
    handler: type[BaseHTTPRequestHandler], *, tls: ssl.SSLContext | None = None
) -> Iterator[LoopbackServer]:
    """Yield a server that answers through ``handler`` until the block ends."""
    server = LoopbackServer(("127.0.0.1", 0), handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


def drip(handler: BaseHTTPRequestHandler, beginning: bytes) -> None:
    """Send a beginning, then a byte at a time until the reader hangs up: never quiet for long."""
    handler.close_connection = True
    with contextlib.suppress(OSError):
        handler.wfile.write(beginning)
        while True:
            handler.wfile.write(b"a")
            time.sleep(0.05)


def endless_redirect(handler: BaseHTTPRequestHandler, target: str, status: int = 302) -> None:
    """Redirect with a body that is meant to fill its reader's memory; it hangs up."""
    handler.close_connection = True
    handler.send_response(status)
    handler.send_header("Location", target)
    handler.end_headers()
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(bytes(1 << 16))
