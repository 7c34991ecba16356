"""Directories, files, copies, remotes and the authority on a real file system, below a root of their own."""

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lxdocker_lxd.convert.store import Store
from lxdocker_lxd.errors import NotFoundError
from lxdocker_lxd.serve import certificate as x509
from lxdocker_lxd.serve.certificate_directory import CertificateDirectory
from lxdocker_lxd.serve.server_names import ServerNames, parse
from lxdocker_lxd.setup.accounts import Accounts
from lxdocker_lxd.setup.authority import Authorities
from lxdocker_lxd.setup.files import Copies, Directories, Files
from lxdocker_lxd.setup.hand import Hand
from lxdocker_lxd.setup.item import UserGoneError, Value
from lxdocker_lxd.setup.remote_config import FRESH
from lxdocker_lxd.setup.remotes import BACKUP_SUFFIX, Remotes
from tests.harness.processes import run

NOW = datetime(2026, 11, 21, tzinfo=UTC)
NAMES = ServerNames.of(map(parse, ("10.9.8.1", "127.0.0.1", "localhost")))
HOST = ServerNames.of(map(parse, ("myhost", "192.168.7.7")))


@pytest.fixture
def me() -> str:
    return f"{os.getuid()}:{os.getgid()}"


@pytest.fixture
def accounts(tmp_path: Path) -> Accounts:
    """The accounts of another root, where this test's user has no name."""
    (tmp_path / "etc").mkdir()
    return Accounts(tmp_path)


@pytest.mark.parametrize("number", ["²", "", "x", "9" * 5000, "-1", "1_0"])
def test_a_line_of_accounts_that_is_none_is_skipped(
    tmp_path: Path, accounts: Accounts, number: str
) -> None:
    (tmp_path / "etc/passwd").write_text(
        f"odd:x:{number}:{number}::/:/bin/sh\nshort:x:5:5\n+::::::\ngood:x:7:8::/home/good:/bin/sh\n"
    )
    (tmp_path / "etc/group").write_text(f"odd:x:{number}:\ngood:x:8:\n")
    assert accounts.ids("good:good") == (7, 8)
    assert accounts.get("good").home == tmp_path / "home/good"
    for name in ("odd", "short", number or "none"):
        with pytest.raises(UserGoneError):
            accounts.get(name)
    for owner in ("odd:good", "good:odd", f"{number or 'none'}:good"):
        with pytest.raises(NotFoundError):
            accounts.ids(owner)


def snapshot(top: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.stat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in top.rglob("*")
    }


@pytest.fixture
def unchanged_at_last(tmp_path: Path, accounts: Accounts) -> Iterator[None]:
    before = snapshot(tmp_path)
    yield
    assert snapshot(tmp_path) == before


@pytest.mark.usefixtures("unchanged_at_last")
def test_a_directory_comes_and_goes(tmp_path: Path, accounts: Accounts, me: str) -> None:
    hand = Directories(accounts)
    name, wanted = str(tmp_path / "d"), {"mode": "0750", "owner": _named(me)}
    assert hand.look(name, wanted) is None
    hand.make(name, wanted)
    assert hand.look(name, wanted) == wanted
    (tmp_path / "d" / "somebody's").touch()
    assert hand.take_back(name, wanted, None) == "1 entries are in it"
    (tmp_path / "d" / "somebody's").unlink()
    assert hand.take_back(name, wanted, None) == ""
    assert hand.take_back(name, wanted, None) == ""


@pytest.mark.usefixtures("unchanged_at_last")
def test_a_cache_goes_with_all_it_holds_and_locks_hold_nothing(
    tmp_path: Path, accounts: Accounts, me: str
) -> None:
    hand = Directories(accounts)
    for name, holds in (("cache", {"holds": "cache"}), ("images", {"holds": "images"})):
        wanted = {"mode": "0750", "owner": _named(me), **holds}
        hand.make(str(tmp_path / name), wanted)
        assert hand.look(str(tmp_path / name), wanted) == wanted
        if name == "cache":
            fill_cache(tmp_path / name)
        else:
            (tmp_path / name / "images").mkdir()
            (tmp_path / name / ".lock").touch()
        assert hand.take_back(str(tmp_path / name), wanted, None) == ""


def fill_cache(directory: Path) -> None:
    """Leave what runs and crashes leave in a cache."""
    store = Store(directory)
    with store.using():
        digest = store.put_bytes("x", b"a layer").digest
    store.derived(digest, "headers").write_bytes(b"derived")
    (directory / "partial" / f"sha512-{'0' * 128}").write_bytes(b"half")
    for place in ("", "blobs/sha256", "headers/sha512"):
        (directory / place / ".tmp-0123").write_bytes(b"half")


