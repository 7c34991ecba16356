"""Which users' client configurations are found, by packaging, environment and use."""

import os
from pathlib import Path

import pytest

from lxdocker_lxd.errors import NotFoundError
from lxdocker_lxd.setup.accounts import Accounts
from lxdocker_lxd.setup.look import clients, missing_directories
from lxdocker_lxd.setup.units import SHIPPED_COMMAND, installed
from tests.setup.hosts import wish

ME = "me"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    ids = f"{os.getuid()}:{os.getgid()}"
    (tmp_path / "etc/passwd").write_text(
        f"me:x:{ids}::/home/me:/bin/sh\nann:x:{ids}::/home/ann:/bin/sh\nbroken line\n"
    )
    for home in ("me", "ann"):
        (tmp_path / "home" / home).mkdir(parents=True)
    return tmp_path


def found(root: Path, packaging: str = "package", **environment: str) -> list[tuple[str, str]]:
    given = wish(root=root, users=tuple(environment.pop("users", "").split()))
    listed = clients(given, Accounts(root), packaging, environment, ME)
    return [(one.user, str(one.directory.relative_to(root))) for one in listed]


@pytest.mark.parametrize(
    ("packaging", "directory"),
    [
        ("package", "home/me/.config/lxc"),
        ("snap", "home/me/snap/lxd/common/config"),
        ("incus", "home/me/.config/incus"),
        ("given", "home/me/.config/lxc"),
        ("remote", "home/me/.config/lxc"),
    ],
)
def test_the_packagings_own_directory(root: Path, packaging: str, directory: str) -> None:
    assert found(root, packaging) == [("me", directory)]


def test_a_client_of_another_packaging_that_is_in_use(root: Path) -> None:
    used = root / "home/me/snap/lxd/common/config"
    used.mkdir(parents=True)
    assert found(root) == [("me", "home/me/.config/lxc")]
    (used / "config.yml").touch()
    assert found(root) == [
        ("me", "home/me/.config/lxc"),
        ("me", "home/me/snap/lxd/common/config"),
    ]


def test_who_called_sudo_and_who_is_named(root: Path) -> None:
    assert found(root, SUDO_USER="ann", users="ann") == [
        ("me", "home/me/.config/lxc"),
        ("ann", "home/ann/.config/lxc"),
    ]
    with pytest.raises(NotFoundError, match="the user bob does not exist"):
        found(root, users="bob")


def test_lxd_conf_is_this_users_only(root: Path) -> None:
    assert found(root, LXD_CONF=str(root / "conf"), SUDO_USER="ann") == [
        ("me", "conf"),
        ("ann", "home/ann/.config/lxc"),
    ]


def test_what_is_missing_on_the_way(root: Path) -> None:
    (one,) = clients(wish(root=root), Accounts(root), "package", {}, ME)
    home = root / "home/me"
    assert one.missing == (
        home / ".config",
        home / ".config/lxc",
        home / ".config/lxc/servercerts",
    )
    assert missing_directories([root / "a/b", root / "a/c", root / "etc/x"]) == (root / "a",)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("/usr/bin/lxdocker-lxd",), "/usr/bin/lxdocker-lxd serve"),
        (("/opt/a b/x",), '"/opt/a b/x" serve'),
        (("/opt/100%/$x",), "/opt/100%%/$$x serve"),
        (('/opt/"q"\\',), '"/opt/\\"q\\"\\\\" serve'),
    ],
)
def test_a_units_command_is_quoted_as_systemd_reads_it(words: tuple[str, ...], line: str) -> None:
    shipped = {"a.service": f"ExecStart={SHIPPED_COMMAND} serve\n"}
    assert installed(shipped, words, [], updater=False)["a.service"] == f"ExecStart={line}\n"
