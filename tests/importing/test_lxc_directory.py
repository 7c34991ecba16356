"""Where lxc keeps things, and which LXD a name stands for."""

from pathlib import Path

import pytest

from lxdocker_lxd.errors import NotFoundError, UsageError
from lxdocker_lxd.importing.lxc_directory import LxcDirectory, read_certificate
from lxdocker_lxd.lxd.place import RemotePlace, SocketPlace

CONFIG = """\
remotes:
  far: {addr: "https://far.example:8443"}
  named: {addr: "unix:///srv/lxd/unix.socket"}
  shop: {addr: "https://shop.example", protocol: simplestreams}
"""
PEM = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    directory = tmp_path / ".config" / "lxc"
    (directory / "servercerts").mkdir(parents=True)
    (directory / "config.yml").write_text(CONFIG)
    (directory / "servercerts" / "far.crt").write_text(PEM)
    return tmp_path


def test_the_place_of_a_remote(home: Path) -> None:
    lxc = LxcDirectory.find({"HOME": str(home)})
    directory = home / ".config" / "lxc"
    assert lxc.place("far") == RemotePlace(
        url="https://far.example:8443",
        client_certificate=directory / "client.crt",
        client_key=directory / "client.key",
        server_certificate=directory / "servercerts" / "far.crt",
    )
    assert lxc.place("named") == SocketPlace(socket=Path("/srv/lxd/unix.socket"))
    assert lxc.certificate("far") == PEM
    assert lxc.certificate("shop") == ""


def test_this_machine_s_own_lxd_has_no_name_or_is_local(home: Path, tmp_path: Path) -> None:
    (tmp_path / "unix.socket").touch()
    lxc = LxcDirectory.find({"HOME": str(home), "LXD_DIR": str(tmp_path)})
    own = SocketPlace(socket=tmp_path / "unix.socket")
    assert lxc.place("") == own
    assert lxc.place("local") == own


def test_names_that_lead_nowhere(home: Path) -> None:
    lxc = LxcDirectory.find({"HOME": str(home)})
    with pytest.raises(NotFoundError, match="no remote 'fra'") as caught:
        lxc.place("fra")
    assert "far" in caught.value.hint
    with pytest.raises(UsageError, match="is an image server"):
        lxc.place("shop")


def test_the_directory_that_is_named_goes_first(home: Path, tmp_path: Path) -> None:
    named = tmp_path / "named"
    named.mkdir()
    found = LxcDirectory.find({"HOME": str(home), "LXD_CONF": str(named)})
    assert found.directory == named
    assert "far" not in found.remotes()
    snap = tmp_path / "other" / "snap" / "lxd" / "common" / "config"
    snap.mkdir(parents=True)
    (snap / "config.yml").write_text(CONFIG)
    assert LxcDirectory.find({"HOME": str(tmp_path / "other")}).directory == snap
    assert LxcDirectory.find({"HOME": "/nonexistent"}).directory is None


def test_a_file_that_is_no_certificate(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_certificate(tmp_path / "none.pem")
    (tmp_path / "key.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
    with pytest.raises(UsageError, match="no certificate"):
        read_certificate(tmp_path / "key.pem")
