"""Which LXD the options of a command name."""

import argparse
from pathlib import Path

import pytest

from lxdocker_lxd.errors import LxdockerError, NotFoundError, UsageError
from lxdocker_lxd.lxd.place import RemotePlace, SocketPlace
from lxdocker_lxd.verbs.lxd_address import lxd_place

REMOTES = """\
default-remote: local
remotes:
  far: {addr: "https://far.example:8443", protocol: lxd, auth_type: tls}
  images: {addr: "https://images.example", protocol: simplestreams, public: true}
  local: {addr: "unix://"}
"""


def options(**given: str) -> argparse.Namespace:
    named = {"lxd": None, "lxd_cert": None, "lxd_key": None, "lxd_server_cert": None, "remote": ""}
    return argparse.Namespace(**(named | given))


@pytest.fixture(autouse=True)
def lxc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration of lxc, and a LXD of this machine."""
    (tmp_path / "servercerts").mkdir()
    (tmp_path / "config.yml").write_text(REMOTES)
    (tmp_path / "servercerts" / "far.crt").touch()
    (tmp_path / "unix.socket").touch()
    monkeypatch.setenv("LXD_CONF", str(tmp_path))
    monkeypatch.setenv("LXD_DIR", str(tmp_path))
    return tmp_path


def test_this_machines_one_by_its_name_or_by_its_address(lxc: Path) -> None:
    assert lxd_place(options()) == SocketPlace(socket=lxc / "unix.socket")
    far = RemotePlace(
        url="https://far.example:8443",
        client_certificate=lxc / "client.crt",
        client_key=lxc / "client.key",
        server_certificate=lxc / "servercerts" / "far.crt",
    )
    assert lxd_place(options(remote="far")) == far
    given = options(
        lxd=far.url,
        lxd_cert=str(far.client_certificate),
        lxd_key=str(far.client_key),
        lxd_server_cert=str(far.server_certificate),
    )
    assert lxd_place(given) == far


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"lxd": "https://a:1"}, UsageError, "needs a client certificate"),
        ({"lxd": "https://a:1", "remote": "far"}, UsageError, "name a LXD each"),
        ({"lxd": "http://a", "lxd_cert": "c", "lxd_key": "k"}, UsageError, "no address of a LXD"),
        ({"remote": "images"}, UsageError, "an image server"),
        ({"remote": "nowhere"}, NotFoundError, "there is no remote 'nowhere'"),
    ],
)
def test_what_names_no_lxd_is_said(
    given: dict[str, str], kind: type[LxdockerError], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        lxd_place(options(**given))
    assert caught.value.hint
