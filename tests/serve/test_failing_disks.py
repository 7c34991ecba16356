"""Directories that can't be read, catalogues that can't be understood, files that go: at any time."""

import contextlib
import hashlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.processes import eventually
from tests.serve.running import RunningServer, many, read_all, running
from tests.serve.shelf import Shelf

MIB = 1 << 20
BIG = os.urandom(MIB) * 24
_RIGHTS = "-dac_override,-dac_read_search"
# Root without the rights that root has over any file, so that modes count.
_DISARMED = ("setpriv", f"--bounding-set={_RIGHTS}", f"--inh-caps={_RIGHTS}")


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    found = Shelf(tmp_path / "images")
    found.publish("web", BIG)
    return found


@contextlib.contextmanager
def disarmed(shelf: Shelf, directory: Path) -> Iterator[RunningServer]:
    server = RunningServer(shelf, directory)
    server.prefix = _DISARMED if os.getuid() == 0 else ()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def closed(path: Path) -> Iterator[None]:
    """Nobody may read ``path`` within the block."""
    mode = path.stat().st_mode
    path.chmod(0)
    try:
        yield
    finally:
        path.chmod(mode)


def target_of(shelf: Shelf) -> str:
    return f"/{shelf.source.read().products[0].newest.files[1].path}"


def names(server: RunningServer) -> list[str]:
    listed = json.loads(server.get("/streams/v1/images.json").body)
    return sorted(product["os"] for product in listed["products"].values())


def ready(server: RunningServer) -> bool:
    return server.get("/readyz").status == 200


