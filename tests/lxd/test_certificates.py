"""Real LXD before our certificates: the CA pinned, the server's own certificate replaced.

Go's rules decide here: name constraints, host names, TLS 1.3, the names LXD asks for.
"""

import json
import ssl
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from lxdocker_lxd.serve import certificate as x509
from lxdocker_lxd.serve.certificate_directory import CertificateDirectory
from lxdocker_lxd.serve.server_names import ServerNames, parse
from lxdocker_lxd.serve.tls import ServerCertificate, given_certificate, local_certificate
from tests.harness.http_server import serving
from tests.harness.lxd import PrivateLxd
from tests.harness.nginx import private_nginx
from tests.harness.processes import run
from tests.harness.small_image import write_layout

pytestmark = [pytest.mark.lxd]

TLS13 = ssl.TLSVersion.TLSv1_3
COMMAND = (sys.executable, "-m", "lxdocker_lxd")
NOTHING = b'{"format": "index:1.0", "index": {}}'


class Empty(BaseHTTPRequestHandler):
    """A tree without images."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(NOTHING)))
        self.end_headers()
        self.wfile.write(NOTHING)

    def log_message(self, *_: object) -> None:
        pass


class Client:
    """An ``lxc`` of its own, that trusts one certificate."""

    def __init__(self, lxd: PrivateLxd, directory: Path) -> None:
        self.directory = directory
        self.environment = lxd.environment | {"LXD_CONF": str(directory)}

    def images(self, url: str, pinned: bytes) -> tuple[bool, str]:
        """Whether ``lxc image list`` works at ``url``, and what it says."""
        (self.directory / "servercerts").mkdir(parents=True, exist_ok=True)
        (self.directory / "servercerts" / "ours.crt").write_bytes(pinned)
        (self.directory / "config.yml").write_text(
            "default-remote: local\nremotes:\n"
            f"  ours: {{addr: '{url}', protocol: simplestreams, public: true}}\n"
        )
        done = run("lxc", "image", "list", "ours:", check=False, env=self.environment)
        return done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def client(private_lxd: PrivateLxd, tmp_path: Path) -> Client:
    return Client(private_lxd, tmp_path / "client")


def local(directory: Path, *names: str) -> ServerCertificate:
    host = ServerNames.of([parse("localhost"), parse("127.0.0.1")])
    return local_certificate(directory, names, datetime.now(UTC), TLS13, host=lambda: host)


def authority_of(certificate: ServerCertificate) -> bytes:
    found = certificate.authority()
    assert found is not None
    return found


def test_lxd_believes_the_pinned_authority(client: Client, tmp_path: Path) -> None:
    """By address and by name; and it goes on when the server's own certificate is another one."""
    certificate = local(tmp_path / "tls")
    pinned = authority_of(certificate)
    with serving(Empty, tls=certificate.context()) as http:
        port = http.server_address[1]
        for host in ("127.0.0.1", "localhost"):
            works, text = client.images(f"https://{host}:{port}", pinned)
            assert works, text
        before = certificate.facts().fingerprint
        (tmp_path / "tls" / "server.key").unlink()
        assert certificate.refresh(datetime.now(UTC))
        assert certificate.facts().fingerprint != before
        works, text = client.images(f"https://127.0.0.1:{port}", pinned)
        assert works, text
        # So it does when the CA was renewed, with the old certificate pinned and with the new one.
        assert certificate.refresh(datetime.now(UTC) + timedelta(days=2500))
    renewed = local(tmp_path / "tls")
    assert authority_of(renewed) != pinned
    with serving(Empty, tls=renewed.context()) as http:
        for pin in (pinned, authority_of(renewed)):
            works, text = client.images(f"https://127.0.0.1:{http.server_address[1]}", pin)
            assert works, text


def test_lxd_refuses_another_authority(client: Client, tmp_path: Path) -> None:
    certificate = local(tmp_path / "tls")
    stranger = authority_of(local(tmp_path / "other"))
    with serving(Empty, tls=certificate.context()) as http:
        works, text = client.images(f"https://127.0.0.1:{http.server_address[1]}", stranger)
    assert not works
    assert "x509" in text


