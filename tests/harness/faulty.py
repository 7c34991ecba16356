"""What goes wrong between a registry and its client, as faults for ``FakeRegistry.fail``."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

from tests.harness.fake_registry import Exchange, Fault, Reply


def status(code: int, body: bytes = b"", **headers: str) -> Fault:
    """Answer a status; header names are written with underscores: ``retry_after="3"``."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}

    def fault(exchange: Exchange, reply: Reply) -> None:
        exchange.send(Reply(status=code, headers=sent, body=body))

    return fault


def cut(after_bytes: int, *, reset: bool = False) -> Fault:
    """Send the headers and so many bytes of the body, then close or reset the connection."""

    def fault(exchange: Exchange, reply: Reply) -> None:
        exchange.send(reply, body_bytes=after_bytes)
        if reset:
            # Give the client time to take what was sent; a reset discards what is still on its way.
            time.sleep(0.1)
            linger = struct.pack("ii", 1, 0)
            exchange.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        exchange.close_connection = True
        exchange.connection.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)
        if reset:
            exchange.connection.close()

    return fault


def hang_up() -> Fault:
    """Close the connection without an answer."""

    def fault(exchange: Exchange, reply: Reply) -> None:
        exchange.close_connection = True
        exchange.connection.shutdown(socket.SHUT_RDWR)

    return fault


def stall(after_bytes: int, seconds: float) -> Fault:
    """Send so many bytes, then nothing for a while, then the connection's end."""

    def fault(exchange: Exchange, reply: Reply) -> None:
        exchange.send(reply, body_bytes=after_bytes)
        time.sleep(seconds)
        exchange.close_connection = True

    return fault


def drip(content: bytes, *, pause_seconds: float = 0.05) -> Fault:
    """Send ``content``, then a byte at a time as long as somebody listens: never silent, never done."""

    def fault(exchange: Exchange, reply: Reply) -> None:
        exchange.close_connection = True
        exchange.wfile.write(content)
        while True:
            time.sleep(pause_seconds)
            exchange.wfile.write(b"x")

    return fault


def drip_body(
    after_bytes: int = 0,
    *,
    piece_bytes: int = 1,
    pause_seconds: float = 0.05,
    announced: bool = True,
) -> Fault:
    """Send headers and ``after_bytes`` of the body at once, and the rest a little at a time."""

    def fault(exchange: Exchange, reply: Reply) -> None:
        if announced:
            exchange.send(reply, body_bytes=after_bytes)
        else:
            exchange.send_response(reply.status)
            exchange.send_header("Connection", "close")
            exchange.end_headers()
            exchange.wfile.write(reply.body[:after_bytes])
        exchange.close_connection = True
        for start in range(after_bytes, len(reply.body), piece_bytes):
            time.sleep(pause_seconds)
            exchange.wfile.write(reply.body[start : start + piece_bytes])

    return fault


def spoil(at_byte: int = 0) -> Fault:
    """Change one byte of the body."""

    def fault(exchange: Exchange, reply: Reply) -> None:
        body = bytearray(reply.body)
        body[at_byte] ^= 0xFF
        exchange.send(replace(reply, body=bytes(body)))

    return fault


def whole_instead_of_range(content: bytes) -> Fault:
    """Ignore the Range header: 200 and everything."""

    def fault(exchange: Exchange, reply: Reply) -> None:
        headers = {k: v for k, v in reply.headers.items() if k != "Content-Range"}
        exchange.send(Reply(status=200, headers=headers, body=content))

    return fault


def content_range(text: str) -> Fault:
    """Say something else in Content-Range."""

    def fault(exchange: Exchange, reply: Reply) -> None:
        exchange.send(replace(reply, headers=reply.headers | {"Content-Range": text}))

    return fault


def announce(size_bytes: int) -> Fault:
    """Announce another Content-Length, then close."""

    def fault(exchange: Exchange, reply: Reply) -> None:
        exchange.send(replace(reply, headers=reply.headers | {"Content-Length": str(size_bytes)}))
        exchange.close_connection = True

    return fault


def unannounced(body: bytes | None = None) -> Fault:
    """Send the body (or another one) in chunks, without announcing its size."""

    def fault(exchange: Exchange, reply: Reply) -> None:
        exchange.send_response(reply.status)
        for name, value in reply.headers.items():
            exchange.send_header(name, value)
        exchange.send_header("Transfer-Encoding", "chunked")
        exchange.end_headers()
        sent = reply.body if body is None else body
        exchange.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(sent), sent))

    return fault


def redirect(url: str, code: int = 307) -> Fault:
    """Send the client elsewhere; ``{path}`` in the URL stands for the path it asked for."""

    def fault(exchange: Exchange, reply: Reply) -> None:
        location = url.replace("{path}", exchange.path)
        exchange.send(Reply(status=code, headers={"Location": location}))

    return fault


def without_headers(*names: str) -> Fault:
    """Leave out some headers."""

    def fault(exchange: Exchange, reply: Reply) -> None:
        headers = {name: value for name, value in reply.headers.items() if name not in names}
        exchange.send(replace(reply, headers=headers))

    return fault


def with_headers(**headers: str) -> Fault:
    """Add some headers; names are written with underscores."""

    def fault(exchange: Exchange, reply: Reply) -> None:
        added = {name.replace("_", "-"): value for name, value in headers.items()}
        exchange.send(replace(reply, headers=reply.headers | added))

    return fault


@contextlib.contextmanager
def breaking_proxy(host: str, limits_bytes: list[int]) -> Iterator[str]:
    """Yield the address of a TCP proxy before ``host`` that resets connections.

    The first connection that carries more than ``limits_bytes[0]`` bytes to the client is reset
    there, then the list moves on; once it is empty everything passes.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    name, _, port = host.partition(":")
    lock = threading.Lock()

    def carry(source: socket.socket, target: socket.socket, *, limited: bool) -> None:
        carried = 0
        with contextlib.suppress(OSError):
            while data := source.recv(16_384):
                carried += len(data)
                with lock:
                    over = limited and limits_bytes and carried > limits_bytes[0]
                    excess = carried - limits_bytes.pop(0) if over else 0
                target.sendall(data[: len(data) - excess])
                if over:
                    time.sleep(0.1)
                    linger = struct.pack("ii", 1, 0)
                    target.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    break
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RD if limited else socket.SHUT_WR)
        if limited:
            source.close()
            target.close()

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection((name, int(port)))
                for source, target, limited in ((client, server, False), (server, client, True)):
                    threading.Thread(
                        target=carry,
                        args=(source, target),
                        kwargs={"limited": limited},
                        daemon=True,
                    ).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(timeout=5)