@pytest.mark.root
def test_a_directory_that_may_not_be_read_at_the_start_is_read_when_it_may(
    shelf: Shelf, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:
        with closed(shelf.directory):
            server = stack.enter_context(disarmed(shelf, tmp_path))
            # Why stands in the log alone: whoever asks may be anybody.
            found = server.get("/readyz")
            assert (found.status, b"Permission denied" in found.body) == (503, False)
            assert server.get("/streams/v1/index.json").status == 503
            assert server.get("/healthz").status == 200
        eventually(lambda: ready(server), timeout_seconds=8, what="the directory to be read")
        assert names(server) == ["web"]
        # Told once, not five times a second.
        assert server.log.read_text().count("Permission denied") == 1


@pytest.mark.root
def test_a_directory_that_may_not_be_read_any_more_takes_nothing_from_the_listing(
    shelf: Shelf, tmp_path: Path
) -> None:
    with disarmed(shelf, tmp_path) as server:
        target = target_of(shelf)
        with closed(shelf.directory):
            eventually(lambda: not ready(server), timeout_seconds=5, what="it to be noticed")
            assert names(server) == ["web"]
            assert (server.get(target).status, server.get(target).body) == (
                500,
                b"the file can't be read\n",
            )
        eventually(lambda: ready(server), timeout_seconds=8, what="it to be noticed")
        assert server.get(target).body == BIG


@pytest.mark.root
def test_a_file_that_may_not_be_read_is_told_by_name(shelf: Shelf, tmp_path: Path) -> None:
    with disarmed(shelf, tmp_path) as server:
        target = target_of(shelf)
        with closed(shelf.directory / target[1:]):
            assert server.get(target).status == 500
        said = server.log.read_text()
        assert target in said
        assert "Permission denied" in said
        assert "Traceback" not in said
        assert server.get(target).body == BIG


def test_a_catalogue_that_breaks_and_heals_under_a_running_server(
    shelf: Shelf, tmp_path: Path
) -> None:
    document = shelf.directory / "catalogue.json"
    good = document.read_bytes()
    with running(shelf, tmp_path) as server:
        for broken in (b"", b"{", good[: len(good) // 2], b'{"format": 99}', os.urandom(5000)):
            document.write_bytes(broken)
            eventually(lambda: not ready(server), timeout_seconds=5, what="it to be noticed")
            assert names(server) == ["web"]
            document.write_bytes(good)
            eventually(lambda: ready(server), timeout_seconds=8, what="it to heal")
        said = server.log.read_text()
        assert "Traceback" not in said
        assert "bug" not in said


def test_a_server_that_starts_with_a_broken_catalogue_waits_for_a_good_one(
    shelf: Shelf, tmp_path: Path
) -> None:
    document = shelf.directory / "catalogue.json"
    good = document.read_bytes()
    document.write_bytes(good[:-20])
    with running(shelf, tmp_path) as server:
        assert server.get("/streams/v1/index.json").status == 503
        document.write_bytes(good)
        eventually(lambda: ready(server), timeout_seconds=8, what="it to heal")
        assert names(server) == ["web"]


def test_files_removed_while_they_are_sent_are_sent_to_the_end(
    shelf: Shelf, tmp_path: Path
) -> None:
    target = target_of(shelf)
    with running(shelf, tmp_path) as server:
        with server.asked(target, "Connection: close", receive_bytes=8192) as connection:
            got = connection.recv(65536)
            (shelf.directory / target[1:]).unlink()
            (shelf.directory / "images").rename(tmp_path / "gone")
            assert server.get(target).status == 404
            got += read_all(connection)
        assert got.endswith(BIG)


def test_a_file_that_shrinks_while_it_is_sent_never_looks_whole(
    shelf: Shelf, tmp_path: Path
) -> None:
    target = target_of(shelf)
    with running(shelf, tmp_path) as server:
        with server.asked(target, receive_bytes=8192) as connection:
            got = connection.recv(65536)
            os.truncate(shelf.directory / target[1:], 20 * MIB)
            # No answer follows on this connection: what came is shorter than was promised.
            got += read_all(connection)
        assert 0 < len(got) < len(BIG)
        eventually(lambda: "it ends after" in server.log.read_text(), timeout_seconds=5, what="it")
        assert " failed " in server.log.read_text()
        assert server.get("/healthz").status == 200


def test_with_64_open_files_everyone_is_served_in_turn(shelf: Shelf, tmp_path: Path) -> None:
    server = RunningServer(shelf, tmp_path)
    server.prefix = ("prlimit", "--nofile=64:64")
    digest = hashlib.sha256(BIG).digest()
    target = target_of(shelf)
    try:
        server.start()
        assert "16 connections at once instead of 1024" in server.log.read_text()
        with many(100, server.plain):
            assert server.get("/healthz").status == 200
            found: list[bytes] = []

            def fetch() -> None:
                found.append(hashlib.sha256(server.get(target).body).digest())

            clients = [threading.Thread(target=fetch) for _ in range(6)]
            for client in clients:
                client.start()
            for client in clients:
                client.join(30)
            assert found == [digest] * 6
            shelf.publish("db", b"new")
            eventually(lambda: "db" in names(server), timeout_seconds=5, what="a new catalogue")
    finally:
        server.stop()
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("stop_seconds", [1, 30])
def test_a_stop_with_four_slow_downloads(shelf: Shelf, tmp_path: Path, stop_seconds: int) -> None:
    """With time they end whole; without, they are cut, and no client takes them for whole."""
    target = target_of(shelf)
    bodies: list[bytes] = []
    hurry = threading.Event()

    def take(connection: socket.socket) -> None:
        found = bytearray()
        with contextlib.suppress(OSError):
            while block := connection.recv(65536):
                found += block
                hurry.wait(0.1)
        bodies.append(bytes(found))

    with (
        running(shelf, tmp_path, "--stop-timeout", str(stop_seconds)) as server,
        many(4, lambda: server.asked(target, receive_bytes=65536)) as connections,
    ):
        threads = [threading.Thread(target=take, args=(one,)) for one in connections]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        server.signal(signal.SIGTERM)
        if stop_seconds > 1:
            hurry.set()
        took = server.wait()
        hurry.set()
        for thread in threads:
            thread.join(30)
        assert server.process.returncode == 0
        whole = [body.endswith(BIG) for body in bodies]
        if stop_seconds > 1:
            assert whole == [True] * 4
            assert took < 25
        else:
            assert whole == [False] * 4
            assert took < 4
            assert "4 answers were cut" in server.log.read_text()
