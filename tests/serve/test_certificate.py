"""The local authority: who it may vouch for, and what its directory survives."""

import os
import socket
import stat
import subprocess
import sys
import textwrap
from datetime import datetime, timedelta
from pathlib import Path

import cryptography.x509
import pytest
from cryptography.x509.oid import ExtensionOID
from hypothesis import given
from hypothesis import strategies as st

from lxdocker_lxd.errors import LxdockerError, StorageError, UsageError
from lxdocker_lxd.serve import certificate as x509
from lxdocker_lxd.serve import this_host
from lxdocker_lxd.serve.certificate import CertificateError
from lxdocker_lxd.serve.certificate_directory import (
    EARLIEST,
    AuthorityKeyError,
    CertificateDirectory,
    ClockError,
    HeldCertificate,
    NameNotPermittedError,
)
from lxdocker_lxd.serve.server_names import ServerNames, parse
from tests.harness.processes import run
from tests.unit.catalogues import START, hours

DAY = timedelta(days=1)


def names(*texts: str) -> ServerNames:
    return ServerNames.of(map(parse, texts))


OWN = names("web.example.org", "203.0.113.7", "nas")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "tls"


def held(
    place: Path, at: datetime = START, named: ServerNames = OWN, detected: ServerNames | None = None
) -> HeldCertificate:
    return CertificateDirectory(place).held(named, detected or names("localhost"), at=at)


def snapshot(place: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in place.iterdir() if path.name != ".lock"}


# ---- names


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Images.LAN.", "images.lan"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("my_host", "my_host"),
        ("xn--a", "xn--a"),
        ("192.168.1.1", "192.168.1.1"),
        ("[2001:DB8::1]", "2001:db8::1"),
    ],
)
def test_names_are_read_as_dns_does(text: str, name: str) -> None:
    assert str(parse(text)) == name


@pytest.mark.parametrize(
    "text",
    ["", ".", "a..b", "-a", "a-", "a b", "https://a", "a:8443", "*.example.org", "1.2.3", "256.1.1.1",
     "fe80::1%eth0", "a" * 64, ".".join(["a" * 60] * 5), "a\0b", "a\nb"],
)  # fmt: skip
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert caught.value.hint


@given(st.text(max_size=80))
def test_any_text_is_a_name_or_refused(text: str) -> None:
    try:
        name = parse(text)
    except UsageError:
        return
    assert parse(str(name)) == name


def test_the_names_of_this_host() -> None:
    found = this_host.server_names()
    assert {"localhost", parse("127.0.0.1"), parse("::1")} <= set(found.all())
    host = socket.gethostname().lower()
    assert {host, f"{host}.lxd"} <= set(found.dns) or "." in host
    assert not any(address.is_link_local for address in found.addresses)
    ours = run("hostname", "-I").stdout.split()
    assert {parse(address) for address in ours if not address.startswith("fe80")} <= set(
        found.addresses
    ) or len(ours) > 60


@pytest.mark.parametrize(
    ("told", "taken"),
    [
        ("www.bank.example.com", False),
        ("web.bank.example.com", False),
        ("web.com", False),
        ("web.evil-lan", False),
        ("other.lan", False),
        ("web.lan", True),
        ("web.office.corp", True),
        ("Web.Office.Corp.", True),
    ],
)
def test_a_resolver_can_only_give_this_hosts_name_in_a_private_domain(
    tmp_path: Path, told: str, *, taken: bool
) -> None:
    """What it says comes into the CA's constraints, which are for ten years."""
    found = this_host.server_names(
        tmp_path, host="web", hosts=tmp_path / "hosts", canonical=lambda _: told
    )
    ours = {"localhost", "web", *(f"web.{domain}" for domain in this_host.PRIVATE_DOMAINS)}
    assert set(found.dns) - ours == ({told.lower().rstrip(".")} - ours if taken else set())
    authority = x509.new_authority(x509.new_key(), found, at=START, serial=1)
    assert x509.permitted(authority, told.lower().rstrip(".")) is (taken or told == "other.lan")


