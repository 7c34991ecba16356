"""Where a LXD is looked for, and what an address of one is."""

from pathlib import Path

import pytest

from lxdocker_lxd.errors import UsageError
from lxdocker_lxd.lxd.failures import NotInstalledError
from lxdocker_lxd.lxd.place import KNOWN_SOCKETS, RemotePlace, find_socket


@pytest.mark.parametrize("known", KNOWN_SOCKETS)
def test_each_packaging_is_found(tmp_path: Path, known: object) -> None:
    wanted = KNOWN_SOCKETS[[repr(one) for one in KNOWN_SOCKETS].index(repr(known))]
    socket = tmp_path / wanted.socket.relative_to("/")
    socket.parent.mkdir(parents=True)
    socket.touch()
    found = find_socket({}, tmp_path)
    assert (found.socket, found.packaging) == (socket, wanted.packaging)


def test_nothing_is_found_and_all_places_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotInstalledError) as caught:
        find_socket({}, tmp_path)
    assert all(str(known.socket) in caught.value.message for known in KNOWN_SOCKETS)


def test_a_directory_that_is_named_decides_alone(tmp_path: Path) -> None:
    known = tmp_path / KNOWN_SOCKETS[0].socket.relative_to("/")
    known.parent.mkdir(parents=True)
    known.touch()
    given = tmp_path / "given"
    with pytest.raises(NotInstalledError):
        find_socket({"LXD_DIR": str(given)}, tmp_path)
    given.mkdir()
    (given / "unix.socket").touch()
    assert find_socket({"LXD_DIR": str(given)}, tmp_path).packaging == "given"
    assert find_socket({"INCUS_DIR": str(given)}, tmp_path).packaging == "incus"


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("https://lxd.lan", "https://lxd.lan:8443"),
        ("https://lxd.lan:443/", "https://lxd.lan:443"),
        ("https://[fd00::1]", "https://[fd00::1]:8443"),
    ],
)
def test_an_address_gets_lxds_port(url: str, endpoint: str) -> None:
    place = RemotePlace(url=url, client_certificate=Path("c"), client_key=Path("k"))
    assert place.endpoint == endpoint


@pytest.mark.parametrize("url", ["http://lxd.lan", "lxd.lan:8443", "https://", "https://l/1.0"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(UsageError):
        RemotePlace(url=url, client_certificate=Path("c"), client_key=Path("k"))


@pytest.mark.parametrize(
    "url",
    ["http://h:8443", "https://", "https://h/path", "https://[", "https://h:x", "https://h:99999"],
)
def test_what_is_no_address_of_a_lxd_is_told(url: str) -> None:
    with pytest.raises(UsageError, match="is no address of a LXD"):
        RemotePlace(url=url, client_certificate=Path("c"), client_key=Path("k"))
