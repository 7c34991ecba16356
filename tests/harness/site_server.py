"""A plain HTTPS server for a site's documents and files, for tests that need no more of a server.

It answers GET with 200 or 404 and knows nothing else: what real clients ask for is then seen
without the image server's own behaviour in between. ``site`` may be replaced while it runs.
"""

import contextlib
import ssl
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import trustme

from lxdocker_lxd.serve.entry import Document, FileEntry
from lxdocker_lxd.serve.site import Site
from tests.harness.http_server import serving


class SiteServer:
    """Serves ``site``; the content of its files is ``contents``, by their path in a catalogue."""

    def __init__(self) -> None:
        self.site: Site | None = None
        self.contents: Mapping[str, bytes] = {}
        self.asked: list[str] = []
        self.host = ""
        self.authority = b""

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return f"https://{self.host}"

    def answer(self, path: str) -> bytes | None:
        """What the site has there."""
        self.asked.append(path)
        found = self.site.find(path.lstrip("/")) if self.site else None
        if isinstance(found, Document):
            return found.render()
        return self.contents.get(found.file.path) if isinstance(found, FileEntry) else None


@contextlib.contextmanager
def site_server() -> Iterator[SiteServer]:
    """Yield a server on the loopback interface with a certificate of an authority of its own."""
    server = SiteServer()
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server.authority = authority.cert_pem.bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = server.answer(self.path)
            self.send_response(200 if content is not None else 404)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler, tls=context) as http:
        server.host = http.host
        yield server


def client_directory(directory: Path, config: str, authority: bytes) -> Path:
    """Make a client's configuration: its remotes, and for each of them the authority to trust."""
    certificates = directory / "servercerts"
    certificates.mkdir(parents=True)
    (directory / "config.yml").write_text(config)
    for line in config.splitlines():
        if line.startswith('  "'):
            name = line.strip(' ":')
            (certificates / f"{name}.crt").write_bytes(authority)
    return directory
