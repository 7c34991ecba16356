"""The server as administrators meet it: how it starts, what it says, and who hears of it."""

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.harness.processes import eventually, run
from tests.serve.running import RunningServer, read_all, request, running
from tests.serve.shelf import Shelf

COMMAND = (sys.executable, "-m", "lxdocker_lxd", "serve", "--config", os.devnull)
ROOTFS = b"a root filesystem" * 1000


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    found = Shelf(tmp_path / "images")
    found.publish("web", ROOTFS)
    return found


def test_a_line_says_where_it_serves(shelf: Shelf, tmp_path: Path) -> None:
    with running(shelf, tmp_path, "--url", "https://images.example.org") as server:
        pass
    assert server.announced == f"serving {shelf.directory} at https://images.example.org/"
    assert server.process.returncode == 0


def test_systemd_is_told_of_every_state(shelf: Shelf, tmp_path: Path) -> None:
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(20)
        server = RunningServer(shelf, tmp_path)
        server.environment = {"NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "600000"}
        try:
            server.start()
            assert manager.recv(4096).startswith(b"READY=1\nSTATUS=https://")
            said = [manager.recv(4096) for _ in range(6)]
            # Alive is said after a request of its own came through; who is asked is not logged.
            assert said.count(b"WATCHDOG=1") >= 2
            assert "healthz" not in server.log.read_text()
            server.signal(signal.SIGTERM)
            while not (last := manager.recv(4096)).startswith(b"STOPPING=1"):
                pass
            assert b"EXTEND_TIMEOUT_USEC=" in last
            server.wait()
        finally:
            server.stop()


def test_a_server_that_hangs_is_not_said_to_be_alive(shelf: Shelf, tmp_path: Path) -> None:
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        server = RunningServer(shelf, tmp_path)
        server.environment = {"NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "300000"}
        try:
            server.start()
            server.signal(signal.SIGSTOP)
            manager.settimeout(0.5)
            with contextlib.suppress(TimeoutError):
                while manager.recv(4096):
                    pass
            manager.settimeout(1)
            with pytest.raises(TimeoutError):
                manager.recv(4096)
        finally:
            server.signal(signal.SIGCONT)
            server.stop()


def test_image_files_are_served_over_plain_http_and_nothing_else(
    shelf: Shelf, tmp_path: Path
) -> None:
    server = RunningServer(shelf, tmp_path)
    with server.free_port() as port:
        server.flags = ("--http-address", f"127.0.0.1:{port}")
    try:
        server.start()
        product = shelf.source.read().products[0]
        path = product.newest.files[1].path
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10) as found:
            assert found.read() == ROOTFS
        for target in ("/", "/streams/v1/index.json", "/metrics", "/healthz"):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
                plain.sendall(request(target, "Connection: close"))
                assert read_all(plain).startswith(b"HTTP/1.1 404")
    finally:
        server.stop()


@pytest.mark.tools
def test_the_ancestor_s_command_and_certificate_work(shelf: Shelf, tmp_path: Path) -> None:
    """``imgserver`` with the openssl line of the first README."""
    key, cert = tmp_path / "own.key", tmp_path / "own.crt"
    run(
        *("openssl", "req", "-x509", "-subj", "/C=DE/CN=lxdocker.lxd"),
        *("-addext", "subjectAltName = DNS:lxdocker.lxd"),
        "-addext",
        "keyUsage = critical,nonRepudiation,digitalSignature,keyEncipherment,keyAgreement",
        *("-addext", "extendedKeyUsage = serverAuth,clientAuth"),
        *("-newkey", "rsa:4096", "-keyout", key, "-out", cert, "-sha512", "-days", "365", "-nodes"),
    )
    server = RunningServer(shelf, tmp_path)
    with server.free_port() as port:
        pass
    script = "from lxdocker_lxd.cli import entry_imgserver as run; run()"
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", script, "--address", f"127.0.0.1:{port}"),
            *("--lxdimages", str(shelf.directory), "--key", str(key), "--cert", str(cert)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().endswith(f"https://lxdocker.lxd:{port}/\n")
        context = ssl.create_default_context(cafile=str(cert))
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="lxdocker.lxd") as secure,
        ):
            secure.sendall(request("/streams/v1/index.json", "Connection: close"))
            assert b"streams/v1/images.json" in read_all(secure)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode == 0