FOREIGN = (
    *("photo.jpg", ".hidden", "blobs/mine.tar", "blobs/sha256/notes", "headers/sha256/notes.txt"),
    *("partial/mine", "own/deep/file", "blobs/sha256/own/file", "lock/file", "blobs/md5/file"),
)


@pytest.mark.parametrize("name", FOREIGN)
def test_undo_leaves_in_a_cache_what_is_not_the_caches(
    tmp_path: Path, accounts: Accounts, me: str, name: str
) -> None:
    hand, cache = Directories(accounts), tmp_path / "cache"
    wanted = {"mode": "0750", "owner": _named(me), "holds": "cache"}
    hand.make(str(cache), wanted)
    if not name.startswith("lock/"):
        fill_cache(cache)
    (cache / name).parent.mkdir(parents=True, exist_ok=True)
    (cache / name).write_text("somebody's")
    assert hand.take_back(str(cache), wanted, None) == "1 entries of others are in it"
    left = [path for path in cache.rglob("*") if path.is_file()]
    assert left == [cache / name]
    assert left[0].read_text() == "somebody's"


def test_undo_follows_no_link_in_a_cache_and_no_depth_hurts_it(
    tmp_path: Path, accounts: Accounts, me: str
) -> None:
    hand, cache, victim = Directories(accounts), tmp_path / "cache", tmp_path / "victim"
    wanted = {"mode": "0750", "owner": _named(me), "holds": "cache"}
    hand.make(str(cache), wanted)
    fill_cache(cache)
    victim.mkdir()
    (victim / ("1" * 64)).write_text("kept")
    shutil.rmtree(cache / "blobs/sha256")
    (cache / "blobs/sha256").symlink_to(victim)
    (cache / "blobs/sha512" / ("2" * 128)).symlink_to(victim / ("1" * 64))
    with contextlib.chdir(cache / "partial"):
        for _ in range(1500):
            Path("d").mkdir()
            os.chdir("d")
    assert hand.take_back(str(cache), wanted, None) == "3 entries of others are in it"
    assert (victim / ("1" * 64)).read_text() == "kept"
    # Nor for who tidies up after this test.
    run("rm", "-rf", cache)


def test_a_directory_gets_its_old_mode_back(tmp_path: Path, accounts: Accounts, me: str) -> None:
    hand = Directories(accounts)
    directory = tmp_path / "d"
    directory.mkdir(mode=0o711)
    wanted = {"mode": "0750", "owner": _named(me)}
    before = hand.look(str(directory), wanted)
    hand.make(str(directory), wanted)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o750
    hand.take_back(str(directory), wanted, before)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o711


@pytest.mark.usefixtures("unchanged_at_last")
def test_a_file_comes_and_goes_unless_somebody_changed_it(
    tmp_path: Path, accounts: Accounts, me: str
) -> None:
    heard: list[Path] = []
    hand = Files(accounts, heard.append)
    path = tmp_path / "f"
    wanted = {"content": "a\n", "mode": "0644", "owner": _named(me)}
    hand.make(str(path), wanted)
    assert hand.look(str(path), wanted) == wanted
    path.write_text("mine")
    assert hand.take_back(str(path), wanted, None) == "changed by somebody since"
    assert path.read_text() == "mine"
    path.write_text("a\n")
    assert hand.take_back(str(path), wanted, None) == ""
    assert heard == [path, path]


def test_odd_bytes_of_a_file_come_back(tmp_path: Path, accounts: Accounts, me: str) -> None:
    hand = Files(accounts)
    path = tmp_path / "f"
    path.write_bytes(b"\xff\x00old")
    path.chmod(0o600)
    wanted = {"content": "new", "mode": "0644", "owner": _named(me)}
    before = hand.look(str(path), wanted)
    hand.make(str(path), wanted)
    hand.take_back(str(path), wanted, before)
    assert path.read_bytes() == b"\xff\x00old"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.usefixtures("unchanged_at_last")
