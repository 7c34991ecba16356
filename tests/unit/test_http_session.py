"""Connections of our HTTP sessions, with servers here that answer and addresses that don't."""

import contextlib
import socket
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler
from typing import Any

from lxdocker_lxd.http_session import Line
from tests.harness.http_server import serving


class Friendly(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def silent_address() -> Iterator[tuple[str, int]]:
    """An address that takes no connection and refuses none: its queue is full."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as server,
        contextlib.ExitStack() as stack,
    ):
        place = server.getsockname()
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(place)
        yield place


def test_addresses_of_a_broken_network_leave_time_for_one_that_answers() -> None:
    """A name with two addresses of a tunnel that drops everything, and one of a network that works."""
    with serving(Friendly) as good, silent_address() as silent:
        host, _, port = good.host.partition(":")
        places = [silent, silent, (host, int(port))]

        def look_up(_name: str, _port: int) -> Sequence[tuple[Any, ...]]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in places]

        line = Line(look_up)
        with contextlib.closing(line):
            line.connections.begin(time.monotonic() + 3, None)
            answer = line.session.get("http://registry.example/", timeout=(3, 3))
            assert answer.status_code == 204
