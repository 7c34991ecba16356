"""The live TLS context: a certificate replaced while connections are open, and bad ones refused."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import trustme

from lxdocker_lxd.errors import LxdockerError, NotFoundError, StorageError, UsageError
from lxdocker_lxd.serve import certificate as x509
from lxdocker_lxd.serve import tls
from lxdocker_lxd.serve.certificate import CertificateError
from lxdocker_lxd.serve.certificate_directory import NameNotPermittedError
from lxdocker_lxd.serve.server_names import ServerNames, parse
from lxdocker_lxd.serve.tls import ServerCertificate, given_certificate, local_certificate
from tests.harness.processes import run
from tests.unit.catalogues import START, hours

TLS13 = ssl.TLSVersion.TLSv1_3
TLS12 = ssl.TLSVersion.TLSv1_2
HOST = ServerNames.of([parse("localhost"), parse("127.0.0.1")])


@contextlib.contextmanager
def echoing(context: ssl.SSLContext) -> Iterator[int]:
    """A server that returns what it gets, a thread a connection; yields its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer(connection: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            connection,
            context.wrap_socket(connection, server_side=True) as stream,
        ):
            while content := stream.recv(100):
                stream.sendall(content)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=answer, args=[connection], daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def connect(
    port: int,
    ca: bytes | None = None,
    *,
    maximum: ssl.TLSVersion = TLS13,
    alpn: tuple[str, ...] = (),
    name: str | None = "localhost",
) -> ssl.SSLSocket:
    """A client's connection; ``ca`` is what it trusts, None anybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = maximum
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if ca is None or name is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=ca.decode())
    raw = socket.create_connection(("127.0.0.1", port), timeout=10)
    return context.wrap_socket(raw, server_hostname=name)


def seen(port: int, *, name: str | None = "localhost") -> bytes:
    """The certificate a new connection is shown, DER."""
    with connect(port, name=name) as stream:
        shown = stream.getpeercert(binary_form=True)
        assert shown is not None
        return shown


class Pair:
    """A key and a certificate on disk, as an administrator gives them."""

    def __init__(self, directory: Path) -> None:
        self.key = directory / "key.pem"
        self.cert = directory / "cert.pem"
        self.authority = trustme.CA()
        self.replace()

    def replace(self, *, rsa: bool = False) -> bytes:
        """Put a new pair there and return the certificate, DER."""
        kind = trustme.KeyType.RSA if rsa else trustme.KeyType.ECDSA
        leaf = self.authority.issue_cert("localhost", "127.0.0.1", key_type=kind)
        self.key.write_bytes(leaf.private_key_pem.bytes())
        self.cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        return ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())

    def certificate(self, minimum: ssl.TLSVersion = TLS13) -> ServerCertificate:
        return given_certificate(self.key, self.cert, minimum)


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def test_a_given_pair_is_served(pair: Pair) -> None:
    ca = pair.authority.cert_pem.bytes()
    with echoing(pair.certificate().context()) as port, connect(port, ca) as stream:
        assert stream.version() == "TLSv1.3"
        stream.sendall(b"hello")
        assert stream.recv(100) == b"hello"


def test_a_pair_is_replaced_while_a_connection_is_open(pair: Pair) -> None:
    certificate = pair.certificate()
    context = certificate.context()
    with echoing(context) as port, connect(port) as stream:
        before = seen(port)
        after = pair.replace()
        assert seen(port) == before
        assert certificate.refresh(START) is True
        assert certificate.context() is context
        assert seen(port) == after != before
        # A client without a server name (an address as URL) is shown the same.
        assert seen(port, name=None) == after
        stream.sendall(b"still")
        assert stream.recv(100) == b"still"
        assert certificate.refresh(START) is False


def test_another_kind_of_key_takes_the_place_of_the_old(pair: Pair) -> None:
    """OpenSSL keeps one certificate of each kind: loaded into one context, RSA would stay in service."""
    pair.replace(rsa=True)
    certificate = pair.certificate(TLS12)
    with echoing(certificate.context()) as port:
        after = pair.replace(rsa=False)
        certificate.refresh(START)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        assert seen(port) == after
        # A client that takes RSA only finds nothing to its taste, rather than an old certificate.
        context.maximum_version = TLS12
        context.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
            pytest.raises(ssl.SSLError),
        ):
            context.wrap_socket(raw)


def first_der(chain: bytes) -> bytes:
    """The first certificate of a PEM text."""
    end = "-----END CERTIFICATE-----\n"
    return ssl.PEM_cert_to_DER_cert(chain.decode().split(end)[0] + end)


def bad_pairs(pair: Pair) -> dict[str, tuple[bytes, bytes, str]]:
    """Key, certificate and a word of the error, for each way to be wrong."""
    key, cert = pair.key.read_bytes(), pair.cert.read_bytes()
    pair.replace()
    other_key, other_cert = pair.key.read_bytes(), pair.cert.read_bytes()
    pair.replace(rsa=True)
    rsa_key = pair.key.read_bytes()
    return {
        "only the key replaced": (other_key, cert, "is not the key of"),
        "only the certificate replaced": (key, other_cert, "is not the key of"),
        "a key of another kind": (rsa_key, cert, "is not the key of"),
        "empty certificate": (key, b"", "no certificate in PEM form"),
        "empty key": (b"", cert, "no private key in PEM form"),
        "half a certificate": (key, cert[: len(cert) // 3], "no certificate in PEM form"),
        "half a key": (key[: len(key) // 2], cert, "no private key in PEM form"),
        "key and certificate exchanged": (cert, key, "no certificate in PEM form"),
        "DER": (key, first_der(cert), "no certificate in PEM form"),
        "garbage": (b"\0\xff" * 100, b"\0\xff" * 100, "no certificate in PEM form"),
        "too large": (key, cert + b"x" * (1 << 20), "too large"),
    }  # fmt: skip


WRONG = (
    *("only the key replaced", "only the certificate replaced", "empty certificate", "empty key"),
    *("half a certificate", "half a key", "key and certificate exchanged", "DER", "garbage"),
    *("too large", "a key of another kind"),
)


@pytest.mark.parametrize("wrong", WRONG)
def test_a_bad_replacement_keeps_the_old(pair: Pair, wrong: str) -> None:
    key, cert = pair.key.read_bytes(), pair.cert.read_bytes()
    certificate = pair.certificate()
    facts = certificate.facts()
    bad_key, bad_cert, word = bad_pairs(pair)[wrong]
    pair.key.write_bytes(bad_key)
    pair.cert.write_bytes(bad_cert)
    with echoing(certificate.context()) as port:
        before = first_der(cert)
        for _ in range(2):
            with pytest.raises(CertificateError, match=word) as caught:
                certificate.refresh(START)
            assert seen(port) == before
        assert certificate.facts() == facts
        secret = key.decode().splitlines()[1]
        assert secret not in f"{caught.value} {caught.value.hint} {caught.value.__cause__!r}"
        # And when the files are good again, they serve.
        after = pair.replace()
        assert certificate.refresh(START)
        assert seen(port) == after
    # At the start such a pair is an error too.
    pair.key.write_bytes(bad_key)
    pair.cert.write_bytes(bad_cert)
    with pytest.raises(CertificateError, match=word):
        pair.certificate()


@pytest.mark.tools
def test_an_encrypted_key_is_an_error_and_no_question(pair: Pair) -> None:
    run(
        *("openssl", "pkey", "-in", pair.key, "-aes256", "-passout", "pass:secret"),
        *("-out", pair.key.with_suffix(".enc")),
    )
    pair.key.with_suffix(".enc").replace(pair.key)
    with pytest.raises(CertificateError, match="passphrase") as caught:
        pair.certificate()
    assert "openssl pkey" in caught.value.hint


def test_missing_and_unreadable_files(pair: Pair, tmp_path: Path) -> None:
    certificate = pair.certificate()
    pair.cert.unlink()
    with pytest.raises(NotFoundError, match=r"cert\.pem does not exist"):
        certificate.refresh(START)
    with pytest.raises(NotFoundError):
        pair.certificate()
    pair.replace()
    pair.key.unlink()
    pair.key.mkdir()
    with pytest.raises(StorageError, match=r"key\.pem"):
        certificate.refresh(START)


def test_a_weak_key_is_refused_with_the_reason(tmp_path: Path) -> None:
    done = run(
        *("openssl", "req", "-x509", "-newkey", "rsa:1024", "-nodes", "-subj", "/CN=x"),
        *("-keyout", tmp_path / "k", "-out", tmp_path / "c"),
        check=False,
    )
    if done.returncode == 0:
        with pytest.raises(CertificateError, match="too weak"):
            given_certificate(tmp_path / "k", tmp_path / "c", TLS13)


@pytest.mark.tools
def test_the_seeds_openssl_line_works(tmp_path: Path) -> None:
    run(
        *("openssl", "req", "-x509", "-subj", "/C=DE/CN=lxdocker.lxd"),
        *("-addext", "subjectAltName = DNS:lxdocker.lxd", "-addext"),
        "keyUsage = critical,nonRepudiation,digitalSignature,keyEncipherment,keyAgreement",
        *("-addext", "extendedKeyUsage = serverAuth,clientAuth", "-newkey", "rsa:4096"),
        *("-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"),
        *("-sha512", "-days", "365", "-nodes"),
    )
    certificate = given_certificate(tmp_path / "key.pem", tmp_path / "cert.pem", TLS13)
    with echoing(certificate.context()) as port:
        ca = (tmp_path / "cert.pem").read_bytes()
        with connect(port, ca, name="lxdocker.lxd") as stream:
            stream.sendall(b"seed")
            assert stream.recv(100) == b"seed"
    assert certificate.facts().names.dns == ("lxdocker.lxd",)


@pytest.mark.parametrize(
    ("minimum", "maximum", "works"),
    [(TLS13, TLS13, True), (TLS13, TLS12, False), (TLS12, TLS12, True), (TLS12, TLS13, True)],
)
def test_the_oldest_version(
    pair: Pair, minimum: ssl.TLSVersion, maximum: ssl.TLSVersion, works: bool
) -> None:
    certificate = pair.certificate(minimum)
    pair.replace()
    certificate.refresh(START)
    with echoing(certificate.context()) as port:
        if works:
            with connect(port, maximum=maximum) as stream:
                assert stream.version() == ("TLSv1.3" if maximum == TLS13 else "TLSv1.2")
        else:
            with pytest.raises(ssl.SSLError):
                connect(port, maximum=maximum)


def test_http_2_is_never_agreed_on(pair: Pair) -> None:
    certificate = pair.certificate()
    with echoing(certificate.context()) as port:
        for _ in range(2):
            with connect(port, alpn=("h2", "http/1.1")) as stream:
                assert stream.selected_alpn_protocol() == "http/1.1"
            pair.replace()
            certificate.refresh(START)


def test_warnings_about_time_and_rights(pair: Pair) -> None:
    certificate = pair.certificate()
    facts = certificate.facts()
    pair.key.chmod(0o600)
    assert certificate.notices(facts.not_after - timedelta(days=60)) == ()
    (soon,) = certificate.notices(facts.not_after - timedelta(days=3))
    assert "expires on" in soon
    (expired,) = certificate.notices(facts.not_after + timedelta(days=1))
    assert "expired" in expired
    (early,) = certificate.notices(facts.not_before - timedelta(days=1))
    assert "check the clock" in early
    pair.key.chmod(0o644)
    (loose,) = certificate.notices(facts.not_after - timedelta(days=60))
    assert "chmod" in loose
    assert certificate.authority() is None


def local(place: Path, *names: str) -> ServerCertificate:
    return local_certificate(place, names, START, TLS13, host=lambda: HOST)


def test_a_local_authority_serves_and_renews(tmp_path: Path) -> None:
    certificate = local(tmp_path / "tls", "images.lan")
    ca = certificate.authority()
    assert ca is not None
    with echoing(certificate.context()) as port:
        before = seen(port)
        assert certificate.refresh(START + timedelta(days=59)) is False
        assert certificate.refresh(START + timedelta(days=61)) is True
        assert seen(port) != before
        assert certificate.authority() == ca
    assert certificate.notices(START + timedelta(days=61)) == ()


def test_a_client_that_trusts_the_authority_trusts_the_next_leaf(tmp_path: Path) -> None:
    now = hours(0)
    certificate = local_certificate(tmp_path, ["images.lan"], now, TLS13, host=lambda: HOST)
    ca = certificate.authority()
    certificate.refresh(now + timedelta(days=61))
    chain = x509.facts(ca or b"")
    assert x509.issued(ca or b"", Path(tmp_path, "server.crt").read_bytes())
    assert chain.is_authority


def test_a_new_address_of_the_host_gets_a_certificate(tmp_path: Path) -> None:
    addresses = [HOST]
    certificate = local_certificate(tmp_path, [], START, TLS13, host=lambda: addresses[0])
    addresses[0] = ServerNames.of([*HOST.all(), parse("10.9.8.7"), parse("198.51.100.1")])
    assert certificate.refresh(START) is True
    assert parse("10.9.8.7") in certificate.facts().names.addresses
    (notice,) = certificate.notices(START)
    assert "198.51.100.1" in notice


def test_a_failed_renewal_keeps_the_old(tmp_path: Path) -> None:
    certificate = local(tmp_path / "tls")
    (tmp_path / "tls" / "ca.key").unlink()
    with echoing(certificate.context()) as port:
        before = seen(port)
        with pytest.raises(LxdockerError, match="missing"):
            certificate.refresh(START + timedelta(days=91))
        assert seen(port) == before
        (notice,) = certificate.notices(START + timedelta(days=91))
        assert "expired" in notice


def test_bad_names_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        local(tmp_path / "tls", "https://images.lan")
    assert not (tmp_path / "tls").exists()
    local(tmp_path / "tls", "images.lan")
    with pytest.raises(NameNotPermittedError):
        local(tmp_path / "tls", "images.example.com")


def test_a_pair_never_shows_its_key() -> None:
    shown = repr(
        tls.KeyPair(key=b"secret", certificate=b"open", key_name="k", certificate_name="c")
    )
    assert "secret" not in shown


def test_handshakes_while_the_certificate_is_replaced(pair: Pair) -> None:
    certificate = pair.certificate()
    failures: list[BaseException] = []
    stop = threading.Event()

    def clients(port: int) -> None:
        while not stop.is_set():
            try:
                seen(port)
            except OSError as error:
                failures.append(error)

    with echoing(certificate.context()) as port:
        threads = [threading.Thread(target=clients, args=[port]) for _ in range(3)]
        for thread in threads:
            thread.start()
        for index in range(30):
            pair.replace(rsa=index % 10 == 0)
            certificate.refresh(START)
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []


def test_asyncio_shows_the_new_certificate_too(pair: Pair) -> None:
    """Its transports don't wrap sockets: they use objects of another class."""
    certificate = pair.certificate()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(100))
        writer.close()

    async def story() -> None:
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=certificate.context())
        port = server.sockets[0].getsockname()[1]
        before = await loop.run_in_executor(None, seen, port)
        after = pair.replace()
        certificate.refresh(START)
        assert await loop.run_in_executor(None, seen, port) == after != before
        server.close()
        await server.wait_closed()

    asyncio.run(story())
