"""The certificate is renewed whatever users' homes, accounts and files are like."""

import contextlib
import io
import os
import resource
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lxdocker_lxd import cli
from lxdocker_lxd.serve import certificate as x509
from lxdocker_lxd.serve.server_names import ServerNames, parse
from lxdocker_lxd.setup.accounts import Accounts
from lxdocker_lxd.setup.authority import Authorities
from lxdocker_lxd.setup.files import Copies
from lxdocker_lxd.setup.hand import Hand
from lxdocker_lxd.setup.item import Item
from lxdocker_lxd.setup.record import SetupState
from lxdocker_lxd.setup.state_file import StateFile

MOST_MEMORY_BYTES = 1500 << 20
ALICE = 4321
NAMES = ServerNames.of(map(parse, ("127.0.0.1", "localhost")))

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]


class Host:
    """A root directory with a CA whose server's certificate is due, copied for ``alice``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tls = root / "var/lib/lxdocker-lxd/tls"
        self.home = root / "home/alice"
        self.copy = self.home / "lxdocker.crt"
        self.trust = root / "usr/local/share/ca-certificates/lxdocker-lxd.crt"
        made = root / "var/lib/lxdocker-lxd/authority"
        for directory in (root / "etc", made, self.tls, self.home, self.trust.parent):
            directory.mkdir(parents=True)
        os.chown(self.home, ALICE, ALICE)
        self.accounts(alice=True)
        accounts = Accounts(root)
        wanted = {"of": str(self.tls / "ca.crt"), "mode": "0644"}
        names = {"names": "127.0.0.1, localhost", "served": str(self.tls), "owner": "root:root"}
        # Users' copies may have been recorded first, by an older version for example.
        items = (
            _item("copy", self.copy, {**wanted, "as": "alice"}),
            _item("authority", made, names),
            _item("trust", self.trust, wanted),
        )
        old = datetime.now(UTC) - timedelta(days=80)
        hands: dict[str, Hand] = {
            "authority": Authorities(accounts, lambda: old, lambda: NAMES),
            "copy": Copies(accounts),
            "trust": Copies(accounts),
        }
        state = SetupState()
        for item in sorted(items, key=lambda item: item.kind):
            hands[item.kind].make(item.name, item.wanted)
        for item in items:
            state = state.begun(item, None).finished(item.key)
        self.file = StateFile(root / "var/lib/lxdocker-lxd/setup.json")
        self.file.save(state)

    def accounts(self, *, alice: bool) -> None:
        line = f"alice:x:{ALICE}:{ALICE}::/home/alice:/bin/sh\n" if alice else ""
        (self.root / "etc/passwd").write_text(f"root:x:0:0:root:/root:/bin/sh\n{line}")
        (self.root / "etc/group").write_text("root:x:0:\n")

    def setup(self, *flags: str) -> tuple[int, str]:
        """Run the command as the unit does; return its exit code and what it said."""
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = cli.main(cli.parser(), ["setup", "--root", str(self.root), *flags])
        return code, said.getvalue()

    def ends(self) -> datetime:
        """When the served certificate ends."""
        return x509.facts((self.tls / "server.crt").read_bytes()).not_after


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setenv("LXD_DIR", str(tmp_path / "no LXD"))
    # Users must reach their homes.
    for directory in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        directory.chmod(0o755)
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY_BYTES, before[1]))
    yield Host(tmp_path)
    resource.setrlimit(resource.RLIMIT_AS, before)


Spoil = Callable[[Host], None]


def _item(kind: str, path: Path, wanted: dict[str, str]) -> Item:
    return Item(kind=kind, name=str(path), wanted=wanted, text=f"{kind} {path}", reason="")


def _directory(host: Host) -> None:
    host.copy.unlink()
    host.copy.mkdir()


def _pipe(host: Host) -> None:
    host.copy.unlink()
    os.mkfifo(host.copy)


def _endless(host: Host) -> None:
    host.copy.unlink()
    host.copy.symlink_to("/dev/zero")


def _huge(host: Host) -> None:
    with host.copy.open("wb") as file:
        file.truncate(4 << 30)


def _closed(host: Host) -> None:
    host.home.chmod(0)
    os.chown(host.home, 0, 0)


@pytest.mark.parametrize("spoil", [_directory, _pipe, _endless, _huge, _closed])
def test_what_a_user_puts_in_the_copys_place_stops_nothing(host: Host, spoil: Spoil) -> None:
    spoil(host)
    (host.tls / "ca.crt").chmod(0o600)
    host.trust.write_text("another one")
    code, said = host.setup("--renew")
    assert code == 0, said
    assert host.ends() > datetime.now(UTC) + timedelta(days=80)
    assert host.trust.read_bytes() == (host.tls / "ca.crt").read_bytes()
    assert f"note: left: copy {host.copy}: " in said
    code, said = host.setup("--renew")
    assert code == 0
    assert "nothing to do" in said
    # The record stays: the file may be there again tomorrow.
    assert len(host.file.read().records) == 3


def test_a_user_who_is_gone_is_dropped(host: Host) -> None:
    host.accounts(alice=False)
    code, said = host.setup("--renew")
    assert code == 0, said
    assert host.ends() > datetime.now(UTC) + timedelta(days=80)
    assert f"note: dropped: copy {host.copy}: the user alice does not exist" in said
    assert [record.kind for record in host.file.read().records] == ["authority", "trust"]
    assert "dropped" not in host.setup("--renew")[1]


def test_copies_follow_when_nobody_is_in_the_way(host: Host) -> None:
    host.copy.write_text("another one")
    assert "the certificate is due" in host.setup("--renew", "--dry-run")[1]
    host.setup("--renew")
    assert host.copy.read_bytes() == (host.tls / "ca.crt").read_bytes()
    assert host.copy.stat().st_uid == ALICE
    assert stat.S_IMODE(host.copy.stat().st_mode) == 0o644


@pytest.mark.parametrize("spoil", [_directory, _pipe, _endless, _closed])
def test_undo_goes_on_beside_it_and_says_so_at_the_end(host: Host, spoil: Spoil) -> None:
    spoil(host)
    code, said = host.setup("--undo", "--yes")
    assert code == 8, said
    assert [record.kind for record in host.file.read().records] == ["copy"]
    assert not (host.tls / "server.crt").exists()
    assert not host.trust.exists()


def test_undo_forgets_what_belonged_to_a_user_who_is_gone(host: Host) -> None:
    host.accounts(alice=False)
    code, said = host.setup("--undo", "--yes")
    assert code == 0, said
    assert f"left: copy {host.copy}: the user alice does not exist" in said
    assert not host.file.path.exists()