def test_the_hosts_file_gives_the_full_name_as_people_configured_it(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_bytes(
        b"127.0.0.1 localhost\n127.0.1.1\tweb.example.com web # web.comment.example\n"
        b"0.0.0.0 ads.example.net web.ads.example.net\n# 1.2.3.4 web.old.example web\n"
        b"192.0.2.1 other.example.org \xff web\n"
    )
    found = this_host.server_names(tmp_path, host="web", hosts=hosts, canonical=lambda host: host)
    assert [name for name in found.dns if "example" in name] == ["web.example.com"]
    whole = this_host.server_names(
        tmp_path, host="nas.example.org", hosts=hosts, canonical=lambda host: host
    )
    assert set(whole.dns) == {"localhost", "nas.example.org"}


def test_passing_and_link_local_addresses_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "if_inet6").write_text(
        "fe800000000000000000000000000001 02 40 20 80     eth0\n"
        "20010db8000000000000000000000001 02 40 00 80     eth0\n"
        "20010db8000000000000000000000002 02 40 00 01     eth0\n"  # a privacy address
        "20010db8000000000000000000000003 02 40 00 c0     eth0\n"  # not checked yet
        "00000000000000000000000000000001 01 80 10 80       lo\n"
    )
    (tmp_path / "fib_trie").write_text(
        "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n"
        "     |-- 10.1.2.0\n        /24 link UNICAST\n"
        "     |-- 10.1.2.3\n        /32 host LOCAL\n"
        "     |-- 10.1.2.255\n        /32 link BROADCAST\n"
        "     |-- 169.254.9.9\n        /32 host LOCAL\n"
    )
    found = this_host.server_names(tmp_path).addresses
    assert list(map(str, found)) == ["10.1.2.3", "127.0.0.1", "::1", "2001:db8::1"]
    assert list(map(str, this_host.server_names(tmp_path / "none").addresses)) == [
        "127.0.0.1",
        "::1",
    ]


# ---- the authority


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("web.example.org", True),
        ("www.web.example.org", True),
        ("example.org", False),
        ("evilweb.example.org", False),
        ("google.com", False),
        ("nas", True),
        ("www.nas", False),  # .nas may be a public suffix one day, as .dev is
        ("nas.lan", True),
        ("lxdocker.lxd", True),
        ("lan", True),
        ("plan", False),
        ("10.200.3.4", True),
        ("192.168.77.1", True),
        ("172.32.0.1", False),
        ("8.8.8.8", False),
        ("203.0.113.7", True),
        ("203.0.113.8", False),
        ("fd12::1", True),
        ("2001:db8::1", False),
    ],
)
def test_the_authority_vouches_for_what_is_ours_or_private(name: str, allowed: bool) -> None:
    authority = x509.new_authority(x509.new_key(), OWN, at=START, serial=1)
    assert x509.permitted(authority, parse(name)) is allowed


@pytest.mark.tools
@pytest.mark.parametrize("name", ["www.nas", "google.com", "8.8.8.8", "nas", "10.9.8.7"])
def test_openssl_draws_the_same_line(tmp_path: Path, name: str) -> None:
    """Even a certificate that the authority's stolen key signs for others is refused."""
    key, leaf_key = x509.new_key(), x509.new_key()
    authority = x509.new_authority(key, OWN, at=hours(0), serial=1)
    leaf = x509.new_server_certificate(
        leaf_key, names(name), authority_key=key, authority=authority, at=START, serial=2
    )
    (tmp_path / "ca").write_bytes(authority)
    (tmp_path / "leaf").write_bytes(leaf)
    moment = str(int(START.timestamp()))
    done = run(
        *("openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-attime", moment),
        *("-CAfile", tmp_path / "ca", tmp_path / "leaf"),
        check=False,
    )
    assert (done.returncode == 0) is x509.permitted(authority, parse(name)), done.stderr
    if done.returncode != 0:
        assert "permitted subtree violation" in done.stderr or "excluded subtree" in done.stderr


def test_what_an_authority_is() -> None:
    found = x509.facts(x509.new_authority(x509.new_key(), OWN, at=START, serial=1))
    assert found.is_authority
    assert found.names == ServerNames()
    assert found.not_before == START - timedelta(hours=1)
    assert found.not_after > START + 3652 * DAY


def test_who_does_not_know_the_limits_of_an_authority_must_not_believe_it() -> None:
    pem = x509.new_authority(x509.new_key(), OWN, at=START, serial=1)
    later = x509.renewed_authority(x509.new_key(), pem, at=START, serial=2)
    for one in (pem, later):
        found = cryptography.x509.load_pem_x509_certificate(one).extensions
        for kind in ("NAME_CONSTRAINTS", "BASIC_CONSTRAINTS", "KEY_USAGE"):
            oid = getattr(ExtensionOID, kind)
            assert found.get_extension_for_oid(oid).critical, kind