def test_a_copy_follows_its_original(tmp_path: Path, accounts: Accounts) -> None:
    original, copy = tmp_path / "ca.crt", tmp_path / "copy"
    original.write_text("one")
    heard: list[bool] = []
    hand = Copies(accounts, heard.append)
    wanted = {"of": str(original), "mode": "0644"}
    hand.make(str(copy), wanted)
    assert hand.look(str(copy), wanted) == wanted
    original.write_text("two")
    assert hand.look(str(copy), wanted) == {"content": "one", "mode": "0644"}
    hand.make(str(copy), wanted)
    assert copy.read_text() == "two"
    assert hand.take_back(str(copy), wanted, None) == ""
    assert not copy.exists()
    assert heard == [True, True, False]
    original.unlink()


@pytest.mark.parametrize("kind", ["file", "copy", "remote"])
@pytest.mark.usefixtures("unchanged_at_last")
def test_what_a_killed_writer_left_goes_with_the_thing(
    tmp_path: Path, accounts: Accounts, me: str, kind: str
) -> None:
    """A kill between the first byte and the rename left .tmp-… and so a directory that stayed."""
    (tmp_path / "ca.crt").write_text("one")
    table: dict[str, tuple[Hand, Value]] = {
        "file": (Files(accounts), {"content": "a", "mode": "0644", "owner": _named(me)}),
        "copy": (Copies(accounts), {"of": str(tmp_path / "ca.crt"), "mode": "0644"}),
        "remote": (Remotes(accounts), ENTRY),
    }
    hand, wanted = table[kind]
    name = str(tmp_path / "d" / "f") + ("#lxdocker" if kind == "remote" else "")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / ".tmp-abcdefgh").write_text("half")
    hand.take_back(name, wanted, None)
    (tmp_path / "d").rmdir()
    (tmp_path / "ca.crt").unlink()


ENTRY = {"addr": "https://10.0.0.1", "protocol": "simplestreams", "public": "true", "as": ""}


class TestRemotes:
    """``config.yml`` of users."""

    def test_a_first_file_comes_and_goes(self, tmp_path: Path, accounts: Accounts) -> None:
        hand, file = Remotes(accounts), tmp_path / "config.yml"
        name = f"{file}#lxdocker"
        assert hand.look(name, ENTRY) is None
        hand.make(name, ENTRY)
        assert hand.look(name, ENTRY) == ENTRY
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert hand.take_back(name, ENTRY, None) == ""
        assert sorted(path.name for path in tmp_path.iterdir()) == ["etc"]

    def test_a_file_of_ones_own_comes_back_byte_by_byte(
        self, tmp_path: Path, accounts: Accounts
    ) -> None:
        hand, file = Remotes(accounts), tmp_path / "config.yml"
        name = f"{file}#lxdocker"
        text = "# mine\nremotes: {a: {addr: 'https://a'}}\nother: 1\n"
        file.write_text(text)
        file.chmod(0o640)
        hand.make(name, ENTRY)
        backup = file.with_name(file.name + BACKUP_SUFFIX)
        assert backup.read_text() == text
        hand.take_back(name, ENTRY, None)
        assert file.read_text() == text
        assert stat.S_IMODE(file.stat().st_mode) == 0o640
        assert not backup.exists()

    def test_what_was_added_since_stays(self, tmp_path: Path, accounts: Accounts) -> None:
        hand, file = Remotes(accounts), tmp_path / "config.yml"
        name = f"{file}#lxdocker"
        hand.make(name, ENTRY)
        with_more = file.read_text().replace("remotes:\n", "remotes:\n  b:\n    addr: https://b\n")
        file.write_text(with_more)
        hand.take_back(name, ENTRY, None)
        assert file.read_text() == FRESH.replace(
            "remotes:\n", "remotes:\n  b:\n    addr: https://b\n"
        )

    def test_an_entry_somebody_changed_stays(self, tmp_path: Path, accounts: Accounts) -> None:
        hand, file = Remotes(accounts), tmp_path / "config.yml"
        name = f"{file}#lxdocker"
        hand.make(name, ENTRY)
        file.write_text(file.read_text().replace("10.0.0.1", "10.0.0.2"))
        assert "changed" in hand.take_back(name, ENTRY, None)
        assert "10.0.0.2" in file.read_text()

    def test_a_file_that_is_a_link_stays_one(self, tmp_path: Path, accounts: Accounts) -> None:
        hand, file, target = Remotes(accounts), tmp_path / "config.yml", tmp_path / "dotfiles.yml"
        target.write_text(FRESH)
        file.symlink_to(target)
        hand.make(f"{file}#lxdocker", ENTRY)
        assert file.is_symlink()
        assert "10.0.0.1" in target.read_text()
        hand.take_back(f"{file}#lxdocker", ENTRY, None)
        assert target.read_text() == FRESH


