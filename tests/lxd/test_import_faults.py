"""What can go wrong on the way into LXD: one clear line, the next step, and nothing half-made."""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from tests.harness.image_server import free_port, image_server
from tests.harness.lxd import PrivateLxd
from tests.harness.processes import eventually, run
from tests.lxd.data_image import write_data_layout
from tests.lxd.user import Said, User

pytestmark = [pytest.mark.lxd, pytest.mark.tools]

NOBODY = 65534
BUSYBOX = {"bin/busybox": Path("/bin/busybox").read_bytes()}


@pytest.fixture
def user(private_lxd: PrivateLxd, tmp_path: Path) -> Iterator[User]:
    """Somebody at a machine with LXD, and an image in the layout ``db``."""
    one = User(lxd=private_lxd, home=tmp_path / "home")
    one.clean()
    write_data_layout(one.home / "db")
    yield one
    one.clean()


def refused(user: User, *words: str | Path, code: int, **named: object) -> Said:
    """Run ``import``; its two lines."""
    said = user.run("import", *words, code=code, **named)
    error, hint = said.err.splitlines()
    assert error.startswith("error: ")
    assert hint.startswith("hint: ")
    return said


class TestReachingLxd:
    """Every command says the same of a LXD that can't be reached."""

    def test_there_is_none(self, user: User) -> None:
        said = refused(user, "oci:db:1.0", code=7, more={"LXD_DIR": "/nonexistent"})
        assert "LXD_DIR names /nonexistent, and no socket unix.socket is there" in said.err
        assert not (user.home / "imports").exists()

    def test_it_does_not_run(self, user: User, tmp_path: Path) -> None:
        directory = tmp_path / "dead"
        directory.mkdir()
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(directory / "unix.socket"))
        for command in (("import", "oci:db:1.0"), ("ps",), ("launch", "oci:db:1.0", "web")):
            said = user.run(*command, code=7, more={"LXD_DIR": str(directory)})
            assert len(said.err.splitlines()) == 2
            assert "hint: " in said.err

    @pytest.mark.root
    def test_its_socket_is_for_others(self, user: User) -> None:
        # Root without its rights over others' files is anybody.
        os.chown(user.lxd.socket, NOBODY, NOBODY)
        rights = "-dac_override,-dac_read_search"
        try:
            said = user.run("ps", code=4, prefix=("setpriv", "--bounding-set", rights))
        finally:
            os.chown(user.lxd.socket, 0, 0)
        assert "group lxd" in said.err.splitlines()[1]


class TestBrokenConfiguration:
    """The client's own files."""

    def test_a_broken_config_yml(self, user: User) -> None:
        (user.home / "lxc" / "config.yml").write_text("remotes:\n  far: {addr: [\n")
        said = refused(user, "oci:db:1.0", "--target-remote", "far", code=2)
        assert "config.yml:3" in said.err
        assert "hint: correct that line" in said.err
        # What needs no remote works all the same.
        assert user.image("oci:db:1.0")["outcome"] == "imported"

    def test_a_remote_that_is_not_there(self, user: User) -> None:
        said = refused(user, "oci:db:1.0", "--target-remote", "far", code=3)
        assert "there is no remote 'far'" in said.err

    def test_a_remote_without_certificates(self, user: User) -> None:
        (user.home / "lxc" / "config.yml").write_text(
            "remotes:\n  far: {addr: https://127.0.0.1:1}\n"
        )
        said = refused(user, "oci:db:1.0", "--target-remote", "far", code=4)
        assert "client.crt" in said.err

    def test_damaged_records_of_imports(self, user: User) -> None:
        (user.home / "imports").mkdir()
        (user.home / "imports" / "imports.json").write_text("{")
        said = refused(user, "oci:db:1.0", code=6)
        assert "imports.json" in said.err
        assert user.images() == {}


class TestCertificates:
    """Certificates whose time is over."""

    def expired(self, directory: Path) -> tuple[Path, Path]:
        authority = trustme.CA()
        past = datetime.now(UTC) - timedelta(days=1)
        issued = authority.issue_cert("127.0.0.1", not_after=past)
        authority.cert_pem.write_to_path(str(directory / "ca.pem"))
        issued.private_key_and_cert_chain_pem.write_to_path(str(directory / "both.pem"))
        return directory / "ca.pem", directory / "both.pem"

    def test_of_a_remote_lxd(self, user: User, tmp_path: Path) -> None:
        authority, both = self.expired(tmp_path)
        lxc = user.home / "lxc"
        own = trustme.CA().issue_cert("me")
        own.private_key_pem.write_to_path(str(lxc / "client.key"))
        own.cert_chain_pems[0].write_to_path(str(lxc / "client.crt"))
        (lxc / "servercerts").mkdir()
        (lxc / "servercerts" / "far.crt").write_bytes(authority.read_bytes())
        port = free_port()
        (lxc / "config.yml").write_text(f"remotes:\n  far: {{addr: https://127.0.0.1:{port}}}\n")
        with answering(port, both):
            said = refused(user, "oci:db:1.0", "--target-remote", "far", code=5)
        assert "expired" in said.err

    def test_of_an_image_server(self, user: User, tmp_path: Path) -> None:
        authority, both = self.expired(tmp_path)
        (tmp_path / "server").mkdir()
        keys = ("--cert", str(both), "--key", str(both))
        with image_server(tmp_path / "server", *keys) as server:
            server.publish("web", files=BUSYBOX, entrypoint=["/bin/busybox", "true"])
            said = refused(user, "web", "--from", server.url, "--ca", authority, code=7)
        assert "expired" in said.err
        assert (user.images(), user.aliases()) == ({}, {})