def test_lxd_refuses_what_the_authority_may_not_vouch_for(client: Client, tmp_path: Path) -> None:
    """With a stolen key somebody signs for another name; the constraints hold in Go too."""
    host = ServerNames.of([parse("nas")])
    CertificateDirectory(tmp_path / "tls").held(host, ServerNames(), at=datetime.now(UTC))
    stolen = (tmp_path / "tls" / "ca.key").read_bytes()
    pinned = (tmp_path / "tls" / "ca.crt").read_bytes()
    key = x509.new_key()
    for other, allowed in (("images.example.com", False), ("8.8.8.8", False), ("a.nas", False),
                           ("b.lan", True)):  # fmt: skip
        names = ServerNames.of([parse("127.0.0.1"), parse(other)])
        leaf = x509.new_server_certificate(
            key, names, authority_key=stolen, authority=pinned, at=datetime.now(UTC), serial=7
        )
        (tmp_path / "key").write_bytes(key)
        (tmp_path / "leaf").write_bytes(leaf)
        server = given_certificate(tmp_path / "key", tmp_path / "leaf", TLS13)
        with serving(Empty, tls=server.context()) as http:
            works, text = client.images(f"https://127.0.0.1:{http.server_address[1]}", pinned)
        assert works is allowed, (other, text)


def test_the_seeds_openssl_line_works_with_lxd(client: Client, tmp_path: Path) -> None:
    """Pinned itself: LXD then asks for its first DNS name, whatever the address is."""
    run(
        *("openssl", "req", "-x509", "-subj", "/C=DE/CN=lxdocker.lxd"),
        *("-addext", "subjectAltName = DNS:lxdocker.lxd", "-addext"),
        "keyUsage = critical,nonRepudiation,digitalSignature,keyEncipherment,keyAgreement",
        *("-addext", "extendedKeyUsage = serverAuth,clientAuth", "-newkey", "rsa:4096"),
        *("-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"),
        *("-sha512", "-days", "365", "-nodes"),
    )
    server = given_certificate(tmp_path / "key.pem", tmp_path / "cert.pem", TLS13)
    with serving(Empty, tls=server.context()) as http:
        url = f"https://127.0.0.1:{http.server_address[1]}"
        works, text = client.images(url, (tmp_path / "cert.pem").read_bytes())
    assert works, text


def test_listing_while_the_certificate_is_replaced(client: Client, tmp_path: Path) -> None:
    certificate = local(tmp_path / "tls")
    pinned = authority_of(certificate)
    stop = threading.Event()

    def replacing() -> None:
        while not stop.wait(0.01):
            (tmp_path / "tls" / "server.key").unlink()
            certificate.refresh(datetime.now(UTC))

    with serving(Empty, tls=certificate.context()) as http:
        thread = threading.Thread(target=replacing)
        thread.start()
        try:
            for _ in range(15):
                works, text = client.images(f"https://127.0.0.1:{http.server_address[1]}", pinned)
                assert works, text
        finally:
            stop.set()
            thread.join()


# ---- an exported tree behind nginx

HELLO = b"""#!/bin/busybox sh
echo hello from nginx
while :; do /bin/busybox sleep 1000 & wait $!; done
"""


@pytest.fixture
def exported(tmp_path: Path) -> Iterator[tuple[str, bytes]]:
    """An exported tree of one image, the URL where nginx serves it and the CA."""
    files = {"bin/busybox": Path("/bin/busybox").read_bytes(), "hello": HELLO}
    specs = tmp_path / "specs"
    write_layout(specs / "web.layout", tag="1", files=files, entrypoint=["/hello"])
    (specs / "web.yaml").write_text("image: oci:web.layout:1\n")
    published = ("--lxdimages", tmp_path / "lxdimages")
    run(*COMMAND, "convert", "--specs", specs, "--cache", tmp_path / "cache", *published)
    run(*COMMAND, "export", tmp_path / "www", *published)
    local(tmp_path / "tls")
    tls = tmp_path / "tls"
    with private_nginx(tmp_path / "www", tls / "server.crt", tls / "server.key") as url:
        yield url, (tls / "ca.crt").read_bytes()


def test_lxd_launches_from_an_exported_tree(
    private_lxd: PrivateLxd, exported: tuple[str, bytes]
) -> None:
    """The daemon downloads too, with the certificate that the client hands over."""
    url, authority = exported
    pinned = private_lxd.home / "client" / "servercerts"
    pinned.mkdir(exist_ok=True)
    (pinned / "exported.crt").write_bytes(authority)
    private_lxd.lxc("remote", "add", "exported", url, "--protocol=simplestreams")
    try:
        private_lxd.lxc("launch", "exported:web", "fromnginx", timeout_seconds=120)
        private_lxd.wait_console("fromnginx", "hello from nginx")
        (image,) = (
            one
            for one in json.loads(private_lxd.lxc("image", "list", "--format=json").stdout)
            if (one.get("update_source") or {}).get("server") == url
        )
        # LXD keeps the certificate, for its automatic updates.
        assert image["update_source"]["certificate"].strip() == authority.decode().strip()
        private_lxd.delete("fromnginx")
        private_lxd.lxc("image", "delete", image["fingerprint"])
    finally:
        private_lxd.lxc("delete", "--force", "fromnginx", check=False)
        private_lxd.lxc("remote", "remove", "exported")