class TestAuthority:
    """The local CA, its key, and what the server gets of it."""

    @pytest.fixture(autouse=True)
    def _places(self, tmp_path: Path, accounts: Accounts, me: str) -> None:
        self.made, self.served = tmp_path / "authority", tmp_path / "tls"
        self.made.mkdir(mode=0o700)
        self.served.mkdir(mode=0o750)
        self.now = NOW
        self.hand = Authorities(accounts, lambda: self.now, lambda: HOST)
        names = ", ".join(sorted(map(str, NAMES.all())))
        self.wanted = {"names": names, "served": str(self.served), "owner": _named(me)}
        self.name = str(self.made)

    def test_the_key_of_the_authority_is_not_where_the_server_reads(self) -> None:
        assert self.hand.look(self.name, self.wanted) is None
        self.hand.make(self.name, self.wanted)
        assert self.hand.look(self.name, self.wanted) == self.wanted
        assert sorted(path.name for path in self.served.iterdir()) == [
            *("ca.crt", "server.crt", "server.key")
        ]
        assert stat.S_IMODE((self.served / "server.key").stat().st_mode) == 0o640
        assert stat.S_IMODE((self.made / "ca.key").stat().st_mode) == 0o600

    def test_a_server_takes_what_it_gets_and_makes_nothing(self) -> None:
        self.hand.make(self.name, self.wanted)
        before = snapshot(self.served)
        held = CertificateDirectory(self.served).held(NAMES, HOST, at=NOW)
        assert x509.issued(held.authority, held.certificate)
        later = NOW + timedelta(days=70)
        CertificateDirectory(self.served).held(NAMES, HOST, at=later)
        assert snapshot(self.served) == before

    def test_what_is_due_is_renewed_under_the_same_authority(self) -> None:
        self.hand.make(self.name, self.wanted)
        authority = (self.served / "ca.crt").read_bytes()
        self.now = NOW + timedelta(days=61)
        assert self.hand.look(self.name, self.wanted) == {"state": "due for renewal"}
        self.hand.make(self.name, self.wanted)
        assert self.hand.look(self.name, self.wanted) == self.wanted
        assert (self.served / "ca.crt").read_bytes() == authority
        facts = x509.facts((self.served / "server.crt").read_bytes())
        assert facts.not_after > NOW + timedelta(days=149)

    def test_a_further_private_name_needs_no_new_authority(self) -> None:
        self.hand.make(self.name, self.wanted)
        authority = (self.served / "ca.crt").read_bytes()
        wanted = {**self.wanted, "names": self.wanted["names"] + ", 10.200.1.1, images.lan"}
        assert self.hand.look(self.name, wanted) == {"state": "without a name that is wanted"}
        self.hand.make(self.name, wanted)
        assert self.hand.look(self.name, wanted) == wanted
        assert (self.served / "ca.crt").read_bytes() == authority

    @pytest.mark.parametrize(
        "damage",
        ["made/server.crt", "made/server.key", "tls/server.key", "tls/ca.crt", "tls/server.crt"],
    )
    def test_what_a_crash_left_out_is_completed(self, damage: str) -> None:
        self.hand.make(self.name, self.wanted)
        directory, _, file = damage.partition("/")
        ((self.made if directory == "made" else self.served) / file).unlink()
        assert self.hand.look(self.name, self.wanted) != self.wanted
        self.hand.make(self.name, self.wanted)
        assert self.hand.look(self.name, self.wanted) == self.wanted

    def test_all_of_it_goes_again(self) -> None:
        self.hand.make(self.name, self.wanted)
        assert self.hand.take_back(self.name, self.wanted, None) == ""
        assert [*self.made.iterdir(), *self.served.iterdir()] == []

    def test_an_authority_the_server_made_before_is_adopted_and_given_back(self) -> None:
        held = CertificateDirectory(self.served).held(NAMES, HOST, at=NOW)
        key = (self.served / "ca.key").read_bytes()
        before = self.hand.look(self.name, self.wanted)
        assert before == {"state": "made by the server itself"}
        self.hand.make(self.name, self.wanted)
        assert (self.served / "ca.crt").read_bytes() == held.authority
        assert not (self.served / "ca.key").exists()
        self.hand.take_back(self.name, self.wanted, before)
        assert (self.served / "ca.key").read_bytes() == key
        assert list(self.made.iterdir()) == []


def _named(owner: str) -> str:
    """What an owner is called in a root without users: numbers, but root."""
    return ":".join("root" if number == "0" else number for number in owner.split(":"))
