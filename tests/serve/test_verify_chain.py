"""The check of all servers that a registry names: clean, damaged, unreached, of no use."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lxdocker_lxd import cli
from lxdocker_lxd.clients.signature_check import BadSignatureError
from lxdocker_lxd.progress import Silent
from lxdocker_lxd.serve.verify import VerifyReport
from lxdocker_lxd.serve.verify_chain import verify_chain
from tests.clients.signed_servers import (
    INDEX,
    LINES,
    META,
    REGISTRY,
    ROOTFS,
    SignedServers,
    signed_servers,
)
from tests.serve.checked import change_byte, problems
from tests.serve.tree_web import fails

pytestmark = pytest.mark.tools


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignedServers]:
    with signed_servers(tmp_path_factory.mktemp("servers")) as made:
        yield made


@pytest.fixture
def servers(both: SignedServers) -> Iterator[SignedServers]:
    first = LINES.partition("\n")[0]
    both.put(both.images / INDEX, f"{first}\n".encode(), both.server_key)
    yield both
    both.reset()


def check(servers: SignedServers) -> VerifyReport:
    return verify_chain(servers.address, servers.trust, jobs=2, progress=Silent())


def test_all_is_right(servers: SignedServers) -> None:
    report = check(servers)
    assert report.findings == ()
    # The registry's index, key, certificate; the server's index and files.
    assert (report.files, report.signatures) == (2, 6)


DAMAGES: dict[str, tuple[Callable[[SignedServers], object], str]] = {
    "a changed file": (lambda one: change_byte(one.images / ROOTFS), "rootfs.tar.xz"),
    "an unsigned file": (
        lambda one: (one.images / f"{META}.asc").unlink(),
        "meta.tar.xz.asc: the signature is missing",
    ),
    "a stranger's file": (
        lambda one: one.sign(one.images / ROOTFS, one.stranger),
        "isn't in the keyring",
    ),
    "a changed index": (lambda one: change_byte(one.images / INDEX), "the signature is wrong"),
    "nothing signed": (
        lambda one: list(map(Path.unlink, one.images.rglob("*.asc"))),
        "index-user: it is not signed",
    ),
    "a changed key": (lambda one: change_byte(one.key_file), "the signature is wrong"),
    "no keys": (lambda one: one.say(trusted_keys=[]), "names no keys"),
    "plain HTTP": (lambda one: one.say(url="http+lxc-images://h"), "is plain HTTP"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_wrong_with_a_server_is_a_finding(servers: SignedServers, damage: str) -> None:
    act, text = DAMAGES[damage]
    act(servers)
    found = problems(check(servers))
    assert any(text in one for one in found), found
    assert all(one.startswith("images: ") for one in found)


def test_a_server_of_another_protocol_is_a_remark(servers: SignedServers) -> None:
    servers.say(url="https+system-image://h")
    report = check(servers)
    assert problems(report) == []
    (said,) = problems(report, "remark")
    assert "nothing here speaks 'https+system-image'" in said


def test_a_server_that_is_away(servers: SignedServers) -> None:
    servers.images_web.faults[INDEX] = fails
    assert any("503" in one for one in problems(check(servers), "unreached"))


def test_a_registry_that_can_t_be_believed(servers: SignedServers) -> None:
    change_byte(servers.registry / REGISTRY)
    with pytest.raises(BadSignatureError):
        check(servers)


def test_the_command(servers: SignedServers, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["verify", servers.registry_url, "--ca", str(servers.authorities)]
    trusted = ("--trusted-keys", str(servers.keys))
    assert cli.main(cli.parser(), [*command, *trusted]) == 0
    assert "6 signatures checked: nothing wrong" in capsys.readouterr().out
    assert cli.main(cli.parser(), command) == 2
    assert "--trusted-keys FILE is missing" in capsys.readouterr().err
    change_byte(servers.images / ROOTFS)
    assert cli.main(cli.parser(), [*command, *trusted]) == 6