class TestOwnCertificates:
    """Our side of a remote LXD over HTTPS: LXD itself decides what it thinks of us."""

    @pytest.fixture
    def far(self, user: User) -> Iterator[User]:
        """A user whose ``lxc`` knows the LXD as ``far``, with its certificate pinned."""
        lxc = user.home / "lxc"
        user.lxd.lxc("config", "set", "core.https_address", f"127.0.0.1:{free_port()}")
        server = user.lxd.query("GET", "/1.0")["environment"]
        (lxc / "servercerts").mkdir()
        (lxc / "servercerts/far.crt").write_text(server["certificate"])
        address = server["addresses"][0]
        (lxc / "config.yml").write_text(f"remotes:\n  far: {{addr: https://{address}}}\n")
        yield user
        user.lxd.lxc("config", "unset", "core.https_address")
        for one in user.lxd.query("GET", "/1.0/certificates?recursion=1"):
            user.lxd.lxc("config", "trust", "remove", one["fingerprint"])

    def pair(self, user: User, *, expires_in: timedelta) -> Path:
        """Make the client's key and certificate."""
        lxc, now = user.home / "lxc", datetime.now(UTC)
        day = timedelta(days=2)
        made = trustme.CA().issue_cert("me", not_before=now - day, not_after=now + expires_in)
        made.private_key_pem.write_to_path(str(lxc / "client.key"))
        made.cert_chain_pems[0].write_to_path(str(lxc / "client.crt"))
        return lxc / "client.crt"

    def test_an_expired_one(self, far: User) -> None:
        """LXD takes no expired certificate into its list; it expires there."""
        lifetime = timedelta(seconds=3)
        certificate = self.pair(far, expires_in=lifetime)
        began = time.monotonic()
        far.lxd.lxc("config", "trust", "add", certificate, "--name", "short")
        eventually(
            lambda: time.monotonic() > began + lifetime.total_seconds() + 1,
            timeout_seconds=10,
            what="the certificate to expire",
        )
        for command in (("import", "oci:db:1.0"), ("ps",), ("launch", "oci:db:1.0", "web")):
            said = far.run(*command, "--target-remote", "far", code=4)
            error, hint = said.err.splitlines()
            assert "our client certificate for the LXD at" in error
            assert "expired on 20" in error
            assert str(certificate) in error
            assert "`lxc config trust add client.crt`" in hint
        assert (far.images(), far.aliases(), far.lxd.instances()) == ({}, {}, [])
        assert not (far.home / "imports").exists()

        # What the hint says helps.
        far.lxd.lxc(
            *("config", "trust", "add"),
            self.pair(far, expires_in=timedelta(days=1)),
            "--name",
            "new",
        )
        assert far.image("oci:db:1.0", "--target-remote", "far")["outcome"] == "imported"

    def test_one_that_lxd_never_heard_of(self, far: User) -> None:
        self.pair(far, expires_in=timedelta(days=1))
        said = refused(far, "oci:db:1.0", "--target-remote", "far", code=4)
        assert "doesn't trust our client certificate" in said.err
        assert "expired" not in said.err

    def test_the_server_shows_another_one_than_is_pinned(self, far: User) -> None:
        certificate = self.pair(far, expires_in=timedelta(days=1))
        far.lxd.lxc("config", "trust", "add", certificate, "--name", "good")
        pinned = far.home / "lxc" / "servercerts/far.crt"
        pinned.write_bytes(certificate.read_bytes())
        said = refused(far, "oci:db:1.0", "--target-remote", "far", code=5)
        assert "shows a certificate that isn't the trusted one" in said.err
        assert "pin the right certificate" in said.err
        pinned.write_text("no certificate")
        said = refused(far, "oci:db:1.0", "--target-remote", "far", code=5)
        assert str(pinned) in said.err
        assert far.images() == {}


@contextlib.contextmanager
def answering(port: int, both: Path) -> Iterator[None]:
    """A TLS server with this key and certificate."""
    command = ("openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-quiet", "-www")
    process = subprocess.Popen([*command, "-key", both, "-cert", both])

    def listens() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    try:
        eventually(listens, timeout_seconds=10, what="the TLS server")
        yield
    finally:
        process.kill()
        process.wait()


@pytest.mark.root
def test_the_disk_of_lxd_s_images_is_full(user: User) -> None:
    store = user.lxd.directory / "images"
    write_data_layout(user.home / "big", extra=os.urandom(8 << 20))
    run("mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", store)
    try:
        said = user.run("import", "oci:big:1.0", code=7)
        assert "no space left" in said.err.lower(), said.err
        assert "hint: make room" in said.err
        eventually(lambda: not list(store.iterdir()), timeout_seconds=10, what="LXD to clean up")
        assert (user.images(), user.aliases()) == ({}, {})
        assert not (user.home / "imports" / "imports.json").exists()
    finally:
        run("umount", store)
    assert user.image("oci:big:1.0")["outcome"] == "imported"


def test_lxd_goes_away_while_an_image_is_sent(user: User, tmp_path: Path) -> None:
    """A daemon that is restarted in between: one line, and the next try succeeds."""
    write_data_layout(user.home / "big", extra=os.urandom(24 << 20))
    with PrivateLxd() as lxd:
        there = User(lxd=lxd, home=tmp_path / "there")
        command = there.start("import", f"oci:{user.home}/big:1.0", "--progress", "json")
        assert command.stderr is not None
        for line in command.stderr:
            if '"bytes-done"' in line and '"send"' in line:
                break
        lxd.restart()
        _, err = command.communicate(timeout=60)
        assert command.returncode == 7, err
        error, hint = [line for line in err.splitlines() if not line.startswith("{")]
        assert error.startswith("error: could not send the image")
        assert hint.startswith("hint: ")
        assert there.images() == {}
        assert there.image(f"oci:{user.home}/big:1.0")["outcome"] == "imported"
