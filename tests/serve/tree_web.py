"""A web server for a directory, with faults by path."""

import contextlib
import ssl
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from tests.harness.http_server import serving


class Web:
    """A server for a directory, with faults by path."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.faults: dict[str, Callable[[BaseHTTPRequestHandler, bytes], None]] = {}
        self.asked: list[str] = []
        self.url = ""


@contextlib.contextmanager
def web(directory: Path, tls: ssl.SSLContext | None = None) -> Iterator[Web]:
    """Serve a directory as nginx with gzip_static would."""
    server = Web(directory)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.lstrip("/")
            server.asked.append(path)
            file = directory / path
            fault = server.faults.get(path)
            if fault is not None:
                fault(self, file.read_bytes() if file.is_file() else b"")
                return
            twin = directory / f"{path}.gz"
            packed = "gzip" in self.headers.get("Accept-Encoding", "") and twin.is_file()
            if not file.is_file():
                self.send_error(404)
                return
            content = (twin if packed else file).read_bytes()
            self.send_response(200)
            if packed:
                self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler, tls=tls) as http:
        server.url = f"{'https' if tls else 'http'}://{http.host}"
        yield server


def fails(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_error(503)


def breaks_off(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content) + 10))
    handler.end_headers()
    handler.wfile.write(content[:5])
    handler.close_connection = True


def never_ends(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(OSError):
        handler.wfile.write(content)
        while True:
            handler.wfile.write(bytes(1 << 16))


def redirects(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_response(302)
    handler.send_header("Location", "/elsewhere")
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def leads_to(url: str) -> Callable[[BaseHTTPRequestHandler, bytes], None]:
    """Answer with a redirect to somewhere."""

    def answer(handler: BaseHTTPRequestHandler, content: bytes) -> None:
        del content
        handler.send_response(302)
        handler.send_header("Location", url)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer
