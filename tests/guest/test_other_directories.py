"""The guest's root at work in directories of the application: no link in them leads it elsewhere."""

from pathlib import Path

import pytest

from tests.guest.guest_shell import BUSYBOX, GuestShell, joined

KEPT = b"root's alone\n"


@pytest.fixture
def victim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that nobody may change but root."""
    file = tmp_path_factory.mktemp("victim") / "shadow"
    file.write_bytes(KEPT)
    file.chmod(0o600)
    return file


def is_as_it_was(victim: Path) -> bool:
    return victim.read_bytes() == KEPT and victim.stat().st_mode & 0o777 == 0o600


def init(guest: GuestShell, script: str) -> None:
    (guest.directory / "console").touch()
    text = guest.head("init", before="write_state starting")
    done = guest.run(text + script)
    assert not done.stderr, done.stderr


def test_s6_gets_its_signal_and_no_link_is_written_through(guest: GuestShell, victim: Path) -> None:
    control = guest.directory / "service" / ".s6-svscan"
    control.mkdir(parents=True)
    (control / ".SIGPWR").symlink_to(victim)
    (guest.live / "argv").write_bytes(joined([b"s6-svscan", bytes(control.parent)]))
    init(guest, "init=s6 uid=0 gid=0 working_dir=/; s6_stops")
    assert is_as_it_was(victim)
    program = control / "SIGPWR"
    assert program.readlink() == guest.directory / "s6-stop"
    assert program.read_text() == f"#!{BUSYBOX.decode()} sh\nkill -TERM 1\n"
    assert program.stat().st_mode & 0o777 == 0o755


def test_what_an_image_has_for_s6_stays(guest: GuestShell) -> None:
    control = guest.directory / ".s6-svscan"
    control.mkdir()
    (control / "SIGPWR").write_bytes(b"own")
    (guest.live / "argv").write_bytes(joined([b"s6-svscan"]))
    init(guest, f"init=s6 uid=0 gid=0 working_dir={guest.directory}; s6_stops")
    assert (control / "SIGPWR").read_bytes() == b"own"


@pytest.mark.parametrize("planted", [".resolv.conf.lxdocker", "resolv.conf"])
def test_name_servers_go_through_no_link(guest: GuestShell, victim: Path, planted: str) -> None:
    (guest.etc / planted).symlink_to(victim)
    (guest.live / "dns").mkdir()
    env = {b"interface": b"eth0", b"dns": b"192.0.2.1 192.0.2.2"}
    text = guest.head("udhcpc", before="case $1 in\nbound | renew)")
    done = guest.run(text + "set_dns bound", env=env)
    assert done.returncode == 0, done.stderr
    assert is_as_it_was(victim)
    resolv = guest.etc / "resolv.conf"
    assert resolv.read_text() == "nameserver 192.0.2.1\nnameserver 192.0.2.2\n"
    assert not resolv.is_symlink()
    assert resolv.stat().st_mode & 0o777 == 0o644
    assert not (guest.etc / ".resolv.conf.lxdocker").exists()


@pytest.mark.parametrize("planted", [".hosts.lxdocker", "hosts"])
def test_rendered_names_go_through_no_link(guest: GuestShell, victim: Path, planted: str) -> None:
    (guest.etc / planted).symlink_to(victim)
    (guest.directory / "in" / "hosts").write_text("127.0.0.1 localhost\n")
    done = guest.run("umask 077; prepare_names")
    assert not done.stderr
    assert is_as_it_was(victim)
    assert (guest.etc / "hosts").read_text() == "127.0.0.1 localhost\n"
    assert (guest.etc / "hosts").stat().st_mode & 0o777 == 0o644
    assert (guest.directory / "in" / "hosts").read_bytes() == b""


def test_plain_lxc_s_names_go_through_no_link(guest: GuestShell, victim: Path) -> None:
    victim.write_bytes(b"")
    (guest.etc / "hostname").symlink_to(victim)
    (guest.etc / "hosts").symlink_to(victim.parent / "new")
    text = guest.head("lxc_hook", before="# The mount is LXC's")
    done = guest.run(text + "prepare_etc")
    assert done.returncode == 0
    assert (victim.read_bytes(), [*victim.parent.iterdir()]) == (b"", [victim])
    assert not (guest.etc / "hostname").is_symlink()
    assert "127.0.0.1\tlocalhost\n" in (guest.etc / "hosts").read_text()


def test_names_that_can_t_be_replaced_leave_nothing(guest: GuestShell) -> None:
    (guest.etc / "hosts").mkdir()
    (guest.etc / "hosts" / ".hosts.lxdocker").mkdir()
    done = guest.run(f"echo x | replace_file {guest.etc}/hosts")
    assert done.returncode != 0
    assert [path.name for path in guest.etc.iterdir()] == ["hosts"]
