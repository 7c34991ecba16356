"""Which CA of the container this host trusts: the first one, and none that could vouch for others."""

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509 as library
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lxdocker_lxd.errors import VerificationError
from lxdocker_lxd.lxd.calls import GuestFile
from lxdocker_lxd.serve import certificate as x509
from lxdocker_lxd.serve.server_names import ServerNames, parse
from lxdocker_lxd.setup.accounts import Accounts
from lxdocker_lxd.setup.authority import Authorities
from lxdocker_lxd.setup.installation import ContainerAuthorities
from lxdocker_lxd.setup.item import DAMAGE
from tests.harness.simulated_lxd import SimulatedLxd
from tests.setup.test_container_hands import SHALL, made

NOW = datetime(2026, 11, 21, tzinfo=UTC)
PLACE = "/var/lib/lxdocker-lxd/tls/ca.crt"
WANTED = {
    "of": SHALL.name,
    "mode": "0644",
    "names": f"{SHALL.host_name},{SHALL.address}",
    "networks": "10.20.30.1/24,2001:db8:5::1/64",
}
INSIDE = ("localhost", "lxdocker", "lxdocker.lxd", "lxdocker.lan", "10.20.30.254", "2001:db8:5::7")
PRIVATE = (library.DNSName("lxd"), library.IPAddress(ipaddress.ip_network("10.0.0.0/8")))
SERVER = [ExtendedKeyUsageOID.SERVER_AUTH]


def names(*texts: str) -> ServerNames:
    return ServerNames.of(map(parse, texts))


def good(key: bytes, *more: str, at: datetime = NOW) -> bytes:
    return x509.new_authority(key, names(*INSIDE, *more), at=at, serial=1)


