"""The image server as a process of its own, and clients that behave as badly as clients can.

with running(Shelf(tmp_path / "images"), tmp_path) as server:
    server.get("/healthz")
"""

import contextlib
import functools
import http.client
import os
import re
import resource
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import trustme

from tests.serve.shelf import Shelf

CHUNK = 64 * 1024
PYTHON = os.environ.get("LXDOCKER_TEST_SERVER_PYTHON", sys.executable)
"""Another interpreter may run the server: asyncio ends connections differently in 3.11, 3.12 and 3.13."""


class RunningServer:
    """A server over a shelf, with a certificate of a throw-away authority."""

    def __init__(self, shelf: Shelf, directory: Path, *flags: str, python: str = PYTHON) -> None:
        self.shelf = shelf
        self.directory = directory
        self.flags = flags
        self.python = python
        self.key = directory / "key.pem"
        self.cert = directory / "cert.pem"
        self.log = directory / "serve.log"
        self.port = 0
        self.announced = ""
        self.prefix: tuple[str, ...] = ()
        self.certificate_flags: tuple[str, ...] = ("--key", str(self.key), "--cert", str(self.cert))
        self.environment: dict[str, str] = {}
        self.authority = trustme.CA()
        self.new_certificate()
        self._process: subprocess.Popen[str] | None = None

    def new_certificate(self) -> None:
        """Put another key and certificate in place, as a renewal does."""
        made = self.authority.issue_cert("127.0.0.1", "localhost")
        fresh = self.directory / "fresh"
        made.private_key_pem.write_to_path(fresh)
        fresh.replace(self.key)
        for number, part in enumerate(made.cert_chain_pems):
            part.write_to_path(fresh, append=bool(number))
        fresh.replace(self.cert)

    # ---- the process

    def start(self) -> None:
        """Start it, on the port it had before, and wait until it is ready."""
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                self.command(address=f"127.0.0.1:{self.port}"),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **self.environment},
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self.log.read_text()
        self.announced = line.strip()
        if found := re.search(r":(\d+)/$", self.announced):
            self.port = int(found[1])

    def command(self, *, address: str) -> list[str]:
        """What starts it, in words."""
        return [
            *self.prefix,
            *(self.python, "-m", "lxdocker_lxd", "serve", "--config", os.devnull),
            *("--lxdimages", str(self.shelf.directory), "--address", address),
            *(*self.certificate_flags, *self.flags),
        ]

    @staticmethod
    @contextlib.contextmanager
    def free_port() -> Iterator[int]:
        """Yield a port nobody listens at."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            yield probe.getsockname()[1]

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def process(self) -> "subprocess.Popen[str]":
        assert self._process is not None
        return self._process

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def wait(self, timeout_seconds: float = 60) -> float:
        """Wait for its end; return how many seconds that took."""
        began = time.monotonic()
        self.process.communicate(timeout=timeout_seconds)
        return time.monotonic() - began

    def stop(self) -> None:
        """End it, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self.signal(signal.SIGTERM)
            time.sleep(0.05)
            self.signal(signal.SIGTERM)
            self.wait()

    # ---- what the kernel knows of it

    @property
    def resident_kib(self) -> int:
        """Its memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found
        return int(found[1])

    @property
    def cpu_seconds(self) -> float:
        """The processor time it took so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def open_files(self) -> int:
        """How many descriptors it holds."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    # ---- clients

    @functools.cached_property
    def client_context(self) -> ssl.SSLContext:
        """One for all of the clients below: to make one takes longer than a connection."""
        return self.context

    @property
    def context(self) -> ssl.SSLContext:
        """TLS of a client that trusts the authority; another one each time, to be changed by a test."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context

    def plain(
        self, *, receive_bytes: int | None = None, source: str = "127.0.0.1"
    ) -> socket.socket:
        """A TCP connection from ``source``; ``receive_bytes`` makes its kernel take little ahead."""
        made = socket.socket()
        made.bind((source, 0))
        if receive_bytes is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        made.settimeout(30)
        made.connect(("127.0.0.1", self.port))
        return made

    def tls(self, *, receive_bytes: int | None = None, source: str = "127.0.0.1") -> ssl.SSLSocket:
        """A TLS connection."""
        return self.client_context.wrap_socket(
            self.plain(receive_bytes=receive_bytes, source=source), server_hostname="127.0.0.1"
        )

    def asked(
        self,
        target: str,
        *headers: str,
        receive_bytes: int | None = None,
        source: str = "127.0.0.1",
    ) -> ssl.SSLSocket:
        """A TLS connection on which a GET was sent."""
        made = self.tls(receive_bytes=receive_bytes, source=source)
        made.sendall(request(target, *headers))
        return made

    def get(
        self,
        target: str,
        headers: dict[str, str] | None = None,
        method: str = "GET",
        *,
        source: str = "127.0.0.1",
    ) -> "Got":
        """A whole answer, over a connection of its own."""
        connection = http.client.HTTPSConnection(
            *("127.0.0.1", self.port),
            context=self.client_context,
            timeout=30,
            source_address=(source, 0),
        )
        with contextlib.closing(connection):
            connection.request(method, target, headers={"Connection": "close", **(headers or {})})
            response = connection.getresponse()
            return Got(response.status, dict(response.getheaders()), response.read())


class Got:
    """An answer; header names in lower case."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = {name.lower(): value for name, value in headers.items()}
        self.body = body


def request(target: str, *headers: str) -> bytes:
    """The bytes of a GET."""
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


def read_all(connection: socket.socket) -> bytes:
    """What comes until the end; a connection that breaks ends too."""
    found = b""
    with contextlib.suppress(OSError):
        while block := connection.recv(CHUNK):
            found += block
    return found


def read_until(connection: socket.socket, end: bytes) -> bytes:
    """What comes until ``end``."""
    found = b""
    while not found.endswith(end):
        block = connection.recv(CHUNK)
        assert block, found
        found += block
    return found


def seconds_until_closed(connection: socket.socket, limit_seconds: float = 30) -> float:
    """How long the other side keeps a connection open."""
    began = time.monotonic()
    connection.settimeout(limit_seconds)
    read_all(connection)
    return time.monotonic() - began


@contextlib.contextmanager
def running(
    shelf: Shelf, directory: Path, *flags: str, python: str = PYTHON
) -> Iterator[RunningServer]:
    """Yield a server that runs; it ends with the block."""
    server = RunningServer(shelf, directory, *flags, python=python)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def many(count: int, make: Callable[[], socket.socket]) -> Iterator[list[socket.socket]]:
    """Yield connections; this process may have that many files open meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2 * count + 200)), hard))
    made: list[socket.socket] = []
    try:
        for _ in range(count):
            made.append(make())  # noqa: PERF401 - those made before a failure are to be closed
        yield made
    finally:
        for one in made:
            one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Background:
    """Runs ``work`` in a thread again and again until ``end``; keeps the first error."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.count = 0
        self.error: BaseException | None = None
        self._work = work
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def _loop(self) -> None:
        try:
            while not self._stop.is_set():
                self._work()
                self.count += 1
        except BaseException as error:  # noqa: BLE001 - the test shows it
            self.error = error

    def end(self) -> None:
        """Stop it and raise what went wrong."""
        self._stop.set()
        self._thread.join(60)
        if self.error is not None:
            raise self.error