def test_without_a_certificate_one_is_made_and_its_authority_offered(
    shelf: Shelf, tmp_path: Path
) -> None:
    server = RunningServer(shelf, tmp_path)
    server.certificate_flags = ("--tls-dir", str(tmp_path / "tls"), "--name", "127.0.0.1")
    try:
        server.start()
        unchecked = ssl._create_unverified_context()  # noqa: S323 - the first look at a new server
        with urllib.request.urlopen(f"{server.url}/ca.crt", context=unchecked, timeout=10) as got:
            authority = got.read()
        assert authority == (tmp_path / "tls" / "ca.crt").read_bytes()
        checked = ssl.create_default_context(cadata=authority.decode())
        with urllib.request.urlopen(f"{server.url}/healthz", context=checked, timeout=10) as got:
            assert got.read() == b"ok\n"
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("flags", "code", "said", "hint"),
    [
        (("--key", "x.pem"), 2, "--key and --cert belong together", "give both"),
        (("--key", "/no/key", "--cert", "/no/cert"), 3, "/no/key does not exist", "--key"),
        (("--address", "443"), 2, "expected :PORT", "[2001:db8::7]:8443"),
        (("--address", "fd://77"), 5, "without such a socket", "fd://3"),
        (("--stall-timeout", "0"), 2, "--stall-timeout: expected a whole number", ""),
        (("--url", "ftp://x"), 2, "--url: expected https://host", ""),
    ],
)
def test_what_is_wrong_is_said_before_anyone_is_served(
    tmp_path: Path, flags: tuple[str, ...], code: int, said: str, hint: str
) -> None:
    common = ("--address", "127.0.0.1:0", "--tls-dir", str(tmp_path / "tls"))
    done = run(*COMMAND, "--lxdimages", tmp_path, *common, *flags, check=False)
    assert (done.returncode, done.stdout) == (code, "")
    error, _, rest = done.stderr.partition("\n")
    assert error.startswith("error: ")
    assert said in error
    assert hint in rest
    assert not (tmp_path / "tls").exists()


def test_a_port_in_use_is_said(shelf: Shelf, tmp_path: Path) -> None:
    with running(shelf, tmp_path) as server:
        address = f"127.0.0.1:{server.port}"
        done = run(*COMMAND, "--lxdimages", shelf.directory, "--address", address, check=False)
    assert done.returncode == 5
    assert done.stderr.startswith(
        f"error: listen at {address}: Address already in use\nhint: see who"
    )


def test_a_directory_that_is_not_there_yet_is_told_and_awaited(tmp_path: Path) -> None:
    """It was an empty listing, which LXD keeps for an hour."""
    shelf = Shelf(tmp_path / "images")
    (tmp_path / "images" / "images").rmdir()
    (tmp_path / "images").rmdir()
    with running(shelf, tmp_path) as server:
        assert "does not exist" in server.log.read_text()
        found = server.get("/streams/v1/index.json")
        assert (found.status, found.headers["retry-after"]) == (503, "30")
        assert server.get("/readyz").status == 503
        Shelf(tmp_path / "images").publish("web", ROOTFS)
        eventually(lambda: server.get("/readyz").status == 200, timeout_seconds=5, what="it")
        assert b"web" in server.get("/streams/v1/images.json").body


@pytest.mark.parametrize("hours", [23, 49])
def test_a_certificate_that_ends_within_a_day_is_not_ready(
    shelf: Shelf, tmp_path: Path, hours: int
) -> None:
    """A balancer takes the server out before clients refuse it; it answers on meanwhile."""
    server = RunningServer(shelf, tmp_path)
    ends_at = datetime.now(UTC) + timedelta(hours=hours)
    short = server.authority.issue_cert("127.0.0.1", not_after=ends_at)
    short.private_key_pem.write_to_path(server.key)
    short.cert_chain_pems[0].write_to_path(server.cert)
    try:
        server.start()
        found = server.get("/readyz")
        if hours > 24:
            assert found.body == b"ready\n"
        else:
            assert found.status == 503
            assert b"not ready: the certificate is valid from" in found.body
            server.new_certificate()
            server.signal(signal.SIGHUP)
            eventually(lambda: server.get("/readyz").status == 200, timeout_seconds=5, what="it")
        assert server.get("/healthz").status == 200
    finally:
        server.stop()


@pytest.mark.parametrize("as_json", [False, True])
def test_remotes_are_printed_without_serving(shelf: Shelf, as_json: bool) -> None:
    flags = ("--url", "https://images.example.org", "--remote-name", "shop")
    form = ("--format", "json") if as_json else ()
    done = run(*COMMAND, "--print-remotes", "--lxdimages", shelf.directory, *flags, *form)
    assert "https://images.example.org/lxe/docker.io" in done.stdout
    if as_json:
        assert json.loads(done.stdout)[0]["name"] == "shop"
    else:
        assert done.stdout.startswith(
            'remotes:\n  "shop":\n    addr: "https://images.example.org"\n'
        )


def test_the_journal_gets_no_times(shelf: Shelf, tmp_path: Path) -> None:
    """JOURNAL_STREAM names the stream that standard error is."""
    server = RunningServer(shelf, tmp_path)
    server.log.touch()
    status = server.log.stat()
    server.environment = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
    try:
        server.start()
        server.get("/healthz")
    finally:
        server.stop()
    assert '<6>127.0.0.1 "GET" "/healthz" 200 3 bytes ' in server.log.read_text()
    assert all(line.startswith("<") for line in server.log.read_text().splitlines())