def foreign(
    permitted: tuple[library.GeneralName, ...] | None = PRIVATE,
    *,
    critical: bool = True,
    authority: bool = True,
    uses: list[library.ObjectIdentifier] | None = SERVER,
) -> bytes:
    """A certificate that somebody else made."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = library.Name([library.NameAttribute(NameOID.COMMON_NAME, "attacker, for all names")])
    builder = (
        library.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=99))
        .add_extension(library.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if permitted is not None:
        constraints = library.NameConstraints(
            list(permitted) or None, [library.DNSName("no.example")]
        )
        builder = builder.add_extension(constraints, critical=critical)
    if uses:
        builder = builder.add_extension(library.ExtendedKeyUsage(uses), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def dns(*texts: str) -> tuple[library.GeneralName, ...]:
    return (*map(library.DNSName, texts), PRIVATE[1])


def address(text: str) -> tuple[library.GeneralName, ...]:
    return (PRIVATE[0], library.IPAddress(ipaddress.ip_network(text)))


HOSTILE = {
    "no constraints": (foreign(None), "no name constraints"),
    "not critical": (foreign(critical=False), "not critical"),
    "only exclusions": (foreign(()), "DNS names aren't limited"),
    "all names": (foreign(dns("")), "may vouch for"),
    "a bank": (foreign(dns("lxd", "bank.example.com")), "may vouch for bank.example.com"),
    "below a dot": (foreign(dns(".example.com")), "may vouch for .example.com"),
    "a public suffix": (foreign(dns("dev")), "may vouch for dev"),
    "looks like a private suffix": (foreign(dns("evil-lxd")), "may vouch for evil-lxd"),
    "a name and its parent": (foreign(dns("lxdocker.lxd.example.com")), "may vouch for"),
    "no limit on addresses": (foreign(PRIVATE[:1]), "addresses aren't limited"),
    "no limit on names": (foreign(PRIVATE[1:]), "DNS names aren't limited"),
    "all addresses": (foreign(address("0.0.0.0/0")), "may vouch for 0.0.0.0/0"),
    "an address elsewhere": (foreign(address("198.51.100.1/32")), "may vouch for 198.51.100.1/32"),
    "more than a private network": (foreign(address("10.0.0.0/7")), "may vouch for 10.0.0.0/7"),
    "mail, too": (foreign((*PRIVATE, library.RFC822Name("example.com"))), "may vouch for"),
    "every use": (foreign(uses=None), "for other uses"),
    "clients, too": (foreign(uses=[*SERVER, ExtendedKeyUsageOID.CLIENT_AUTH]), "for other uses"),
    "no authority": (foreign(authority=False), "no authority"),
    "two at once": (foreign() + foreign(None), "one certificate"),
    "no certificate": (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "PEM"),
    "a page": (b"\xff<html>", "PEM"),
}


class Trust:
    """The running container's CA, and this host's copy of it."""

    def __init__(self, directory: Path) -> None:
        self.lxd: SimulatedLxd = made()
        self.lxd.power.start(SHALL.name)
        for path in (PLACE.rpartition("/")[0].rpartition("/")[0], PLACE.rpartition("/")[0]):
            self.lxd.guests.write_file(SHALL.name, path, GuestFile(content=b"", kind="directory"))
        self.copy = directory / "lxdocker.crt"
        self.hand = ContainerAuthorities(self.lxd)

    def inside(self, certificate: bytes) -> None:
        self.lxd.guests.write_file(SHALL.name, PLACE, GuestFile(content=certificate))

    def look(self) -> object:
        return self.hand.look(str(self.copy), WANTED)

    def make(self) -> None:
        self.hand.make(str(self.copy), WANTED)


@pytest.fixture
def trust(tmp_path: Path) -> Trust:
    return Trust(tmp_path)


def test_the_first_one_is_trusted_and_a_renewed_one_follows(trust: Trust) -> None:
    key = x509.new_key()
    first = good(key)
    trust.inside(first)
    assert trust.look() is None
    trust.make()
    assert trust.copy.read_bytes() == first
    assert trust.look() == WANTED
    later = x509.renewed_authority(key, first, at=NOW + timedelta(days=2600), serial=2)
    trust.inside(later)
    assert trust.look() == {DAMAGE: "of another CA"}
    trust.make()
    assert trust.copy.read_bytes() == later


def test_one_of_another_key_is_a_persons_decision(trust: Trust) -> None:
    trust.inside(good(x509.new_key()))
    trust.make()
    before = trust.copy.read_bytes()
    other = good(x509.new_key())
    trust.inside(other)
    assert trust.look() == {DAMAGE: "of another CA"}
    with pytest.raises(VerificationError, match=f"another key than .*{trust.copy}") as caught:
        trust.make()
    assert "remove that file" in caught.value.hint
    assert trust.copy.read_bytes() == before
    trust.copy.unlink()
    trust.make()
    assert trust.copy.read_bytes() == other


@pytest.mark.parametrize("kind", HOSTILE)
def test_one_that_could_vouch_for_others_never_comes_into_this_hosts_trust(
    trust: Trust, kind: str
) -> None:
    certificate, problem = HOSTILE[kind]
    trust.inside(certificate)
    with pytest.raises(VerificationError, match=problem):
        trust.make()
    assert not trust.copy.exists()


def test_one_that_an_earlier_version_took_is_found(trust: Trust) -> None:
    certificate, _ = HOSTILE["no constraints"]
    trust.inside(certificate)
    trust.copy.write_bytes(certificate)
    assert trust.look() == {DAMAGE: "of another CA"}
    with pytest.raises(VerificationError, match="no name constraints"):
        trust.make()
    assert trust.hand.take_back(str(trust.copy), WANTED, None) == ""
    assert not trust.copy.exists()


def test_nothing_but_the_certificate_is_copied(trust: Trust) -> None:
    certificate = good(x509.new_key())
    trust.inside(b"\x1b[2J words of a stranger\n" + certificate + b"and more\n")
    trust.make()
    assert trust.copy.read_bytes() == certificate
    assert trust.look() == WANTED


@pytest.mark.parametrize("kind", HOSTILE)
def test_nor_is_such_a_one_adopted_that_lies_where_the_server_reads(
    tmp_path: Path, kind: str
) -> None:
    made_in, served = tmp_path / "authority", tmp_path / "tls"
    for path in (made_in, served, tmp_path / "etc"):
        path.mkdir()
    certificate, problem = HOSTILE[kind]
    (served / "ca.crt").write_bytes(certificate)
    (served / "ca.key").write_bytes(x509.new_key())
    hand = Authorities(Accounts(tmp_path), lambda: NOW, lambda: names("myhost"))
    wanted = {"names": "localhost", "served": str(served), "owner": "root:root"}
    with pytest.raises(VerificationError, match=problem) as caught:
        hand.make(str(made_in), wanted)
    assert list(made_in.iterdir()) == []
    assert "--name" in caught.value.hint
