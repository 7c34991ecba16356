"""A private nginx for a directory: the server block of docs/export.md on a free loopback port.

The system's service, its configuration and its directories are never touched.
"""

import contextlib
import re
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.harness.image_server import free_port
from tests.harness.processes import eventually

DOCUMENT = Path(__file__).parents[2] / "docs" / "export.md"

_FRAME = """
daemon off;
worker_processes 1;
pid {home}/pid;
error_log {home}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log {home}/access.log;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
{server}
}}
"""


def server_block() -> str:
    """What docs/export.md tells people to write."""
    found = re.search(r"```nginx\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def _changed(text: str, old: str, new: str) -> str:
    assert old in text, old
    return text.replace(old, new)


@contextlib.contextmanager
def private_nginx(root: Path, certificate: Path, key: Path) -> Iterator[str]:
    """Serve ``root`` over TLS on 127.0.0.1 until the block ends; yield the URL."""
    port = free_port()
    block = server_block()
    for old, new in (
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("    listen [::]:443 ssl;\n", ""),
        ("/etc/ssl/images/server.crt", str(certificate)),
        ("/etc/ssl/images/server.key", str(key)),
        ("root /srv/images;", f"root {root};"),
    ):
        block = _changed(block, old, new)
    with tempfile.TemporaryDirectory(prefix="nginx-") as home:
        configuration = Path(home, "nginx.conf")
        # Workers of root's nginx become www-data, who can't read tests' directories.
        configuration.write_text("user root;\n" + _FRAME.format(home=home, server=block))
        process = subprocess.Popen(
            ["nginx", "-p", home, "-c", configuration, "-e", f"{home}/error.log"]
        )
        try:
            eventually(lambda: _listens(port), timeout_seconds=10, what="nginx")
            yield f"https://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=30)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