def test_what_a_server_gets(place: Path) -> None:
    found = x509.facts(held(place).certificate)
    assert not found.is_authority
    assert found.names == names("web.example.org", "203.0.113.7", "nas", "localhost")
    assert found.not_before == START - timedelta(hours=1)
    assert found.not_after == START + 90 * DAY


# ---- the directory


def test_nothing_but_the_owner_reads_a_key(place: Path) -> None:
    old = os.umask(0)
    try:
        held(place)
    finally:
        os.umask(old)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()}
    assert modes["ca.key"] == modes["server.key"] == 0o600
    assert stat.S_IMODE(place.stat().st_mode) == 0o700


def test_a_second_start_changes_nothing(place: Path) -> None:
    first = held(place)
    before = {path: path.stat().st_mtime_ns for path in place.iterdir()}
    assert held(place, START + 59 * DAY) == first
    assert before == {path: path.stat().st_mtime_ns for path in place.iterdir()}


def test_the_server_certificate_is_renewed_at_two_thirds(place: Path) -> None:
    first = held(place)
    second = held(place, START + 61 * DAY)
    assert second.certificate != first.certificate
    assert (second.key, second.authority) == (first.key, first.authority)
    assert x509.facts(second.certificate).not_after == START + 151 * DAY


def test_new_names_renew_it_and_lost_ones_wait(place: Path) -> None:
    first = held(place, detected=names("localhost", "10.0.0.5"))
    again = held(place, detected=names("localhost"))
    assert again == first
    moved = held(place, detected=names("localhost", "10.0.0.6"))
    assert moved.authority == first.authority
    found = x509.facts(moved.certificate).names
    assert parse("10.0.0.6") in found.addresses
    assert parse("10.0.0.5") not in found.addresses


def test_a_name_outside_is_an_error_that_says_what_to_do(place: Path) -> None:
    held(place)
    before = snapshot(place)
    with pytest.raises(NameNotPermittedError) as caught:
        held(place, named=names("other.example.com"))
    assert "other.example.com" in caught.value.message
    assert "ca.crt" in caught.value.hint
    assert "trust anew" in caught.value.hint
    assert snapshot(place) == before
    # What the hint says works, and keeps the key, so that those who trust the old one stay content.
    old = (place / "ca.crt").read_bytes()
    (place / "ca.crt").unlink()
    renewed = held(place, named=names("other.example.com", "nas"))
    assert x509.issued(old, renewed.certificate)


def test_a_detected_name_outside_is_left_out(place: Path) -> None:
    held(place)
    found = held(place, detected=names("localhost", "198.51.100.9", "elsewhere.example.net"))
    assert found.left_out == names("198.51.100.9", "elsewhere.example.net")


def test_the_authority_is_renewed_with_the_same_key(place: Path) -> None:
    first = held(place)
    later = START + timedelta(days=2500)
    second = held(place, later)
    assert second.authority != first.authority
    old, new = x509.facts(first.authority), x509.facts(second.authority)
    assert (old.public_key, old.subject) == (new.public_key, new.subject)
    assert new.not_after > old.not_after + timedelta(days=2000)
    # Who trusts the old one trusts the server still, and the constraints are the same.
    assert x509.issued(first.authority, second.certificate)
    assert not x509.permitted(second.authority, "google.com")
    assert x509.permitted(second.authority, "web.example.org")


@pytest.mark.parametrize("gone", ["server.crt", "server.key", "server.crt server.key", "ca.crt"])
def test_what_a_crash_left_out_is_completed(place: Path, gone: str) -> None:
    first = held(place)
    for name in gone.split():
        (place / name).unlink()
    second = held(place, START + DAY)
    assert x509.facts(second.certificate).public_key == x509.public_key(second.key)
    assert x509.issued(first.authority, second.certificate)
    assert x509.issued(second.authority, second.certificate)
    assert held(place, START + DAY) == second


