"""A daemon on a unix socket that misbehaves as told: for what a real LXD does only on bad days.

    with scripted_lxd(tmp_path) as daemon:
        daemon.script["GET /1.0/instances/web"] = [broken, answer({"name": "web"})]

Each request takes the next step of its script (the last one stays); ``/1.0`` is answered like a
trusted LXD. ``daemon.requests`` lists what came, as ``METHOD path``.
"""

import base64
import contextlib
import hashlib
import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from lxdocker_lxd.lxd.place import SocketPlace

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
HOST_INFO: Mapping[str, object] = {
    "api_version": "1.0",
    "auth": "trusted",
    "api_extensions": [],
    "environment": {"server": "lxd", "server_version": "5.0.2"},
}

Step = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: "ScriptedLxd"

    def address_string(self) -> str:
        return "socket"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as http.server has it
        """Say nothing."""

    def _handle(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        self.rfile.read(length)
        key = f"{self.command} {self.path.partition('?')[0]}"
        self.server.requests.append(key)
        steps = self.server.script.get(key, [])
        if not steps:
            known = key == "GET /1.0"
            (answer(self.server.host_info) if known else refuse(404, "not found"))(self)
            return
        (steps.pop(0) if len(steps) > 1 else steps[0])(self)

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = _handle  # noqa: N815 - as http.server has it

    def say(self, status: int, document: object) -> None:
        """Answer with JSON."""
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("ETag", "1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class ScriptedLxd(socketserver.ThreadingUnixStreamServer):
    """The daemon; ``place`` is where clients find it."""

    daemon_threads = True

    def __init__(self, socket: Path) -> None:
        self.script: dict[str, list[Step]] = {}
        self.requests: list[str] = []
        self.host_info: Mapping[str, object] = HOST_INFO
        self.place = SocketPlace(socket=socket)
        super().__init__(str(socket), Handler)


def answer(document: object) -> Step:
    """A synchronous answer."""
    return lambda handler: handler.say(
        200, {"type": "sync", "status_code": 200, "metadata": document}
    )


def begin(operation: str, *, metadata: Mapping[str, object] | None = None) -> Step:
    """An answer that names an operation, and what LXD says of it already."""
    path = f"/1.0/operations/{operation}"
    described = {"id": operation, "metadata": dict(metadata or {})}
    return lambda handler: handler.say(
        202, {"type": "async", "operation": path, "metadata": described}
    )


def refuse(status: int, said: str) -> Step:
    """A refusal."""
    return lambda handler: handler.say(
        status, {"type": "error", "error_code": status, "error": said}
    )


def broken(handler: Handler) -> None:
    """Take the request and hang up."""
    handler.close_connection = True
    handler.connection.shutdown(2)


def silent(handler: Handler) -> None:
    """Take the request and say nothing for long."""
    time.sleep(3)
    handler.close_connection = True


def garbage(handler: Handler) -> None:
    """Answer what no LXD would."""
    body = b"<html>surprise</html>"
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def websocket(*frames: bytes, together: bool = False) -> Step:
    """Open a websocket, send frames (in one piece with the handshake's end), then say nothing."""

    def step(handler: Handler) -> None:
        key = handler.headers["Sec-WebSocket-Key"].encode()
        accepted = base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode()  # noqa: S324 - RFC 6455
        head = (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accepted}\r\n\r\n"
        ).encode()
        if together:
            handler.connection.sendall(head + b"".join(frames))
        else:
            handler.connection.sendall(head)
            for frame in frames:
                time.sleep(0.05)
                handler.connection.sendall(frame)
        time.sleep(3)
        handler.close_connection = True

    return step


def text_frame(document: object) -> bytes:
    """A websocket frame with JSON."""
    body = json.dumps(document).encode()
    assert 125 < len(body) < 65536
    return b"\x81\x7e" + len(body).to_bytes(2, "big") + body


PING = b"\x89\x00"


@contextlib.contextmanager
def scripted_lxd(directory: Path) -> Iterator[ScriptedLxd]:
    """Yield a daemon; it ends with the block."""
    with ScriptedLxd(directory / "unix.socket") as daemon:
        thread = threading.Thread(target=daemon.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield daemon
        finally:
            daemon.shutdown()
            thread.join(5)
