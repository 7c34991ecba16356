"""The updater and a LXD elsewhere: over HTTPS, with the server's certificate pinned for everything."""

import contextlib
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lxdocker_lxd.lxd.daemon import open_lxd
from lxdocker_lxd.lxd.failures import ServerCertificateError
from lxdocker_lxd.lxd.place import RemotePlace
from lxdocker_lxd.update.followed_lxd import AnotherLxdError
from lxdocker_lxd.update.transaction import STAMP_KEY
from tests.harness.image_server import free_port
from tests.harness.lxd import PrivateLxd
from tests.harness.processes import eventually, run
from tests.harness.scripted_lxd import HOST_INFO, scripted_lxd
from tests.lxd.update_stage import Stage

pytestmark = pytest.mark.lxd


def make_pair(directory: Path, name: str) -> tuple[Path, Path]:
    """A key and a certificate that signs itself."""
    key, certificate = directory / f"{name}.key", directory / f"{name}.crt"
    run(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
        *("-nodes", "-keyout", key, "-out", certificate, "-days", "2", "-subj", f"/CN={name}"),
    )
    return key, certificate


@dataclass(frozen=True)
class Elsewhere:
    """The private LXD, listening on loopback."""

    lxd: PrivateLxd
    place: RemotePlace

    @property
    def words(self) -> tuple[str, ...]:
        """How a command is told of it."""
        place = self.place
        return (
            *("--lxd", place.url, "--lxd-cert", str(place.client_certificate)),
            *("--lxd-key", str(place.client_key)),
            *("--lxd-server-cert", str(place.server_certificate)),
        )

    def hang_up(self) -> None:
        """Let LXD listen no more."""
        self.lxd.lxc("config", "unset", "core.https_address")


@pytest.fixture
def elsewhere(private_lxd: PrivateLxd, tmp_path: Path) -> Iterator[Elsewhere]:
    lxd = private_lxd
    address = f"127.0.0.1:{free_port()}"
    key, certificate = make_pair(tmp_path, "client")
    lxd.lxc("config", "set", "core.https_address", address)
    lxd.lxc("config", "trust", "add", certificate)
    found = Elsewhere(
        lxd,
        RemotePlace(
            url=f"https://{address}",
            client_certificate=certificate,
            client_key=key,
            server_certificate=lxd.directory / "server.crt",
        ),
    )
    try:
        yield found
    finally:
        found.hang_up()
        for one in lxd.query("GET", "/1.0/certificates?recursion=1"):
            lxd.lxc("config", "trust", "remove", one["fingerprint"])


@contextlib.contextmanager
def impostor(place: RemotePlace, directory: Path) -> Iterator[list[bytes | None]]:
    """Somebody who listens where LXD was, with a certificate of their own.

    Lists what each caller said, None for those who hung up on the certificate.
    """
    key, certificate = make_pair(directory, "impostor")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    told: list[bytes | None] = []
    with socket.create_server(place.address) as server:

        def listen() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = server.accept()
                    with peer:
                        try:
                            told.append(context.wrap_socket(peer, server_side=True).recv(4096))
                        except OSError:
                            told.append(None)

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield told
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def test_a_changed_certificate_is_refused_by_requests_and_events(
    elsewhere: Elsewhere, tmp_path: Path
) -> None:
    lxd = open_lxd(elsewhere.place)
    with lxd.events.subscribe() as stream:
        elsewhere.lxd.lxc("profile", "create", "heard")
        elsewhere.lxd.lxc("profile", "delete", "heard")
        event = stream.take(10)
        assert event is not None
        assert event.action == "profile-created"
    lxd.close()
    elsewhere.hang_up()
    with impostor(elsewhere.place, tmp_path) as told:
        for ask in (lxd.events.subscribe, lxd.instances.list):
            with pytest.raises(ServerCertificateError) as caught:
                ask()
            assert "a certificate that isn't the trusted one" in caught.value.message
            assert "\n" not in caught.value.message
            assert "pin the right certificate" in caught.value.hint
    # Nothing was said to them: no request, no handshake of a websocket.
    assert not any(told)


@pytest.mark.full
def test_the_service_follows_a_lxd_elsewhere_and_nobody_else(
    elsewhere: Elsewhere, tmp_path: Path
) -> None:
    lxd, state, words = elsewhere.lxd, tmp_path / "state", elsewhere.words
    stage = Stage(lxd, tmp_path, words=("one", "two"))
    try:
        name = stage.launch("one")
        stage.follow("app", "one")
        stage.update(state, "enable", name, "--image=local|app", *words)
        with stage.begin(state, "run", "--interval=600", *words) as service:
            try:
                eventually(
                    (state / "lxd.json").exists, timeout_seconds=30, what="the service's first look"
                )
                stage.follow("app", "two")
                eventually(
                    lambda: (
                        '"committed"'
                        in lxd.lxc("config", "get", name, STAMP_KEY, check=False).stdout
                    ),
                    timeout_seconds=60,
                    what="the update",
                )
                assert stage.version(name) == "two"
                elsewhere.hang_up()
                with impostor(elsewhere.place, tmp_path) as told:
                    # LXD leaves connections open that it has; a daemon that ends doesn't.
                    lxd.restart()
                    eventually(lambda: told, timeout_seconds=20, what="the service's next try")
                    refused = stage.update(state, "status", *words, check=False)
                    assert refused.returncode == ServerCertificateError.exit_code
                    assert refused.stderr.count("a certificate that isn't the trusted one") == 1
                    assert "Traceback" not in refused.stderr
                    assert not any(told)
            finally:
                service.terminate()
                _, said = service.communicate(timeout=30)
        assert service.returncode == 0, said
        assert "Traceback" not in said
        port = elsewhere.place.address[1]
        assert f"error: could not listen to the LXD at 127.0.0.1:{port}: it shows a cert" in said

        # Its state directory is no other LXD's; by another way to the same one it may be used.
        stage.update(state, "status")
        lxd_json = (state / "lxd.json").read_text()
        with scripted_lxd(tmp_path) as other:
            other.host_info = {
                **HOST_INFO,
                "environment": {"server": "lxd", "certificate_fingerprint": "0" * 64},
            }
            for action in ("status", "now", "recover"):
                done = subprocess.run(
                    stage.command(state, action),
                    env=os.environ | {"LXD_DIR": str(tmp_path)},
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert done.returncode == AnotherLxdError.exit_code, done.stderr
                assert f"{state} is the state of the LXD at https://127.0.0.1:{port}" in done.stderr
                assert "--state names a directory for each LXD" in done.stderr
        assert (state / "lxd.json").read_text() == lxd_json
    finally:
        stage.clean()
        stage.remove_images()