@pytest.mark.parametrize("content", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
@pytest.mark.parametrize("name", ["server.crt", "server.key"])
def test_a_broken_server_file_is_made_again(place: Path, name: str, content: bytes) -> None:
    held(place)
    (place / name).write_bytes(content)
    second = held(place)
    assert x509.facts(second.certificate).public_key == x509.public_key(second.key)


@pytest.mark.parametrize("name", ["ca.crt", "ca.key"])
def test_a_broken_authority_is_never_replaced(place: Path, name: str) -> None:
    held(place)
    (place / name).write_bytes(b"garbage")
    (place / "server.crt").unlink()
    before = snapshot(place)
    with pytest.raises(CertificateError, match=name) as caught:
        held(place)
    assert "trust anew" in caught.value.hint
    assert snapshot(place) == before


def test_the_authoritys_key_may_be_elsewhere_until_it_is_needed(place: Path) -> None:
    first = held(place)
    key = (place / "ca.key").read_bytes()
    (place / "ca.key").unlink()
    assert held(place, START + 70 * DAY, detected=names("nas.lan")) == first
    with pytest.raises(AuthorityKeyError, match="missing"):
        held(place, START + 91 * DAY)
    with pytest.raises(AuthorityKeyError):
        held(place, named=names("more.lan"))
    (place / "ca.key").write_bytes(x509.new_key())
    with pytest.raises(AuthorityKeyError, match="not the key of"):
        held(place, START + 91 * DAY)
    (place / "ca.key").write_bytes(key)
    assert x509.issued(first.authority, held(place, START + 91 * DAY).certificate)


def test_a_clock_before_this_program_makes_nothing(place: Path) -> None:
    past = datetime(1970, 1, 1, tzinfo=START.tzinfo)
    with pytest.raises(ClockError, match="1970-01-01"):
        held(place, past)
    first = held(place)
    # With a certificate there it serves; time will come with the network.
    assert held(place, past) == first
    assert past < EARLIEST


def test_certificates_from_the_future_are_replaced(place: Path) -> None:
    ahead = held(place, START + 4000 * DAY)
    now = held(place, START)
    assert x509.facts(now.certificate).not_before < START
    assert x509.facts(now.authority).not_before < START
    assert x509.facts(now.authority).public_key == x509.facts(ahead.authority).public_key


def test_foreign_files_stay(place: Path) -> None:
    place.mkdir()
    (place / "notes.txt").write_text("mine")
    held(place)
    assert (place / "notes.txt").read_text() == "mine"


def test_no_word_of_a_key_in_any_error(place: Path) -> None:
    first = held(place)
    secret = first.key.decode().splitlines()[1]
    (place / "ca.key").write_bytes(first.key.replace(b"PRIVATE", b"PRIVAT"))
    (place / "server.crt").unlink()
    with pytest.raises(LxdockerError) as caught:
        held(place)
    chain = [caught.value, caught.value.__cause__, caught.value.__context__]
    assert secret not in repr(chain) + str(chain)


@pytest.mark.root
def test_an_unreadable_directory_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "tls").write_text("a file")
    with pytest.raises(StorageError):
        held(tmp_path / "tls")


KILLED = """
    import os, sys
    from pathlib import Path
    from tests.serve.test_certificate import held
    left = [int(sys.argv[2])]
    def dying(call):
        def counted(*arguments, **named):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), 9)
            return call(*arguments, **named)
        return counted
    for name in ("replace", "rename", "fsync", "open", "mkdir"):
        setattr(os, name, dying(getattr(os, name)))
    held(Path(sys.argv[1]))
"""


def test_a_start_killed_at_any_step_is_healed_by_the_next(tmp_path: Path) -> None:
    program = tmp_path / "killed.py"
    program.write_text(textwrap.dedent(KILLED))
    stride = 1 if os.environ.get("LXDOCKER_TEST_FULL") == "1" else 4
    checkout = Path(__file__).parents[2]
    for step in range(0, 100, stride):
        place = tmp_path / f"tls-{step}"
        done = subprocess.run(
            [sys.executable, program, place, str(step)],
            check=False,
            cwd=checkout,
            env=os.environ | {"PYTHONPATH": str(checkout)},
        )
        key = (place / "ca.key").read_bytes() if (place / "ca.key").exists() else None
        found = held(place)
        assert x509.issued(found.authority, found.certificate)
        assert key in (None, (place / "ca.key").read_bytes())
        assert not list(place.glob(".tmp-*"))
        if done.returncode == 0:
            break
    assert step > 8


def test_two_servers_agree_on_one_authority(place: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.serve.test_certificate import held;"
        "found = held(Path(sys.argv[1])); print(hash((found.authority, found.certificate, found.key)))"
    )
    checkout = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONHASHSEED": "0", "PYTHONPATH": str(checkout)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, place],
            cwd=checkout,
            env=environment,
            stdout=subprocess.PIPE,
        )
        for _ in range(4)
    ]
    outputs = {process.communicate()[0] for process in processes}
    assert len(outputs) == 1
    assert all(process.returncode == 0 for process in processes)
