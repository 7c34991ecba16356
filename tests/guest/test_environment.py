"""The environment of the guest's own programs: no value in any argument, none of strangers inherited.

All users of a container and of its host may read the arguments of a process, and auditing keeps them.
"""

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.guest.guest_shell import BUSYBOX, GuestShell, items, joined

pytestmark = pytest.mark.tools

# `wait` returns at any signal that is caught, a child's end among them.
WAIT = 'while kill -0 "$network"; do wait; done 2>/dev/null; :\n'
SECRET = b"hunter2-of-this-test"
# What a shell can't name, too; and a value that no file of one line holds.
VARIABLES = [
    b"DB_PASSWORD=" + SECRET,
    b"spring.datasource.password=" + SECRET,
    b"x-key=" + b"long " * 100 + b"\n" + SECRET + b"\n ",
    b"PATH=/bin",
]


def watched(
    guest: GuestShell, *words: str | Path | bytes, env: Mapping[bytes, bytes] | None = None
) -> tuple[bytes, bytes]:
    """What a command writes, and the arguments of all that it and its children executed."""
    record = guest.directory / "executed"
    done = subprocess.run(
        ["strace", "-f", "-e", "trace=execve", "-s", "65536", "-o", record, *words],
        check=False,
        capture_output=True,
        env=dict(env or {}),
        cwd=guest.directory,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    executed = record.read_bytes()
    assert b"execve(" in executed
    return done.stdout, executed


@pytest.fixture
def started(guest: GuestShell) -> GuestShell:
    """A guest whose command was started."""
    (guest.live / "env").write_bytes(joined(VARIABLES))
    launch = joined([b"0", b"0", b"none", bytes(guest.directory), b"10"])
    (guest.live / "launch").write_bytes(launch)
    return guest


@pytest.mark.parametrize("account", ["uid=0 gid=0", "uid=0 gid=65534"])
def test_a_start_shows_no_value(started: GuestShell, account: str) -> None:
    (started.live / "argv").write_bytes(joined([b"env", b"-0"]))
    script = started.directory / "start.sh"
    script.write_text(
        f". {started.directory}/launch.sh; {account} groups=none; launch /usr/bin/env env"
    )
    written, executed = watched(started, BUSYBOX, "sh", script, env={b"LEAKED": SECRET})
    assert sorted(items(written)) == sorted(VARIABLES)
    assert SECRET not in executed


def test_a_health_check_shows_no_value(started: GuestShell) -> None:
    (started.live / "health").write_bytes(joined([b"env", b"-0"]))
    written, executed = watched(started, BUSYBOX, "sh", started.directory / "run", "--health")
    assert sorted(items(written)) == sorted(VARIABLES)
    assert SECRET not in executed


def test_a_program_run_by_hand_shows_no_value(started: GuestShell) -> None:
    written, executed = watched(
        started, BUSYBOX, "sh", started.directory / "run", "env", "-0", env={b"USER": SECRET}
    )
    assert sorted(items(written)) == sorted(VARIABLES)
    assert SECRET not in executed


def test_a_start_by_plain_lxc_shows_no_value(guest: GuestShell) -> None:
    (guest.directory / "image" / "env").write_bytes(joined([*VARIABLES, b"HOME=/root"]))
    (guest.directory / "image" / "argv").write_bytes(joined([b"env", b"-0"]))
    (guest.directory / "image" / "working_dir").write_bytes(joined([b"/"]))
    given = {
        b"HOME": b"/home",
        b"API_TOKEN": SECRET,
        b"item": b"x",
        b"program": b"y",
        b"A.B": SECRET,
    }
    script = guest.directory / "lxc_start.sh"
    written, executed = watched(guest, BUSYBOX, "sh", script, env=given)
    expected = [*VARIABLES, *(name + b"=" + value for name, value in given.items())]
    assert sorted(items(written)) == sorted(expected)
    assert SECRET not in executed


def test_the_hook_of_plain_lxc_takes_its_own_settings_alone(guest: GuestShell) -> None:
    text = guest.head("lxc_hook", before="# The mount is LXC's")
    show = "/bin/busybox env >env; printf '%s' \"$base:$mtu\" >own\n"
    (guest.directory / "hook.sh").write_text(text + show)
    env = {
        b"LXDOCKER_NETWORK_WAIT": b"3",
        b"UDHCPC_NO_DNS": SECRET,
        b"DB_PASSWORD": SECRET,
        b"mtu": b"1280",
        b"base": b"/elsewhere",
        b"names": b"a b",
        b"OPTIND": b"7",
    }
    _, executed = watched(guest, BUSYBOX, "sh", guest.directory / "hook.sh", env=env)
    assert SECRET not in executed
    lines = (guest.directory / "env").read_bytes().splitlines()
    kept = {line for line in lines if line.partition(b"=")[0] in env}
    assert kept == {b"LXDOCKER_NETWORK_WAIT=3", b"UDHCPC_NO_DNS=" + SECRET}
    assert (guest.directory / "own").read_bytes() == bytes(guest.directory) + b":"


def test_an_instance_s_variables_are_not_taken_for_what_a_dhcp_server_said(
    guest: GuestShell,
) -> None:
    (guest.directory / "console").touch()
    (guest.directory / "network.sh").write_text("/bin/busybox env >env\n")
    text = guest.head("init", before="write_state starting")
    settings = "network_wait=0 no_prefix_route=1 no_dns=yes no_default_route=''\n"
    script = guest.directory / "begin.sh"
    script.write_text(f"{text}{settings}start_network\n{WAIT}")
    env = {b"container": b"lxc", b"mtu": b"1280", b"domain": b"evil.example", b"box": b"/bin/false"}
    _, executed = watched(guest, BUSYBOX, "sh", script, env=env)
    assert b"network.sh" in executed
    lines = (guest.directory / "env").read_text().splitlines()
    given = dict(line.partition("=")[::2] for line in lines)
    assert given.keys() - {"PATH", "PWD", "SHLVL", "OLDPWD"} == {
        "LXDOCKER_UDHCPC_NOPREFIXROUTE",
        "UDHCPC_NO_DNS",
        "UDHCPC_NO_DEFAULT_ROUTE",
    }
    assert given["UDHCPC_NO_DNS"] == "yes"


def test_whatever_the_names_are_the_shell_s_own_environment_ends_with_it(guest: GuestShell) -> None:
    names = [
        b"A.B",
        b"*",
        b"x y",
        b"-p",
        b"n\nl",
        b"OPTIND",
        b"IFS",
        b"PS4",
        b"name",
        b"names",
        b"box",
    ]
    script = "keep_environment; become A=1 -- /bin/busybox env -0"
    done = guest.run(script, env=dict.fromkeys(names, SECRET))
    assert (done.returncode, items(done.stdout)) == (0, [b"A=1"]), done.stderr
